"""Image-to-image networks: a residual generator and a patch discriminator. Zhu et al. 2017 (CycleGAN), section 7.1."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ganrun.core import limits
from ganrun.core.context import DiscriminatorOutput
from ganrun.core.errors import ConfigError
from ganrun.core.traits import Traits
from ganrun.models import base
from ganrun.models.layers import NORMALISING, as_output, stack

EDGE, KERNEL = 7, 4  # pixels: kernels of the generator's first and last convolution, and of the discriminator's
MOST_HALVINGS = 16  # those of an image of 65,536 pixels a side


class Residual(nn.Module):
    """Two convolutions of 3x3 with instance norm, plus what came in. Johnson et al. 2016. [B, C, H, W] kept"""

    def __init__(self, *, channels: int):
        super().__init__()
        self.inner = stack(
            pad1=nn.ReflectionPad2d(1), conv1=nn.Conv2d(channels, channels, 3), norm1=nn.InstanceNorm2d(channels),
            activation=nn.ReLU(),
            pad2=nn.ReflectionPad2d(1), conv2=nn.Conv2d(channels, channels, 3), norm2=nn.InstanceNorm2d(channels),
        )  # fmt: skip

    def forward(self, maps: Tensor) -> Tensor:
        """The maps plus what two convolutions make of them. [B, C, H, W] -> [B, C, H, W]"""
        inner: Tensor = self.inner(maps)
        return maps + inner


class Generator(nn.Module):
    """Image to image: convolutions that halve, residual blocks, transposed convolutions that double.

    c7s1-k, d2k, d4k, R4k x `blocks`, u2k, uk, c7s1-C in the paper's words, with k = `width` and `halvings` = 2. Johnson
    et al. 2016; Zhu et al. 2017, appendix 7.2 and `networks.py` of the authors.
    """

    def __init__(self, *, channels: int, resolution: int, width: int, halvings: int, blocks: int, scale: float):
        """Weights start as N(0, `scale`), biases as 0. Raises ConfigError for sizes that cannot be made."""
        super().__init__()
        limits.whole(".channels", channels, 1)
        limits.whole(".width", width, 1)
        limits.whole(".halvings", halvings, 0, MOST_HALVINGS)
        limits.whole(".blocks", blocks, 0, limits.LAYERS)
        limits.number(".scale", scale, 0)
        _check_size(resolution, halvings)
        self.channels, self.resolution, self.range = channels, resolution, (-1.0, 1.0)
        self.multiple, self.least = 2**halvings, max(2 * 2**halvings, EDGE // 2 + 1)  # of sides that it keeps
        self.blocks = nn.Sequential(
            stack(pad=nn.ReflectionPad2d(EDGE // 2), conv=nn.Conv2d(channels, width, EDGE), **_after(width))
        )
        for i in range(halvings):
            below = nn.Conv2d(width * 2**i, width * 2 ** (i + 1), 3, stride=2, padding=1)
            self.blocks.append(stack(conv=below, **_after(width * 2 ** (i + 1))))
        for _ in range(blocks):
            self.blocks.append(stack(residual=Residual(channels=width * 2**halvings)))
        for i in reversed(range(halvings)):
            above = nn.ConvTranspose2d(width * 2 ** (i + 1), width * 2**i, 3, stride=2, padding=1, output_padding=1)
            self.blocks.append(stack(conv=above, **_after(width * 2**i)))
        self.to_image = stack(
            pad=nn.ReflectionPad2d(EDGE // 2), conv=as_output(nn.Conv2d(width, channels, EDGE)), squash=nn.Tanh()
        )
        initialise(self, scale)

    @property
    def traits(self) -> Traits:
        """Nothing beyond images in [-1, 1]."""
        return Traits()

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        """Translate an image; a condition is not read. [B, C, H, W] in [-1, 1] -> [B, C, H, W] in [-1, 1]"""
        translated: Tensor = self.to_image(self.blocks(image))
        return translated


class Discriminator(base.Discriminator):
    """A score for each patch of the image. Isola et al. 2017 (pix2pix), section 3.2.2.

    C(k)-C(2k)-...: `halvings` convolutions of stride 2, one of stride 1, and one that scores; with k = 64 and 3
    halvings a patch has 70x70 pixels. Instance norm on all but the first.
    """

    def __init__(
        self, *, channels: int, resolution: int, width: int, halvings: int, slope: float, output: str, scale: float
    ):
        """Weights start as N(0, `scale`), biases as 0. Raises ConfigError for sizes that cannot be made."""
        super().__init__(channels=channels, resolution=resolution, output=output)
        limits.number(".scale", scale, 0)
        check_patches(resolution, width, halvings, slope)
        self.blocks, self.head = patches(
            channels, width=width, halvings=halvings, slope=slope, norm=nn.InstanceNorm2d, bias=True
        )
        initialise(self, scale)

    def forward(self, images: Tensor, condition: Tensor | None = None) -> DiscriminatorOutput:
        """Scores of patches [B, 1, h, w] and features; a condition is not read. [B, C, H, W]"""
        features = self.hidden(images)
        return DiscriminatorOutput(self.squash(self.head(features[-1])), features)


def check_patches(resolution: int, width: int, halvings: int, slope: float) -> None:
    """Raises ConfigError for a discriminator of patches that cannot be made for images of this resolution."""
    limits.whole(".width", width, 1)
    limits.whole(".halvings", halvings, 1, MOST_HALVINGS)
    limits.number(".slope", slope, 0)
    if resolution // 2**halvings < 4:
        found = f"{halvings}, which leave maps of {resolution // 2**halvings} pixels"
        raise ConfigError(".halvings", found, "maps of 4 or more", ".halvings=1")


def patches(
    inputs: int, *, width: int, halvings: int, slope: float, norm: Callable[[int], nn.Module | None], bias: bool
) -> tuple[nn.Sequential, nn.Sequential]:
    """Blocks and head of a discriminator of patches, for images of `inputs` channels.

    `norm` makes the norm of as many channels, which all blocks but the first have; `bias`: whether their convolutions
    have one.
    """
    widths = [width * min(2**i, 8) for i in range(halvings + 1)]  # the last has stride 1
    blocks = nn.Sequential()
    for i, (above, below) in enumerate(zip([inputs, *widths], widths, strict=False)):
        conv = nn.Conv2d(above, below, KERNEL, stride=1 if i == halvings else 2, padding=1, bias=bias or i == 0)
        blocks.append(stack(conv=conv, norm=norm(below) if i else None, activation=nn.LeakyReLU(slope)))
    return blocks, stack(score=as_output(nn.Conv2d(widths[-1], 1, KERNEL, padding=1)))


def _after(channels: int) -> dict[str, nn.Module]:
    return {"norm": nn.InstanceNorm2d(channels), "activation": nn.ReLU()}


def _check_size(resolution: int, halvings: int) -> None:
    if resolution % 2**halvings or resolution // 2**halvings < 2 or resolution <= EDGE // 2:
        found = f"{halvings} of {resolution} pixels"
        raise ConfigError(".halvings", found, "whole maps of 2 or more pixels", ".halvings=1")


@torch.no_grad()
def initialise(net: nn.Module, scale: float) -> None:
    """Weights as N(0, `scale`), gains of norms as N(1, `scale`), biases as 0, as the authors' code does."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, scale)
        elif isinstance(layer, NORMALISING) and layer.weight is not None:
            nn.init.normal_(layer.weight, 1.0, scale)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
