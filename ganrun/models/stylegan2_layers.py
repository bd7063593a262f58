"""Layers of StyleGAN2's networks: equalised and modulated layers, noise, resampling. Karras et al. 2020."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from ganrun.core import limits
from ganrun.core.errors import ConfigError
from ganrun.models.conditional import one_hot
from ganrun.models.layers import Scaled, fan_in, on_sphere, stack

GAIN = math.sqrt(2)  # of every activation: it halves the mean square, nearly. He et al. 2015
HALF = math.sqrt(0.5)  # of a residual sum, so that its variance stays what it was
EPS = 1e-8  # added to mean squares; Karras et al. 2020, equation 3

L = TypeVar("L", nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def equalised(layer: L, rate: float = 1.0, gain: float = 1.0) -> L:
    """Weights N(0, 1) / rate, times rate * gain / sqrt(fan in) whenever used; biases 0, times rate. ProGAN, 4.1.

    Karras et al. 2018. What the layer starts as does not depend on `rate`; how far a step of Adam moves it does.
    Karras et al. 2019, C.
    """
    scale = gain / math.sqrt(fan_in(layer))
    nn.init.normal_(layer.weight, 0, scale)
    parametrize.register_parametrization(layer, "weight", Scaled(scale * rate))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
        if rate != 1:
            parametrize.register_parametrization(layer, "bias", Scaled(rate))
    return layer


class Activation(nn.LeakyReLU):
    """Leaky ReLU times sqrt(2)."""

    def forward(self, values: Tensor) -> Tensor:
        """[B, N] -> [B, N], or [B, C, H, W] -> [B, C, H, W]."""
        return super().forward(values) * GAIN


def mapping(inputs: int, outputs: int, *, layers: int, rate: float, slope: float) -> nn.Sequential:
    """Dense layers, each of which learns at `rate` times the rate of all others. [B, inputs] -> [B, outputs]"""
    sizes = [inputs, *[outputs] * layers]
    return nn.Sequential(
        *(
            stack(dense=equalised(nn.Linear(above, below), rate), activation=Activation(slope))
            for above, below in pairwise(sizes)
        )
    )


class Label(nn.Module):
    """A vector on the sphere for each class. Karras et al. 2020b (StyleGAN2-ADA, arXiv 2006.06676), their code."""

    def __init__(self, *, classes: int, numbers: int):
        super().__init__()
        self.embed = equalised(nn.Linear(classes, numbers))

    def forward(self, labels: Tensor | None) -> Tensor:
        """[B] -> [B, numbers]."""
        assert labels is not None, "a conditional network was given no labels"
        return on_sphere(self.embed(one_hot(labels, self.embed.in_features)), EPS)


class Filter(nn.Module):
    """A low-pass filter at every channel, the same along height and width; zeros lie beyond the border. Zhang 2019.

    Its taps are scaled to a sum of 1. [1, 3, 3, 1] is bilinear. Karras et al. 2020, appendix B.
    """

    taps: Tensor  # [K, K]

    def __init__(self, taps: Sequence[float]):
        super().__init__()
        line = torch.tensor(taps, dtype=torch.float32)
        self.register_buffer("taps", torch.outer(line, line) / line.sum() ** 2)
        self.margin = len(taps) // 2  # half the taps, which are an even number

    def kernel(self, maps: Tensor) -> Tensor:
        """The taps in two dimensions, for each channel of these maps [B, C, H, W]. [C, 1, K, K]"""
        return self.taps.to(maps.dtype).expand(maps.shape[1], 1, -1, -1)


class Double(Filter):
    """Twice the size: zeros between the pixels, then the filter with a gain of 4, which keeps the mean."""

    def forward(self, maps: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, 2 H, 2 W]."""
        kernel = self.kernel(maps) * 4
        return functional.conv_transpose2d(maps, kernel, stride=2, padding=self.margin - 1, groups=maps.shape[1])


class Halve(Filter):
    """Half the size: the filter, then every second pixel."""

    def forward(self, maps: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H / 2, W / 2]."""
        return functional.conv2d(maps, self.kernel(maps), stride=2, padding=self.margin - 1, groups=maps.shape[1])


class Blur(Filter):
    """The filter alone, before a convolution of stride 2 (`wider`: one pixel more) or behind one (one pixel fewer)."""

    def __init__(self, taps: Sequence[float], *, wider: bool):
        super().__init__(taps)
        self.padding, self.gain = (self.margin, 1) if wider else (self.margin - 1, 4)  # 4: zeros were put in between

    def forward(self, maps: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H + 1, W + 1], or one pixel fewer."""
        kernel = self.kernel(maps) * self.gain
        return functional.conv2d(maps, kernel, padding=self.padding, groups=maps.shape[1])


