"""Layers that all networks are made of: norms, activations, resizing convolutions, initialisation."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ganrun.core import limits
from ganrun.core.errors import ConfigError

NORMS = ("batch", "instance", "layer", "group", "none")
INIT = ("kind", "scale", "gain_scale")  # settings of how weights are drawn
INITS = ("normal", "uniform", "xavier", "he", "default")
Parts = dict[str, nn.Module | None]  # layers by name, in order; None: there is no such layer
WEIGHTED = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
NORMALISING = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
Layer = nn.Linear | nn.Conv2d | nn.ConvTranspose2d  # those above, as annotations name them
W = TypeVar("W", bound=Layer)
GROUPS = 32  # Wu & He 2018, table 3
ACTIVATIONS: dict[str, Callable[[float], nn.Module]] = {
    "relu": lambda slope: nn.ReLU(),
    "leaky_relu": nn.LeakyReLU,
    "elu": lambda slope: nn.ELU(),
    "selu": lambda slope: nn.SELU(),
    "silu": lambda slope: nn.SiLU(),
    "gelu": lambda slope: nn.GELU(),
    "tanh": lambda slope: nn.Tanh(),
}


def stack(**parts: nn.Module | None) -> nn.Sequential:
    """Layers in this order under these names; one that is None is left out."""
    layers = nn.Sequential()
    for name, part in parts.items():
        if part is not None:
            layers.add_module(name, part)
    return layers


def as_output(layer: W) -> W:
    """The layer that makes the network's image or score says so itself: a class head or Q may well come behind it."""
    layer.makes_output = True  # type: ignore[assignment]
    return layer


def is_output(layer: nn.Module) -> bool:
    """Whether this layer says that it makes the network's image or score."""
    return bool(getattr(layer, "makes_output", False))


