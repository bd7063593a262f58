"""R3GAN's networks: residual blocks without any norm, as in ResNeXt. Huang et al. 2024 (R3GAN), section 4.

A block is 1x1 up, 3x3 in groups, 1x1 down, with leaky ReLU between; its last convolution starts at 0 and the others
with less variance the deeper the network is (Fixup, Zhang et al. 2019), so that nothing needs to be normalised. Sizes
change by bilinear filters alone; the 4x4 maps come from a learnt basis. No biases but those of leaky ReLUs.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganrun.core import limits
from ganrun.core.errors import ConfigError
from ganrun.models import base
from ganrun.models.conditional import Beside, Block, Labelled, block
from ganrun.models.layers import Fold, as_output, stack

RESOLUTIONS = (8, 16, 32, 64, 128, 256)
SMALLEST = 4  # pixels; the maps of the bases
CONVOLUTIONS = 3  # in a residual block
TENT = (1.0, 3.0, 3.0, 1.0)  # bilinear interpolation at twice or half the size, times 8


@torch.no_grad()
def scaled(layer: nn.Conv2d | nn.Linear, gain: float = 1.0) -> nn.Conv2d | nn.Linear:
    """Weights N(0, gain^2 / inputs), biases 0."""
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def widen(inputs: int, outputs: int) -> nn.Conv2d | nn.Linear:
    """A 1x1 convolution without bias."""
    return scaled(nn.Conv2d(inputs, outputs, 1, bias=False))


class Residual(nn.Module):
    """A residual block: x + W3 f(W2 f(W1 x)), with W2 in groups and W3 = 0 at first. Huang et al. 2024, figure 4.

    W1 and W2 have variance (gain^2 / inputs) * blocks^(-1 / (CONVOLUTIONS - 1)), where `blocks` counts those of the
    whole network and gain^2 = 2 / (1 + slope^2) is that of leaky ReLU.
    """

    kinked = True

    def __init__(self, *, width: int, expansion: int, group: int, slope: float, blocks: int):
        super().__init__()
        inner = width * expansion
        gain = math.sqrt(2 / (1 + slope**2)) * blocks ** (-1 / (2 * CONVOLUTIONS - 2))
        self.expand = scaled(nn.Conv2d(width, inner, 1), gain)
        self.mix = scaled(nn.Conv2d(inner, inner, 3, padding=1, groups=inner // group), gain)
        self.reduce = scaled(nn.Conv2d(inner, width, 1, bias=False), 0.0)
        self.slope = slope

    def forward(self, maps: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        hidden = F.leaky_relu(self.expand(maps), self.slope)
        hidden = F.leaky_relu(self.mix(hidden), self.slope)
        return maps + self.reduce(hidden)


class Resample(nn.Module):
    """Bilinear interpolation to twice or half the size; beyond the border maps are 0, as in the paper's code."""

    kernel: Tensor  # [1, 1, 4, 4] of sum 1

    def __init__(self, *, up: bool):
        super().__init__()
        self.up = up
        tent = torch.tensor(TENT) / sum(TENT)
        self.register_buffer("kernel", torch.outer(tent, tent)[None, None])

    def forward(self, maps: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, 2 H, 2 W] or [B, C, H / 2, W / 2]."""
        channels = maps.shape[1]
        kernel = self.kernel.to(maps.dtype).expand(channels, -1, -1, -1)
        if self.up:
            return F.conv_transpose2d(maps, 4 * kernel, stride=2, padding=1, groups=channels)
        return F.conv2d(maps, kernel, stride=2, padding=1, groups=channels)

    def extra_repr(self) -> str:
        """The settings, as `print` shows them."""
        return f"up={self.up}"


class Basis(nn.Module):
    """Learnt 4x4 maps, one for each channel, weighted by noise."""

    maps: nn.Parameter  # [C, 4, 4]

    def __init__(self, *, inputs: int, width: int):
        super().__init__()
        self.maps = nn.Parameter(torch.randn(width, SMALLEST, SMALLEST))
        self.weigh = scaled(nn.Linear(inputs, width, bias=False))

    def forward(self, noise: Tensor) -> Tensor:
        """[B, Z] -> [B, C, 4, 4]."""
        return self.weigh(noise)[:, :, None, None] * self.maps


def class_beside(*, classes: int, numbers: int) -> Beside:
    """A vector for each class beside the noise, drawn as a dense layer of one-hot labels would be."""
    layer = Beside(classes=classes, embed=numbers)
    assert layer.table is not None
    nn.init.normal_(layer.table.weight, 0.0, 1 / math.sqrt(classes))
    return layer


class ClassProduct(Labelled):
    """The score for a class: the product of D's output vector with the class's. Miyato & Koyama 2018, equation 9."""

    def __init__(self, *, classes: int, numbers: int):
        super().__init__()
        self.table = nn.Embedding(classes, numbers)
        nn.init.normal_(self.table.weight, 0.0, 1 / math.sqrt(classes * numbers))

    def forward(self, outputs: Tensor, labels: Tensor | None) -> Tensor:
        """Vectors [B, numbers], labels [B] -> scores [B, 1]."""
        assert labels is not None, "a conditional network was given no labels"
        return (outputs * self.table(labels)).sum(1, keepdim=True)


class Generator(base.Generator):
    """The basis, residual blocks, at each larger scale twice the size and more blocks; a 1x1 convolution ends it."""

    mixes_labels = True  # shares of each class are taken too

    def __init__(
        self, *, latent: int, channels: int, resolution: int, classes: int, width: int, full_width: int, blocks: int,
        expansion: int, group: int, slope: float, output: str,
    ):  # fmt: skip
        super().__init__(latent=latent, channels=channels, resolution=resolution, output=output)
        widths = _widths(channels, resolution, classes, width, full_width)
        residuals = _Residuals(widths, blocks, expansion, group, slope)
        self.classes = classes
        label = class_beside(classes=classes, numbers=latent) if classes else None  # in as many numbers as noise
        basis = Basis(inputs=2 * latent if classes else latent, width=widths[0])
        self.blocks = Block(block(told=label, basis=basis, **residuals(widths[0])))
        for below, above in pairwise(widths):
            change = widen(below, above) if above != below else None
            self.blocks.append(stack(change=change, up=Resample(up=True), **residuals(above)))
        self.to_image = stack(conv=as_output(widen(widths[-1], channels)))


class Discriminator(base.Discriminator):
    """The generator mirrored: a 1x1 convolution, blocks and halvings, and a learnt basis that weighs the 4x4 maps.

    With classes the basis outputs a vector, and the score is its product with the label's. Miyato & Koyama 2018.
    """

    def __init__(
        self, *, channels: int, resolution: int, classes: int, width: int, full_width: int, blocks: int,
        expansion: int, group: int, slope: float, output: str,
    ):  # fmt: skip
        super().__init__(channels=channels, resolution=resolution, output=output)
        widths = _widths(channels, resolution, classes, width, full_width)[::-1]  # image side first
        residuals = _Residuals(widths, blocks, expansion, group, slope)
        self.blocks = nn.Sequential()
        for i, (above, below) in enumerate(zip(widths, [*widths[1:], None], strict=True)):
            conv = widen(channels, above) if i == 0 else None
            down = Resample(up=False) if below else None
            change = widen(above, below) if below and above != below else None
            self.blocks.append(stack(conv=conv, **residuals(above), down=down, change=change))
        self.classes = classes
        last, outputs = widths[-1], widths[-1] if classes else 1
        basis = scaled(nn.Conv2d(last, last, SMALLEST, groups=last, bias=False))
        score = as_output(scaled(nn.Linear(last, outputs, bias=False)))
        product = ClassProduct(classes=classes, numbers=outputs) if classes else None
        self.head = block(basis=basis, fold=Fold(), score=score, asked=product)


class _Residuals:
    """The residual blocks of one scale, by name, for maps of any width."""

    def __init__(self, widths: list[int], blocks: int, expansion: int, group: int, slope: float):
        limits.whole(".blocks", blocks, 1, limits.LAYERS)
        limits.whole(".expansion", expansion, 1)
        limits.whole(".group", group, 1)
        limits.number(".slope", slope, 0)
        for width in widths:
            if width * expansion % group:
                found = f"{group}, which does not divide the {width * expansion} channels inside a block"
                raise ConfigError(".group", found, "a divisor", f".group={math.gcd(width * expansion, group)}")
        self.count = blocks
        self.settings = {"expansion": expansion, "group": group, "slope": slope, "blocks": blocks * len(widths)}

    def __call__(self, width: int) -> dict[str, nn.Module | None]:
        return {f"residual{i}": Residual(width=width, **self.settings) for i in range(self.count)}  # type: ignore[arg-type]


def _widths(channels: int, resolution: int, classes: int, width: int, full_width: int) -> list[int]:
    """Channels from 4x4 up to the image's size: `width` up to `full_width` pixels, then half at each larger scale."""
    limits.resolution(".resolution", resolution, RESOLUTIONS)
    limits.whole(".channels", channels, 1, 4)
    limits.whole(".classes", classes, 0)
    limits.whole(".width", width, 1)
    limits.whole(".full_width", full_width, 1)
    sizes = [SMALLEST * 2**scale for scale in range((resolution // SMALLEST).bit_length())]
    return [max(1, min(width, width * full_width // size)) for size in sizes]
