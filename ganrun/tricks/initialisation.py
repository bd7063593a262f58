"""Tricks on the weights that networks start from."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ganrun.core import limits
from ganrun.core.context import PairView, Role
from ganrun.core.errors import ConfigError
from ganrun.core.traits import Traits, keys
from ganrun.core.trick import Trick
from ganrun.models.base import title, weighted
from ganrun.tricks.weights import INITIALISATION


class Initialisation(Trick):
    """What tricks that draw all weights anew, biases 0, have in common. Both players; gains of norms are left alone."""

    traits = Traits(sets=keys(INITIALISATION))

    def draw(self, weight: Tensor) -> None:
        raise NotImplementedError

    @torch.no_grad()
    def modify(self, net: nn.Module, role: Role) -> nn.Module:
        for _, layer in weighted(net):
            weight = torch.empty_like(layer.weight, memory_format=torch.contiguous_format)
            self.draw(weight)
            if parametrize.is_parametrized(layer, "weight"):
                layer.weight = weight  # in the form that an earlier trick gave it
            else:
                layer.weight.copy_(weight)
            if layer.bias is not None:
                layer.bias.zero_()
        return net


class OrthogonalInit(Initialisation):
    """Weights as orthonormal rows or columns, [first axis, everything else], times `gain`. Saxe et al. 2014."""

    def __init__(self, *, gain: float):
        super().__init__()
        self.gain = gain

    def draw(self, weight: Tensor) -> None:
        nn.init.orthogonal_(weight, self.gain)


class XavierInit(Initialisation):
    """Weights U(-a, a), a = gain sqrt(6 / (fan in + fan out)). Glorot & Bengio 2010, equation 16."""

    def __init__(self, *, gain: float):
        super().__init__()
        self.gain = gain

    def draw(self, weight: Tensor) -> None:
        nn.init.xavier_uniform_(weight, self.gain)


class NormalInit(Initialisation):
    """Weights N(0, std). Radford et al. 2015, section 4."""

    def __init__(self, *, std: float):
        super().__init__()
        self.std = std

    def draw(self, weight: Tensor) -> None:
        nn.init.normal_(weight, 0.0, self.std)


class MarginalBias(Trick):
    """G starts from the mean image: the bias of its last layer is what gives it. Goodfellow et al. 2014, mnist.yaml.

    Of each pixel where that layer is dense, of each channel where it is a convolution; over one batch of reals. With
    tanh, atanh(mean), the mean kept `margin` away from -1 and 1. A last layer without a bias gets one.
    """

    def __init__(self, *, margin: float):
        super().__init__()
        limits.number("tricks.marginal_bias.margin", margin, 0, 1)
        self.margin = margin

    def modify(self, net: nn.Module, role: Role) -> nn.Module:
        if role == "generator":
            layer = self._last(net)
            if layer.bias is None:
                layer.bias = nn.Parameter(torch.zeros(self._outputs(layer)))
        return net

    def bind(self, pair: PairView, real: Tensor, fake: Tensor) -> None:
        layer = self._last(pair.generator)
        mean = real.float().mean(0)  # [C, H, W]
        if not isinstance(layer, nn.Linear):
            mean = mean.mean((1, 2))
        squash = getattr(pair.generator, "squash", None)
        if isinstance(squash, nn.Tanh):
            mean = mean.clamp(-1 + self.margin, 1 - self.margin).atanh()
        assert layer.bias is not None
        layer.bias.copy_(mean.flatten())

    def _last(self, net: nn.Module) -> nn.Linear | nn.Conv2d | nn.ConvTranspose2d:
        """The layer that makes the image."""
        *_, layer = (layer for _, layer in weighted(net))
        channels, resolution = getattr(net, "channels", 0), getattr(net, "resolution", 0)
        needed = channels * resolution**2 if isinstance(layer, nn.Linear) else channels
        if self._outputs(layer) != needed:
            found = f"{title(net, 'generator')}, whose last layer does not make the image"
            raise ConfigError("tricks.marginal_bias", found, "one that ends in it", "model=mlp")
        return layer

    @staticmethod
    def _outputs(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> int:
        return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