def scales(resolution: int, possible: Sequence[int], smallest: int) -> int:
    """How often the size of maps halves from an image to `smallest` pixels: 3 times from 32 to 4.

    Raises ConfigError for a resolution that is not among those possible.
    """
    limits.resolution(".resolution", resolution, possible)
    return (resolution // smallest).bit_length() - 1


def widths(channels: int, width: int, max_width: int, count: int) -> list[int]:
    """Channels of `count` maps from the largest on: twice as many in each, up to a cap.

    Raises ConfigError for a number out of range, of image channels or of maps' channels.
    """
    limits.whole(".channels", channels, 1, 4)
    limits.whole(".width", width, 1)
    limits.whole(".max_width", max_width, 1)
    if width > max_width:
        raise ConfigError(".width", str(width), f"at most max_width, {max_width}", f".max_width={4 * width}")
    return [min(width * 2**i, max_width) for i in range(count)]


class Pool(nn.Module):
    """Global pooling: the sum, or mean, of each map."""

    def __init__(self, *, kind: str):
        super().__init__()
        self.kind = kind

    def forward(self, maps: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C]."""
        return maps.sum((2, 3)) if self.kind == "sum" else maps.mean((2, 3))

    def extra_repr(self) -> str:
        """The settings, as `print` shows them."""
        return self.kind


def norm(kind: str, channels: int, *, momentum: float = 0.1, eps: float = 1e-5) -> nn.Module | None:
    """A normalisation of feature maps [B, C, H, W] by name. Momentum is the weight of the newest batch."""
    if kind == "none":
        return None
    if kind == "batch":
        return nn.BatchNorm2d(channels, momentum=momentum, eps=eps)
    # Layer norm over C, H, W and instance norm are group norm with one group and with a group a channel.
    groups = {"layer": 1, "instance": channels, "group": math.gcd(GROUPS, channels)}[kind]
    return nn.GroupNorm(groups, channels, eps=eps)


def unit_norm(kind: str, units: int, *, momentum: float = 0.1, eps: float = 1e-5) -> nn.Module | None:
    """A normalisation of vectors [B, N] by name: batch, layer or none."""
    if kind == "batch":
        return nn.BatchNorm1d(units, momentum=momentum, eps=eps)
    return nn.LayerNorm(units, eps=eps) if kind == "layer" else None


def activation(kind: str, slope: float) -> nn.Module:
    """An activation by name; `slope` is what leaky_relu keeps of negative values."""
    return ACTIVATIONS[kind](slope)


def precise(values: Tensor) -> Tensor:
    """At least float32, for statistics that bf16 is too coarse for. [B, N] or [B, C, H, W]"""
    return values.float() if values.element_size() < 4 else values


def on_sphere(values: Tensor, eps: float) -> Tensor:
    """Pixel norm: x / sqrt(mean over dimension 1 of x^2 + eps). Karras et al. 2018, 4.2. [B, N] or [B, C, H, W]"""
    return values * torch.rsqrt(values.square().mean(1, keepdim=True) + eps)


def dropout(probability: float) -> nn.Module | None:
    """Dropout, or no layer where the probability is 0."""
    return nn.Dropout(probability) if probability else None


@dataclass(frozen=True, kw_only=True)
class After:
    """What follows a convolution: a norm, an activation, dropout. Checked once, made for any number of channels."""

    norm: str
    activation: str
    slope: float
    dropout: float
    momentum: float = 0.1  # PyTorch's own, where a paper does not say
    eps: float = 1e-5
    own_norm: Callable[..., nn.Module] | None = None  # makes the norm of `channels`, in place of the named one

    def __post_init__(self) -> None:
        limits.choice(".norm", self.norm, NORMS)
        limits.choice(".activation", self.activation, ACTIVATIONS)
        limits.number(".slope", self.slope, 0)
        limits.number(".dropout", self.dropout, 0, 1)
        limits.number(".norm_momentum", self.momentum, 0)
        limits.positive(".norm_eps", self.eps)

    @property
    def bias(self) -> bool:
        """Whether the layer in front needs a bias: a norm right behind it would undo that, and has its own."""
        return self.norm == "none"

    def __call__(self, channels: int, *, normed: bool = True) -> Parts:
        """The layers by name, for maps of this many channels."""
        return {
            "norm": self._norm(channels) if normed else None,
            "activation": activation(self.activation, self.slope),
            "dropout": dropout(self.dropout),
        }

    def by_unit(self, units: int) -> Parts:
        """The layers by name, for vectors of this length: each unit is normalised on its own."""
        own = unit_norm(self.norm, units, momentum=self.momentum, eps=self.eps)
        return self(units, normed=False) | {"norm": own}

    def _norm(self, channels: int) -> nn.Module | None:
        if self.own_norm is not None:
            return self.own_norm(channels=channels)
        return norm(self.norm, channels, momentum=self.momentum, eps=self.eps)


def halve(inputs: int, outputs: int, kernel: int, *, bias: bool) -> nn.Conv2d:
    """A convolution of stride 2 that halves an even size exactly, whatever the kernel."""
    return nn.Conv2d(inputs, outputs, kernel, stride=2, padding=(kernel - 1) // 2, bias=bias)


def double(inputs: int, outputs: int, kernel: int, *, bias: bool) -> nn.ConvTranspose2d:
    """A transposed convolution of stride 2 that doubles the size exactly, whatever the kernel."""
    padding = (kernel - 1) // 2
    extra = 2 * padding + 2 - kernel  # size out = 2 (size - 1) - 2 padding + kernel + extra
    return nn.ConvTranspose2d(inputs, outputs, kernel, stride=2, padding=padding, output_padding=extra, bias=bias)


def keep(inputs: int, outputs: int, kernel: int, *, bias: bool) -> nn.Conv2d:
    """A convolution of stride 1 with an odd kernel that keeps the size."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias)


class Unfold(nn.Module):
    """Read a vector as maps that lie in memory channels last, without a copy."""

    def __init__(self, *, channels: int, size: int):
        super().__init__()
        self.shape = (size, size, channels)

    def forward(self, vector: Tensor) -> Tensor:
        """[B, S * S * C] -> [B, C, S, S]."""
        return vector.unflatten(1, self.shape).permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        """The settings, as `print` shows them."""
        return f"channels={self.shape[2]}, size={self.shape[0]}"


class Fold(nn.Module):
    """Read maps as a vector, without a copy when they lie channels last; vectors stay as they are."""

    def forward(self, maps: Tensor) -> Tensor:
        """[B, C, S, S] -> [B, S * S * C], or [B, N] -> [B, N]."""
        return maps.permute(0, 2, 3, 1).flatten(1) if maps.dim() == 4 else maps


class Scaled(nn.Module):
    """A weight times a constant of its layer."""

    def __init__(self, scale: float):
        super().__init__()
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        """What is learnt, times the constant. [O, I] or [O, I, K, K] -> the same"""
        return weight * self.scale

    def right_inverse(self, weight: Tensor) -> Tensor:
        """What is learnt where the weight is this one. [O, I] or [O, I, K, K] -> the same"""
        return weight / self.scale

    def extra_repr(self) -> str:
        """The settings, as `print` shows them."""
        return f"{self.scale:.4g}"


class Maxout(nn.Module):
    """The largest of `pieces` neighbouring values. Goodfellow et al. 2013 (Maxout Networks), equation 1."""

    def __init__(self, *, pieces: int):
        super().__init__()
        self.pieces = pieces

    def forward(self, values: Tensor) -> Tensor:
        """[B, units * pieces] -> [B, units]."""
        return values.unflatten(1, (-1, self.pieces)).amax(2)

    def extra_repr(self) -> str:
        """The settings, as `print` shows them."""
        return f"pieces={self.pieces}"


@torch.no_grad()
def initialise(net: nn.Module, **init: Any) -> None:
    """Draw weights as a paper did: biases 0, gains of norms N(1, gain_scale); `kind` default is PyTorch's own.

    scale: standard deviation of `normal`, half width of `uniform`, gain of `xavier` (Glorot & Bengio 2010, eq. 16) and
    of `he`, N(0, gain sqrt(2 / inputs of a unit)) (He et al. 2015, equation 10). Raises ConfigError for an unknown
    kind, for negative numbers, and for settings that are missing or unknown.
    """
    kind, scale, gain_scale = (limits.entry(".init", init, name) for name in INIT)
    limits.no_others(".init", init, INIT)
    limits.choice(".init.kind", kind, INITS)
    limits.number(".init.scale", scale, 0)
    limits.number(".init.gain_scale", gain_scale, 0)
    for layer in net.modules() if kind != "default" else ():
        if isinstance(layer, WEIGHTED):
            _draw(layer, kind, scale)
            _zero(layer)
        elif isinstance(layer, NORMALISING) and layer.weight is not None:  # a class's own gains are drawn elsewhere
            nn.init.normal_(layer.weight, 1.0, gain_scale)
            _zero(layer)


def fan_in(layer: Layer) -> float:
    """The number of inputs that an output of this layer sums, zeros of a border included.

    A transposed convolution spreads inputs * kernel products over stride outputs, so there it is a mean: of kernel 5
    and stride 2, outputs take 2 and 3 in turn, and 2.5 keeps their mean square.
    """
    if isinstance(layer, nn.Linear):
        return layer.in_features
    taps = math.prod(layer.kernel_size) * layer.in_channels / layer.groups
    return taps / math.prod(layer.stride) if isinstance(layer, nn.ConvTranspose2d) else taps


def _draw(layer: Layer, kind: str, scale: float) -> None:
    weight = layer.weight
    if kind == "normal":
        nn.init.normal_(weight, 0.0, scale)
    elif kind == "uniform":
        nn.init.uniform_(weight, -scale, scale)
    elif kind == "he":
        nn.init.normal_(weight, 0.0, math.sqrt(2) / math.sqrt(fan_in(layer))).mul_(scale)
    else:
        nn.init.xavier_uniform_(weight, scale)


def _zero(layer: Any) -> None:
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
