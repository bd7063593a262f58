"""MSG-GAN: G makes an image at every scale at once, and D is given all. Karnewar & Wang 2020 (arXiv 1903.06048).

ProGAN's networks (Karras et al. 2018, table 2) without growing: every scale of G makes an image by a 1x1 convolution of
its own, and every scale of D joins the image of its size to the maps that come from above.
"""

from copy import deepcopy
from itertools import pairwise

import torch
from torch import Tensor, nn

from ganrun.core import limits
from ganrun.core.context import DiscriminatorOutput
from ganrun.core.errors import ConfigError
from ganrun.core.images import Images, pyramid
from ganrun.models import base
from ganrun.models.conditional import passed
from ganrun.models.epilogues import Epilogue, MinibatchStddev
from ganrun.models.layers import After, Fold, Parts, Unfold, as_output, stack
from ganrun.models.stylegan2_layers import GAIN, equalised, widths

RESOLUTIONS = (8, 16, 32, 64, 128, 256, 512, 1024)
SMALLEST = 4  # pixels
COMBINES = ("simple", "lin_cat", "cat_lin")
PLACES = ("every", "last")


def conv(inputs: int, outputs: int, kernel: int, *, bias: bool = True, gain: float = GAIN) -> nn.Conv2d:
    """An equalised convolution that keeps the size."""
    return equalised(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias), gain=gain)