class Modulated(nn.Conv2d):
    """A convolution whose weights are scaled by a style, then back to unit norm. Karras et al. 2020, equations 1 and 3.

    w' = s_i w_oik, w'' = w' / sqrt(sum over i, k of w'^2 + eps). Scales of inputs and of outputs do the same as weights
    for each image, with one convolution for the batch. Without `demodulates`, equation 1 alone. `doubles` is the filter
    behind a convolution that doubles the size.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, styles: int, demodulates: bool, doubles: Sequence[float] | None
    ):
        super().__init__(inputs, outputs, kernel, padding=kernel // 2)
        equalised(self)
        self.style = equalised(nn.Linear(styles, inputs))
        self.demodulates = demodulates
        self.blur = Blur(doubles, wider=False) if doubles else None

    def forward(self, maps: Tensor, style: Tensor) -> Tensor:  # type: ignore[override]
        """Maps [B, I, H, W], styles [B, S] -> maps [B, O, H, W] or [B, O, 2 H, 2 W]."""
        weight, scales = self.weight, self.scales(style)
        maps = self._convolve(maps * scales.to(maps.dtype)[:, :, None, None], weight)
        if self.demodulates:
            maps = maps * self.norms(weight, scales).to(maps.dtype)[:, :, None, None]
        assert self.bias is not None
        return maps + self.bias.to(maps.dtype)[:, None, None]

    def scales(self, style: Tensor) -> Tensor:
        """The factor of each input channel, by the style; 1 at first, on average. [B, S] -> [B, I]"""
        with torch.autocast(style.device.type, enabled=False):
            return self.style(style) + 1

    def norms(self, weight: Tensor, scales: Tensor) -> Tensor:
        """1 / the norm of each output's weights once scaled; in float32, as it is a sum of squares. [B, O]"""
        with torch.autocast(scales.device.type, enabled=False):
            return torch.rsqrt(scales.square() @ weight.square().sum((2, 3)).T + EPS)

    def _convolve(self, maps: Tensor, weight: Tensor) -> Tensor:
        if self.blur is None:
            return functional.conv2d(maps, weight, padding=self.padding)
        return self.blur(functional.conv_transpose2d(maps, weight.transpose(0, 1), stride=2))


class Noise(nn.Module):
    """One number a pixel, times a learnt strength that starts at 0. Karras et al. 2019, section 3.2.

    New numbers for every image in training; otherwise always the same, so that a sample can be followed.
    """

    when_sampling: ClassVar[str] = (
        "The noise that is added to the maps of each layer is fixed: the same for every image and call."
    )
    fixed: Tensor  # [1, 1, H, W]

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("fixed", torch.randn(1, 1, size, size))
        self.strength = nn.Parameter(torch.zeros(()))

    def forward(self, maps: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W] with noise."""
        fresh = self.fixed.expand(maps.shape[0], -1, -1, -1)
        noise = torch.randn_like(fresh, memory_format=torch.contiguous_format) if self.training else fresh
        return maps + (noise * self.strength).to(maps.dtype)


def check_taps(taps: Sequence[float]) -> None:
    """Raises ConfigError unless the taps are even in number, so that sizes double exactly, and their sum is above 0."""
    if len(taps) < 2 or len(taps) % 2 or sum(taps) <= 0:
        raise ConfigError(".filter", str(taps), "an even number of taps with a sum above 0", ".filter=[1,3,3,1]")


def widths(channels: int, resolution: int, width: int, max_width: int, sizes: Sequence[int]) -> list[int]:
    """Channels at 4x4 pixels, 8x8 and so on: width * resolution / size, up to a cap. Karras et al. 2018, table 2."""
    limits.resolution(".resolution", resolution, sizes)
    limits.whole(".channels", channels, 1, 4)
    limits.whole(".width", width, 1)
    limits.whole(".max_width", max_width, 1)
    scales = (resolution // 4).bit_length()  # 4 is one, 8 are two
    return [min(width * resolution // (4 * 2**scale), max_width) for scale in range(scales)]
