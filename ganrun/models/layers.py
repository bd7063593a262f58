"""Pieces that every network here is made of: norms, activations, resizing convolutions, initialisation."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ganrun.core import limits
from ganrun.core.errors import ConfigError

NORMS = ("batch", "instance", "layer", "group", "none")
INITS = ("normal", "uniform", "xavier", "he", "default")
WEIGHTED = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
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
    """Layers in this order under these names; one that is None does not exist."""
    layers = nn.Sequential()
    for name, part in parts.items():
        if part is not None:
            layers.add_module(name, part)
    return layers


def scales(where: str, resolution: int, possible: Sequence[int], smallest: int) -> int:
    """How often the size of maps halves from an image to `smallest` pixels; 32 to 4 are 3. Checks the resolution."""
    limits.resolution(f"{where}.resolution", resolution, possible)
    return (resolution // smallest).bit_length() - 1


def widths(where: str, channels: int, width: int, max_width: int, count: int) -> list[int]:
    """Channels of `count` maps from the largest on: twice as many in each, up to a cap. Checks what it is given."""
    limits.whole(f"{where}.channels", channels, 1, 4)
    limits.whole(f"{where}.width", width, 1)
    limits.whole(f"{where}.max_width", max_width, 1)
    if width > max_width:
        raise ConfigError(
            f"{where}.width", str(width), f"at most max_width, {max_width}", f"{where}.max_width={4 * width}"
        )
    return [min(width * 2**i, max_width) for i in range(count)]


class Pool(nn.Module):
    """The sum, or mean, of each map. [B, C, H, W] -> [B, C]"""

    def __init__(self, *, kind: str):
        super().__init__()
        self.kind = kind

    def forward(self, maps: Tensor) -> Tensor:
        return maps.sum((2, 3)) if self.kind == "sum" else maps.mean((2, 3))

    def extra_repr(self) -> str:
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
    """At least float32, for statistics that bf16 would spoil."""
    return values.float() if values.element_size() < 4 else values


def on_sphere(values: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean over dimension 1 of x^2 + eps): Karras et al. 2018, section 4.2. [B, N] or [B, C, H, W]"""
    return values * torch.rsqrt(values.square().mean(1, keepdim=True) + eps)


def dropout(probability: float) -> nn.Module | None:
    """Dropout, or no layer at all when nothing is dropped."""
    return nn.Dropout(probability) if probability else None


@dataclass(frozen=True, kw_only=True)
class After:
    """What follows a convolution: a norm, an activation, dropout. Each is checked once, then made for any width."""

    where: str
    norm: str
    activation: str
    slope: float
    dropout: float
    momentum: float = 0.1  # PyTorch's own, as no paper here says
    eps: float = 1e-5

    def __post_init__(self) -> None:
        limits.choice(f"{self.where}.norm", self.norm, NORMS)
        limits.choice(f"{self.where}.activation", self.activation, ACTIVATIONS)
        limits.number(f"{self.where}.slope", self.slope, 0)
        limits.number(f"{self.where}.dropout", self.dropout, 0, 1)
        limits.number(f"{self.where}.norm_momentum", self.momentum, 0)
        limits.number(f"{self.where}.norm_eps", self.eps, 0)

    def __call__(self, channels: int, *, normed: bool = True) -> dict[str, nn.Module | None]:
        """The layers by name, for maps of this many channels."""
        return {
            "norm": norm(self.norm, channels, momentum=self.momentum, eps=self.eps) if normed else None,
            "activation": activation(self.activation, self.slope),
            "dropout": dropout(self.dropout),
        }


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
    """Read a vector [B, S * S * C] as maps [B, C, S, S] that lie in memory channels last, without a copy."""

    def __init__(self, *, channels: int, size: int):
        super().__init__()
        self.shape = (size, size, channels)

    def forward(self, vector: Tensor) -> Tensor:
        return vector.unflatten(1, self.shape).permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        return f"channels={self.shape[2]}, size={self.shape[0]}"


class Fold(nn.Module):
    """Read maps [B, C, S, S] as a vector [B, S * S * C], without a copy when they lie channels last; keep vectors."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.permute(0, 2, 3, 1).flatten(1) if maps.dim() == 4 else maps


class Scaled(nn.Module):
    """A weight times a constant of its layer."""

    def __init__(self, scale: float):
        super().__init__()
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.scale

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight / self.scale

    def extra_repr(self) -> str:
        return f"{self.scale:.4g}"


class Maxout(nn.Module):
    """The largest of `pieces` neighbouring values. Goodfellow et al. 2013 (Maxout Networks), equation 1."""

    def __init__(self, *, pieces: int):
        super().__init__()
        self.pieces = pieces

    def forward(self, values: Tensor) -> Tensor:
        return values.unflatten(1, (-1, self.pieces)).amax(2)  # [B, units * pieces] -> [B, units]

    def extra_repr(self) -> str:
        return f"pieces={self.pieces}"


@torch.no_grad()
def initialise(net: nn.Module, where: str, *, kind: str, scale: float, gain_scale: float) -> None:
    """Draw weights as a paper did: biases 0, gains of norms N(1, gain_scale); `default` is PyTorch's own.

    scale: standard deviation of `normal`, half width of `uniform`, gain of `xavier` (Glorot & Bengio 2010, eq. 16) and
    of `he`, N(0, gain sqrt(2 / inputs of a unit)) (He et al. 2015, equation 10).
    """
    limits.choice(f"{where}.kind", kind, INITS)
    limits.number(f"{where}.scale", scale, 0)
    limits.number(f"{where}.gain_scale", gain_scale, 0)
    for layer in net.modules() if kind != "default" else ():
        if isinstance(layer, WEIGHTED):
            _draw(layer.weight, kind, scale)
            _zero(layer)
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm | nn.GroupNorm | nn.LayerNorm):
            _draw_gains(layer, gain_scale)


def _draw_gains(norm: Any, scale: float) -> None:
    if norm.weight is not None:  # a norm whose gains belong to a class has none of its own
        nn.init.normal_(norm.weight, 1.0, scale)
        _zero(norm)


def _draw(weight: Tensor, kind: str, scale: float) -> None:
    if kind == "normal":
        nn.init.normal_(weight, 0.0, scale)
    elif kind == "uniform":
        nn.init.uniform_(weight, -scale, scale)
    elif kind == "he":
        nn.init.kaiming_normal_(weight, nonlinearity="relu").mul_(scale)
    else:
        nn.init.xavier_uniform_(weight, scale)


def _zero(layer: Any) -> None:
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
