"""ProGAN's networks, which hold every resolution from 4x4 on and can be at any of them. Karras et al. 2018, appendix A.

A game turns `growth`; without one they are full-grown. Equalised learning rates, pixel norm, the normalised latent and
the minibatch standard deviation are the tricks `equalized_lr`, `pixel_norm`, `spherical_latent`, `minibatch_stddev`.
"""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from ganrun.core import limits
from ganrun.core.errors import ConfigError
from ganrun.core.growth import Growth
from ganrun.core.images import at_resolution
from ganrun.models import base
from ganrun.models.base import he
from ganrun.models.conditional import Beside, block, passed
from ganrun.models.epilogues import Epilogue, MinibatchStddev
from ganrun.models.layers import After, Fold, Parts, Unfold, as_output, keep, scales, stack, widths

RESOLUTIONS = (8, 16, 32, 64, 128, 256, 512, 1024)
SMALLEST = 4  # pixels; also the kernel that makes the first maps


class Generator(base.Generator):
    """A 4x4 convolution of the noise and a 3x3 one; at each larger scale double the size and two 3x3 ones. Table 2.

    At every scale a 1x1 convolution makes an image. While it fades in, the image of the largest scale is blended with
    that of the scale before, doubled. In training images have the resolution of the moment; in evaluation mode their
    pixels are repeated up to the full one.
    """

    mixes_labels = True  # shares of each class are taken too

    def __init__(
        self, *, latent: int, classes: int, channels: int, resolution: int, width: int, max_width: int, norm: str,
        activation: str, slope: float, output: str,
    ):  # fmt: skip
        super().__init__(latent=latent, channels=channels, resolution=resolution, output=output)
        depths = _depths(channels, resolution, width, max_width)[1:]
        limits.whole(".classes", classes, 0)
        self.classes, self.growth = classes, Growth(resolution)
        after = After(norm=norm, activation=activation, slope=slope, dropout=0.0)
        label = Beside(classes=classes, embed=None) if classes else None
        first = he(nn.ConvTranspose2d(latent + classes, depths[0], SMALLEST, bias=after.bias))
        point = Unfold(channels=latent + classes, size=1)
        self.blocks = nn.Sequential(block(label=label, point=point, conv=first, **after(depths[0])))
        self.blocks.append(stack(**_conv(depths[0], depths[0], after)))
        for below, above in pairwise(depths):
            self.blocks.append(stack(up=nn.Upsample(scale_factor=2), **_conv(below, above, after)))
            self.blocks.append(stack(**_conv(above, above, after)))
        self.to_image = nn.Sequential(*(stack(conv=he(nn.Conv2d(depth, channels, 1), 1.0)) for depth in depths))
        as_output(self.to_image[-1].conv)  # type: ignore[type-var]

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """[B, Z], labels [B] or shares of classes [B, K] -> [B, C, R, R]."""
        scale = _scale(self.growth.resolution)
        maps = below = noise
        for number, layer in enumerate(self.blocks):
            if number == 2 * scale:
                below = maps  # of half the size
            if number <= 2 * scale + 1:
                maps = passed(layer, maps, labels)
        image: Tensor = self.to_image[scale](maps)
        if self.growth.fading:
            image = self.growth.blend(at_resolution(self.to_image[scale - 1](below), self.growth.resolution), image)
        image = self.squash(image)
        return image if self.training else at_resolution(image, self.resolution)


class Discriminator(base.NamingDiscriminator):
    """The generator mirrored: at each scale two 3x3 convolutions and mean pooling; at 4x4 one, and two dense layers.

    At every scale a 1x1 convolution reads the image. Larger images than those of the moment are averaged down. While a
    scale fades in, its maps are blended with those that the scale below reads from the image at half the size. With
    classes it also outputs logits of them, as in the authors' code, which the trick `auxiliary_classifier` trains.
    Raises ConfigError for an epilogue that is not MinibatchStddev.
    """

    def __init__(
        self, *, classes: int, channels: int, resolution: int, width: int, max_width: int, norm: str, activation: str,
        slope: float, epilogue: Epilogue | None, output: str,
    ):  # fmt: skip
        super().__init__(channels=channels, resolution=resolution, output=output)
        last, *depths = _depths(channels, resolution, width, max_width)
        limits.whole(".classes", classes, 0)
        if epilogue is not None and not isinstance(epilogue, MinibatchStddev):
            found = f"{type(epilogue).__name__}, which makes vectors where a convolution follows"
            raise ConfigError(".epilogue", found, "null or MinibatchStddev")
        self.classes, self.growth = classes, Growth(resolution)
        after = After(norm=norm, activation=activation, slope=slope, dropout=0.0)
        self.from_image, self.blocks = nn.Sequential(), nn.Sequential()
        for depth in depths[::-1]:
            read = {"conv": he(nn.Conv2d(channels, depth, 1)), **after(depth, normed=False)}
            self.from_image.append(stack(**read))
        for above, below in pairwise(depths[::-1]):
            self.blocks.append(stack(**_conv(above, above, after)))
            self.blocks.append(stack(**_conv(above, below, after), down=nn.AvgPool2d(2)))
        self.blocks.append(stack(**_compared(depths[0], epilogue, after)))
        dense = he(nn.Linear(depths[0] * SMALLEST**2, last, bias=after.bias))
        self.blocks.append(stack(fold=Fold(), dense=dense, **after.by_unit(last)))
        self.head = stack(score=as_output(he(nn.Linear(last, 1), 1.0)))
        self.class_head = he(nn.Linear(last, classes), 1.0) if classes else None

    def hidden(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, ...]:
        """What it reads of the image, then the output of each block of the moment. [B, C, H, W] -> ..., [B, N]"""
        images = at_resolution(images, self.growth.resolution)
        first = len(self.from_image) - 1 - _scale(self.growth.resolution)
        features: list[Tensor] = [self.from_image[first](images)]
        for number, layer in enumerate(self.blocks):
            if number >= 2 * first:
                features.append(passed(layer, features[-1], labels))
            if self.growth.fading and number == 2 * first + 1:
                read = self.from_image[first + 1](F.avg_pool2d(images, 2))
                features[-1] = self.growth.blend(read, features[-1])
        return tuple(features)


def _conv(inputs: int, outputs: int, after: After) -> Parts:
    return {"conv": he(keep(inputs, outputs, 3, bias=after.bias)), **after(outputs)}


def _compared(depth: int, epilogue: Epilogue | None, after: After) -> Parts:
    """The last convolution; an epilogue's vectors are read as the maps that it has added to."""
    if epilogue is None:
        return _conv(depth, depth, after)
    inputs = epilogue.fit((depth, SMALLEST, SMALLEST)) // SMALLEST**2
    unfold = Unfold(channels=inputs, size=SMALLEST)
    return {"epilogue": epilogue, "unfold": unfold, **_conv(inputs, depth, after)}


def _scale(resolution: int) -> int:
    """0 at 4x4, 1 at 8x8 and so on."""
    return (resolution // SMALLEST).bit_length() - 1


def _depths(channels: int, resolution: int, width: int, max_width: int) -> list[int]:
    """Checked settings: units of D's first dense layer, then channels of maps from 4x4 up: `width` at the largest."""
    count = scales(resolution, RESOLUTIONS, SMALLEST) + 2
    return widths(channels, width, max_width, count)[::-1]
