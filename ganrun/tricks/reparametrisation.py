"""Reparametrisations of weights: spectral norm, equalised learning rate, weight norm."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrizations, parametrize

from ganrun.core import limits
from ganrun.core.context import BatchShape, Role
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.traits import Diagnostic, Level, Traits, facts, keys
from ganrun.core.trick import Trick
from ganrun.models.base import gain_of, output_layer, title, weighted
from ganrun.models.layers import Layer, Scaled, fan_in, is_output
from ganrun.tricks.norms import VirtualNorm
from ganrun.tricks.roles import roles

INITIALISATION = "the initial weights"
MOST_ITERATIONS = 1000  # of power iteration: a fraction of a second for each layer
NORMS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm, VirtualNorm)


def outputs_axis(layer: nn.Module) -> int:
    """The axis of a layer's weight that indexes outputs: the second in transposed convolutions, otherwise the first."""
    return int(isinstance(layer, nn.ConvTranspose2d))


def plain_weight(layer: Layer) -> Tensor:
    """The weight that a layer computes with, under any form but spectral norm: that is what it divides. [O, I, ...]

    Differentiable with respect to what is learnt.
    """
    if not parametrize.is_parametrized(layer, "weight"):
        return layer.weight
    forms: Any = layer.parametrizations.weight  # type: ignore[union-attr]
    names = ["original"] if forms.is_tensor else [f"original{i}" for i in range(forms.ntensors)]
    values = [getattr(forms, name) for name in names]
    for form in forms:
        values = values if isinstance(form, Spectral) else [form(*values)]
    return values[0]


class Reparametrisation(Trick):
    """Base of tricks that reparametrise the weight of every dense layer and convolution of a network.

    Tricks act in the order of the list: layers that a later trick adds keep plain weights, of which a run warns.
    """

    divides: ClassVar[bool] = False  # by a size of the weights, which must not be 0

    def __init__(self, *, role: str) -> None:
        """Raises ConfigError for an unknown role."""
        super().__init__()
        self.roles = roles(".role", role)
        self.nets: list[tuple[str, nn.Module]] = []  # a list, as networks are no part of a trick's state

    def own_settings(self) -> frozenset[str]:
        """What only one trick may set: one reparametrisation for each network."""
        return keys(*[f"the form of the {role}'s weights" for role in self.roles])

    def modify(self, net: nn.Module, role: Role) -> nn.Module:
        """Reparametrise a network's layers. Raises ConfigError where it has none, or none that can have this form."""
        if role not in self.roles:
            return net
        layers = [layer for _, layer in weighted(net)]
        if not layers:
            raise ConfigError(
                ".", f"{title(net, role)} has no dense layer or convolution", "one that has", "model=dcgan"
            )
        self.can_divide(net, role)
        self.nets.append((title(net, role), net))
        for layer in layers:
            self.reparametrise(layer)
        return net

    def can_divide(self, net: nn.Module, role: Role) -> None:
        """Raises ConfigError for weights that start at 0, as the last of R3GAN's blocks: their norm is a divisor."""
        empty = [key for key, layer in weighted(net) if self.divides and not layer.weight.any()]
        if empty:
            found = f"{', '.join(empty[:3])}{', ...' if empty[3:] else ''} of {title(net, role)} start at 0"
            raise ConfigError(".", found, "weights with a size to divide by", "leaving it out, or model=resnet")

    @abstractmethod
    def reparametrise(self, layer: Layer) -> None:
        """Give one layer its form."""

    def only_form(self, layer: Layer) -> None:
        """Raises ConfigError for networks whose weights are reparametrised already, as StyleGAN2's."""
        if parametrize.is_parametrized(layer, "weight"):
            found = "the networks have a form for their weights already"
            raise ConfigError(".", found, "plain weights", "leaving it out")

    def diagnostics(self, shape: BatchShape) -> Iterable[Diagnostic]:
        """Warn of layers that a later trick added, whose weights are plain."""
        for name, net in self.nets:
            missed = [key for key, layer in weighted(net) if not parametrize.is_parametrized(layer, "weight")]
            if missed:
                found = f"{', '.join(missed)} of {name} came later in the list and keep plain weights"
                yield Diagnostic("C43", Level.WARNING, f"{found}. Try: it as the last of tricks")