class Generator(base.Generator):
    """Noise to 4x4 maps, then twice the size and two convolutions a scale; each scale makes an image. Their section 2.

    Equalised learning rates are built in. The trick `pixel_norm` puts the paper's norm behind each convolution.
    """

    def __init__(
        self, *, latent: int, channels: int, resolution: int, width: int, max_width: int, norm: str, slope: float,
        output: str,
    ):  # fmt: skip
        super().__init__(latent=latent, channels=channels, resolution=resolution, output=output)
        depths = widths(channels, resolution, width, max_width, RESOLUTIONS)
        after = After(norm=norm, activation="leaky_relu", slope=slope, dropout=0.0)
        self.scales = len(depths)
        first = equalised(nn.ConvTranspose2d(latent, depths[0], SMALLEST, bias=after.bias), gain=GAIN)
        self.blocks = nn.Sequential(stack(unfold=Unfold(channels=latent, size=1), project=first, **after(depths[0])))
        for above, below in pairwise([depths[0], *depths]):  # the second convolution of each scale, and the first
            if len(self.blocks) > 1:
                double = nn.Upsample(scale_factor=2.0, mode="nearest")
                self.blocks.append(stack(up=double, conv=conv(above, below, 3, bias=after.bias), **after(below)))
            self.blocks.append(stack(conv=conv(below, below, 3, bias=after.bias), **after(below)))
        self.to_image = nn.Sequential(*(conv(depth, channels, 1, gain=1.0) for depth in depths))
        as_output(self.to_image[-1])  # type: ignore[type-var]

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Images:  # type: ignore[override]
        """[B, Z] -> images of 4x4 pixels, of 8x8 and so on, [B, C, H, W] each. Labels are ignored."""
        made: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            noise = passed(block, noise, labels)
            if number % 2:  # the last of its scale
                made.append(self.squash(self.to_image[number // 2](noise)))
        return tuple(made)


class Combine(nn.Module):
    """Joins an image o to maps a of its size. Karnewar & Wang 2020, section 2, r' being a 1x1 convolution.

    simple: [o; a]. lin_cat: [r'(o); a]. cat_lin: r'([o; a]). `maps` counts the channels of a, `outputs` those of r'.
    """

    def __init__(self, kind: str, *, channels: int, maps: int, outputs: int):
        super().__init__()
        self.kind = kind
        self.channels = {"simple": channels + maps, "lin_cat": outputs + maps, "cat_lin": outputs}[kind]
        if kind == "lin_cat":
            self.linear = conv(channels, outputs, 1)
        elif kind == "cat_lin":
            self.linear = conv(channels + maps, outputs, 1, bias=False)

    def forward(self, image: Tensor, maps: Tensor) -> Tensor:
        """[B, C, H, W], [B, M, H, W] -> [B, N, H, W]."""
        if self.kind == "lin_cat":
            image = self.linear(image)
        both = torch.cat([image, maps.to(image.dtype)], 1)
        return self.linear(both) if self.kind == "cat_lin" else both

    def extra_repr(self) -> str:
        """The settings, as `print` shows them."""
        return self.kind


class FromImage(nn.Module):
    """Maps of the largest image, with which D begins."""

    def __init__(self, *, channels: int, outputs: int, slope: float):
        super().__init__()
        self.channels = outputs
        self.linear, self.activation = conv(channels, outputs, 1), nn.LeakyReLU(slope)

    def forward(self, image: Tensor, maps: Tensor | None) -> Tensor:
        """[B, C, H, W] -> [B, N, H, W]; nothing comes from above."""
        return self.activation(self.linear(image))


class Scale(nn.Sequential):
    """One scale of D: the image joins what comes from above, then layers. Tricks may add some, as to any block."""

    def forward(self, image: Tensor, maps: Tensor | None) -> Tensor:  # type: ignore[override]
        """[B, C, H, W], [B, M, H, W] or None -> [B, N, H / 2, W / 2]; maps of 4x4 pixels keep their size."""
        join, *layers = self
        maps = join(image, maps)
        for layer in layers:
            maps = layer(maps)
        return maps


class Discriminator(base.Discriminator):
    """All scales of an image to one score. Karnewar & Wang 2020, section 2.

    `combine` is the paper's function phi. With lin_cat half of the maps of a scale are made of its image, as in
    akanimax/BMSG-GAN, with cat_lin all of them are mixed, as in akanimax/msg-stylegan-tf. The trick minibatch_stddev
    acts at every scale, as in the paper, or at the last alone, as in BMSG-GAN (`epilogue_at`).
    """

    def __init__(
        self, *, channels: int, resolution: int, width: int, max_width: int, combine: str, slope: float,
        epilogue: Epilogue | None, epilogue_at: str, output: str,
    ):  # fmt: skip
        """Raises ConfigError for settings out of range, and for an epilogue that is not MinibatchStddev."""
        super().__init__(channels=channels, resolution=resolution, output=output)
        limits.choice(".combine", combine, COMBINES)
        limits.choice(".epilogue_at", epilogue_at, PLACES)
        limits.number(".slope", slope, 0)
        if epilogue is not None and not isinstance(epilogue, MinibatchStddev):
            found = f"{type(epilogue).__name__}, which makes vectors where a convolution follows"
            raise ConfigError(".epilogue", found, "null or MinibatchStddev")
        depths = widths(channels, resolution, width, max_width, RESOLUTIONS)[::-1]  # image side first
        self.scales = len(depths)
        join: Combine | FromImage = FromImage(channels=channels, outputs=depths[0], slope=slope)
        self.blocks = nn.Sequential()
        for size, (depth, below) in zip(_sizes(resolution), pairwise([*depths, 0]), strict=True):
            own = epilogue if epilogue_at == "every" or not below else None
            half = (below + 1) // 2 if combine == "lin_cat" else below
            self.blocks.append(_scale(join, depth, half, size, own, slope))
            join = Combine(combine, channels=channels, maps=half, outputs=half) if below else join
        self.head = _head(depths[-1], slope)

    def forward(self, images: Images, labels: Tensor | None = None) -> DiscriminatorOutput:
        """Every scale, [B, C, H, W] each, the largest last -> score [B]. One image has the scales that a real has."""
        return super().forward(images, labels)  # type: ignore[arg-type]

    def hidden(self, images: Images, labels: Tensor | None = None) -> tuple[Tensor, ...]:
        """The output of each block, shallow first. [B, C, H, W] -> [B, C', H', W'] each"""
        given = images if isinstance(images, tuple) else pyramid(images, self.scales)
        features: list[Tensor] = []
        for block, image in zip(self.blocks, given[::-1], strict=True):
            features.append(block(image, features[-1] if features else None))
        return tuple(features)


def _sizes(resolution: int) -> list[int]:
    """The scales in pixels, the largest first."""
    return [resolution // 2**i for i in range((resolution // SMALLEST).bit_length())]


def _scale(
    join: Combine | FromImage, depth: int, below: int, size: int, epilogue: Epilogue | None, slope: float
) -> Scale:
    """A scale of `depth` maps: two convolutions, the second to the maps `below`, and half the size; one at the end."""
    scale, inputs = Scale(), join.channels
    parts: Parts = {"join": join}
    if epilogue is not None:  # its vectors are read as the maps that it has added to
        own = deepcopy(epilogue)
        inputs = own.fit((inputs, size, size)) // size**2
        parts |= {"epilogue": own, "unfold": Unfold(channels=inputs, size=size)}
    parts |= {"conv": conv(inputs, depth, 3), "activation": nn.LeakyReLU(slope)}
    if below:
        parts |= {"widen": conv(depth, below, 3), "last": nn.LeakyReLU(slope), "halve": nn.AvgPool2d(2)}
    for name, part in parts.items():
        scale.add_module(name, part)
    return scale


def _head(depth: int, slope: float) -> nn.Sequential:
    """From the last maps of 4x4 pixels to the score."""
    dense = equalised(nn.Linear(depth * SMALLEST**2, depth), gain=GAIN)
    score = as_output(equalised(nn.Linear(depth, 1)))
    return stack(fold=Fold(), dense=dense, activation=nn.LeakyReLU(slope), score=score)
