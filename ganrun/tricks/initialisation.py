"""Initial weights of the networks: orthogonal, Xavier, normal, and a bias at the mean image."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ganrun.core import limits
from ganrun.core.context import PairView, Role
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.traits import Traits, facts, keys
from ganrun.core.trick import Trick
from ganrun.models.base import output_layer, title, weighted
from ganrun.models.layers import Layer
from ganrun.tricks.reparametrisation import INITIALISATION


class Initialisation(Trick):
    """Base of tricks that draw the weights of dense layers and convolutions anew, in G and D.

    Biases become 0; gains and biases of norms stay as they are.
    """

    traits = Traits(sets=keys(INITIALISATION))

    @abstractmethod
    def draw(self, weight: Tensor) -> None:
        """Fill a weight in place. [outputs, inputs, ...]"""

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
    """Orthogonal initialisation: each weight is a matrix of orthonormal rows or columns. Saxe et al. 2014.

    The matrix is [first axis, all others], times `gain`.
    """

    def __init__(self, *, gain: float):
        super().__init__()
        self.gain = gain

    def draw(self, weight: Tensor) -> None:
        nn.init.orthogonal_(weight, self.gain)


class XavierInit(Initialisation):
    """Xavier initialisation: U(-a, a), a = gain sqrt(6 / (fan in + fan out)). Glorot & Bengio 2010, equation 16."""

    def __init__(self, *, gain: float):
        super().__init__()
        self.gain = gain

    def draw(self, weight: Tensor) -> None:
        nn.init.xavier_uniform_(weight, self.gain)


class NormalInit(Initialisation):
    """Normal initialisation: N(0, std). Radford et al. 2015, section 4."""

    def __init__(self, *, std: float):
        super().__init__()
        self.std = std

    def draw(self, weight: Tensor) -> None:
        nn.init.normal_(weight, 0.0, self.std)


class MarginalBias(Trick):
    """Bias of G's last layer set so that G starts from the mean image. Goodfellow et al. 2014, published mnist.yaml.

    The mean over one batch of reals, of each pixel where that layer is dense, of each channel where it is a
    convolution. With tanh, atanh(mean), the mean kept `margin` away from -1 and 1. A last layer without a bias gets
    one.
    """

    traits = Traits(needs=facts(Fact.SINGLE_SCALE))

    def __init__(self, *, margin: float):
        """Raises ConfigError for a margin outside [0, 1)."""
        super().__init__()
        limits.number(".margin", margin, 0, 1)
        self.margin = margin

    def modify(self, net: nn.Module, role: Role) -> nn.Module:
        if role == "generator":
            layer = self._last(net)
            if layer.bias is None:
                layer.bias = nn.Parameter(torch.zeros(self._outputs(layer)))
        return net

    def bind(self, pair: PairView, real: Tensor, fake: Tensor) -> None:
        """Set the bias from reals [B, C, H, W]."""
        layer = self._last(pair.generator)
        mean = real.float().mean(0)  # [C, H, W]
        if not isinstance(layer, nn.Linear):
            mean = mean.mean((1, 2))
        squash = getattr(pair.generator, "squash", None)
        if isinstance(squash, nn.Tanh):
            mean = mean.clamp(-1 + self.margin, 1 - self.margin).atanh()
        assert layer.bias is not None
        layer.bias.copy_(mean.flatten())

    def _last(self, net: nn.Module) -> Layer:
        """The layer that makes the image."""
        layer = output_layer(net, "generator")
        channels, resolution = getattr(net, "channels", 0), getattr(net, "resolution", 0)
        needed = channels * resolution**2 if isinstance(layer, nn.Linear) else channels
        if self._outputs(layer) != needed:
            found = f"{title(net, 'generator')}, whose last layer makes something else than the image"
            raise ConfigError(".", found, "one that ends in it", "model=mlp")
        return layer

    @staticmethod
    def _outputs(layer: Layer) -> int:
        return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