class Spectral(nn.Module):
    """Spectral normalisation, W / sigma(W), by power iteration on u and v. Miyato et al. 2018, algorithm 1."""

    u: Tensor  # [outputs] estimate of the first left singular vector, updated in place
    v: Tensor  # [inputs] estimate of the first right singular vector, updated in place

    def __init__(self, weight: Tensor, *, axis: int, iterations: int, warm_up: int, eps: float):
        super().__init__()
        self.axis, self.iterations, self.eps = axis, iterations, eps
        matrix = self._matrix(weight)
        for name, size in (("u", 0), ("v", 1)):
            self.register_buffer(name, normalize(torch.randn(matrix.shape[size]), dim=0, eps=eps))
        self._iterate(matrix, warm_up)

    def forward(self, weight: Tensor) -> Tensor:
        """The normalised weight [outputs, inputs, ...]; in training, after an update of u and v."""
        with torch.autocast(weight.device.type, enabled=False):
            matrix = self._matrix(weight)
            if self.training:
                self._iterate(matrix, self.iterations)
            # Copies, as the next call updates u and v while this one's graph still needs them.
            sigma = torch.dot(self.u.clone(), matrix @ self.v.clone())
            return weight / sigma.clamp_min(self.eps)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The weight [outputs, inputs, ...] itself, as torch asks for when one is assigned."""
        return weight

    @torch.no_grad()
    def _iterate(self, matrix: Tensor, times: int) -> None:
        for _ in range(times):
            self.v.copy_(normalize(matrix.T @ self.u, dim=0, eps=self.eps))
            self.u.copy_(normalize(matrix @ self.v, dim=0, eps=self.eps))

    def _matrix(self, weight: Tensor) -> Tensor:
        """The weight as a matrix. [outputs, everything else]"""
        return weight.movedim(self.axis, 0).flatten(1)


class SpectralNorm(Reparametrisation):
    """Spectral norm: every weight divided by its largest singular value. SN-GAN, Miyato et al. 2018, algorithm 1.

    One power iteration for every call in training, hence two in D's update (reals, fakes) and one in G's update, where
    D is frozen but u is still updated, as in the paper's code; none when sampling. A layer's sigma is that of its
    weight as a matrix [outputs, inputs x kernel], as in the paper. Gains of norms stay as they are.
    """

    divides = True

    def __init__(self, *, role: str, iterations: int, warm_up: int, eps: float):
        """Raises ConfigError for an unknown role, iterations outside 1 to 1,000, and a warm-up outside 0 to 1,000."""
        super().__init__(role=role)
        limits.whole(".iterations", iterations, 1, MOST_ITERATIONS)
        limits.whole(".warm_up", warm_up, 0, MOST_ITERATIONS)
        self.iterations, self.warm_up, self.eps = iterations, warm_up, eps
        bounds = "discriminator" in self.roles
        self.traits = Traits(
            sets=self.own_settings(),
            provides=facts(*[Fact.LIPSCHITZ] * bounds),
            needs=facts(*[Fact.FREE_WEIGHTS] * bounds),
        )

    def reparametrise(self, layer: Layer) -> None:
        spectral = Spectral(
            layer.weight.detach(),
            axis=outputs_axis(layer),
            iterations=self.iterations,
            warm_up=self.warm_up,
            eps=self.eps,
        )
        parametrize.register_parametrization(layer, "weight", spectral)

    def diagnostics(self, shape: BatchShape) -> Iterable[Diagnostic]:
        yield from super().diagnostics(shape)
        for name, net in self.nets:
            if name.startswith("model.discriminator") and any(isinstance(layer, NORMS) for layer in net.modules()):
                found = f"the norms of {name} rescale what this trick bounds"
                yield Diagnostic("C42", Level.WARNING, f"{found}. Try: model.discriminator.norm=none, as in the paper")


class EqualizedLr(Reparametrisation):
    """Equalised learning rate: weights N(0, 1), scaled at run time. ProGAN, Karras et al. 2018, section 4.1.

    The scale is He's constant, gain / sqrt(fan in); `last_gain` is that of the layer that makes the image or the score.
    A layer that its network gave a gain of its own keeps it, as ProGAN's that make smaller images.
    Fan in counts the inputs of one output: a transposed convolution of stride s has inputs * (kernel / s)^2. Both
    players; biases start at 0.
    """

    def __init__(self, *, gain: float, last_gain: float):
        """Raises ConfigError for a gain that is not above 0."""
        super().__init__(role="both")
        for key, value in (("gain", gain), ("last_gain", last_gain)):
            if value <= 0:
                raise ConfigError(f".{key}", f"{value}", "a number above 0", f".{key}=1")
        self.gain, self.last_gain = gain, last_gain
        self.traits = Traits(sets=self.own_settings() | keys(INITIALISATION))

    def modify(self, net: nn.Module, role: Role) -> nn.Module:
        """Equalise a network's layers. Raises ConfigError where none can be, or none says that it makes the output."""
        net = super().modify(net, role)
        output_layer(net, role)
        return net

    @torch.no_grad()
    def reparametrise(self, layer: Layer) -> None:
        self.only_form(layer)
        usual = self.last_gain if is_output(layer) else self.gain
        scale = gain_of(layer, usual) / math.sqrt(fan_in(layer))
        parametrize.register_parametrization(layer, "weight", Scaled(scale))
        layer.weight = torch.randn_like(layer.weight) * scale
        if layer.bias is not None:
            layer.bias.zero_()


class WeightNorm(Reparametrisation):
    """Weight norm: w = g v / |v| for the weights of each output. Salimans & Kingma 2016, equation 2.

    The networks' initial weights stay the same, and every layer learns its g. The paper's data-dependent initialisation
    of g and biases, its section 3, is left out; the code of Salimans et al. 2016, which has it, learns g in the last
    layer only.
    """

    divides = True

    def __init__(self, *, role: str):
        super().__init__(role=role)
        self.traits = Traits(sets=self.own_settings())

    def reparametrise(self, layer: Layer) -> None:
        self.only_form(layer)
        parametrizations.weight_norm(layer, dim=outputs_axis(layer))
