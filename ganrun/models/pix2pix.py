"""A U-Net, and a patch discriminator that sees an image beside its input. Isola et al. 2017 (pix2pix), section 3.2."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ganrun.core import limits
from ganrun.core.context import DiscriminatorOutput
from ganrun.core.errors import ConfigError
from ganrun.core.traits import Traits
from ganrun.models import base, layers
from ganrun.models.layers import as_output, stack
from ganrun.models.translation import KERNEL, MOST_HALVINGS, check_patches, initialise, patches


class Generator(nn.Module):
    """U-Net: an encoder that halves, and a decoder that doubles, its maps joined with the encoder's of their size.

    C64-C128-C256-C512-C512-C512-C512-C512 and CD512-CD512-CD512-C512-C256-C128-C64 in the paper's words (appendix
    6.1.1), with 64 = `width`, 8 = `halvings` and as many channels as 8 widths at most. `blocks` is the decoder, bottom
    first. Its dropout is a trick, `generator_dropout`.
    """

    def __init__(
        self, *, channels: int, resolution: int, width: int, halvings: int, norm: str, slope: float, scale: float
    ):
        """`norm`: of all but the first, the innermost and the last maps, with gains and biases.

        Weights start as N(0, `scale`), gains as N(1, `scale`), biases as 0. Raises ConfigError for sizes that cannot be
        made.
        """
        super().__init__()
        limits.whole(".channels", channels, 1)
        limits.whole(".width", width, 1)
        limits.whole(".halvings", halvings, 2, MOST_HALVINGS)
        limits.choice(".norm", norm, layers.NORMS)
        limits.number(".slope", slope, 0)
        limits.number(".scale", scale, 0)
        if resolution % 2**halvings:
            found = f"{halvings}, which do not divide {resolution} pixels"
            raise ConfigError(".halvings", found, "whole maps", ".halvings=2")
        self.channels, self.resolution, self.range = channels, resolution, (-1.0, 1.0)
        self.multiple = self.least = 2**halvings  # of sides that it keeps
        widths = [width * min(2**i, 8) for i in range(halvings)]  # of the encoder's maps, the largest first
        self.encoder = self._encoder(channels, widths, norm, slope)
        self.blocks = nn.Sequential()
        for i in reversed(range(1, halvings)):
            inputs = widths[i] * (1 if i == halvings - 1 else 2)
            conv = nn.ConvTranspose2d(inputs, widths[i - 1], KERNEL, stride=2, padding=1, bias=norm == "none")
            self.blocks.append(stack(activation=nn.ReLU(), conv=conv, norm=layers.norm(norm, widths[i - 1])))
        last = nn.ConvTranspose2d(2 * width, channels, KERNEL, stride=2, padding=1)
        self.to_image = stack(activation=nn.ReLU(), conv=as_output(last), squash=nn.Tanh())
        initialise(self, scale)

    @staticmethod
    def _encoder(channels: int, widths: list[int], norm: str, slope: float) -> nn.Sequential:
        """Convolutions that halve. Neither the first nor the innermost has a norm."""
        blocks = nn.Sequential()
        for i, (above, below) in enumerate(zip([channels, *widths], widths, strict=False)):
            conv = nn.Conv2d(above, below, KERNEL, stride=2, padding=1, bias=norm == "none")
            normed = layers.norm(norm, below) if 0 < i < len(widths) - 1 else None
            blocks.append(stack(activation=nn.LeakyReLU(slope) if i else None, conv=conv, norm=normed))
        return blocks

    @property
    def traits(self) -> Traits:
        """Nothing beyond images in [-1, 1]."""
        return Traits()

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        """Translate an image; a condition is not read. [B, C, H, W] in [-1, 1] -> [B, C, H, W] in [-1, 1]"""
        skips, hidden = [], image
        for block in self.encoder:
            hidden = block(hidden)
            skips.append(hidden)
        skips.pop()
        for block in self.blocks:
            hidden = torch.cat([skips.pop(), block(hidden)], 1)
        translated: Tensor = self.to_image(hidden)
        return translated


class Discriminator(base.Discriminator):
    """A score for each patch of an image beside the one that it was made from. Isola et al. 2017, section 3.2.2.

    C64-C128-C256-C512 and a convolution that scores, all of 4x4, the last two of stride 1: patches of 70x70 pixels with
    3 halvings.
    """

    def __init__(
        self,
        *,
        channels: int,
        resolution: int,
        width: int,
        halvings: int,
        conditional: bool,
        norm: str,
        slope: float,
        output: str,
        scale: float,
    ):
        """`conditional`: whether it sees the input. `norm`: of all maps but the first, with gains and biases.

        Weights start as N(0, `scale`), gains as N(1, `scale`), biases as 0. Raises ConfigError for sizes that cannot be
        made.
        """  # fmt: skip
        super().__init__(channels=channels, resolution=resolution, output=output)
        limits.choice(".norm", norm, layers.NORMS)
        limits.number(".scale", scale, 0)
        check_patches(resolution, width, halvings, slope)
        self.reads_image = conditional
        self.blocks, self.head = patches(
            channels * (1 + conditional), width=width, halvings=halvings, slope=slope, bias=norm == "none",
            norm=lambda maps: layers.norm(norm, maps),
        )  # fmt: skip
        initialise(self, scale)

    def forward(self, images: Tensor, condition: Tensor | None = None) -> DiscriminatorOutput:
        """Scores of patches [B, 1, h, w] and features, of images and the inputs beside them. [B, C, H, W] both"""
        if self.reads_image:
            assert condition is not None, "a conditional discriminator was given no input"
            images = torch.cat([condition, images], 1)
        features = self.hidden(images)
        return DiscriminatorOutput(self.squash(self.head(features[-1])), features)

    def blank(self, count: int) -> Tensor:
        """Inputs of zeros. [count, C, H, W]"""
        return torch.zeros(count, self.channels, self.resolution, self.resolution)
