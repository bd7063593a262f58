"""StackGAN: from a sentence to a small image, and from both to a larger one. Zhang et al. 2017 (arXiv 1612.03242).

Layers and widths are those of the authors' code, StackGAN-Pytorch/code/model.py. What differs: the noise of the
conditioning augmentation is a part of the latent vector, so that a sample follows from its latent alone; and each
network has a text encoder of its own, where the code trains on vectors that another network made.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor, nn

from ganrun.core import limits
from ganrun.core.context import ALONE, DiscriminatorOutput
from ganrun.core.errors import ConfigError
from ganrun.models import base, layers
from ganrun.models.layers import After, Fold, Unfold, as_output, stack
from ganrun.models.text import SLOPE, Augmentation, TextEncoder, TextGenerator

RESOLUTIONS = (8, 16, 32, 64, 128, 256, 512)
LEAST = 4  # pixels of the smallest maps
WIDEST = 8  # times the width: channels of the maps that a score is made of, at most
HALVINGS = 2  # of the image of stage I, before it meets the sentence again


class Generator(TextGenerator):
    """Stage I: noise and the code of a sentence through dense 4x4 maps, doubled up to the image. Section 3.3.

    `noise` numbers of N(0, 1) make what the sentence does not say, `code` those of the augmentation.
    """

    def __init__(
        self, *, text: TextEncoder, noise: int, code: int, augmentation: str, channels: int, resolution: int,
        width: int, norm: str, output: str, init: Mapping[str, Any],
    ):  # fmt: skip
        limits.whole(".noise", noise, 1)
        limits.whole(".code", code, 1)
        super().__init__(latent=noise + code, channels=channels, resolution=resolution, output=output)
        count = layers.scales(resolution, RESOLUTIONS, LEAST)
        widths = halved(WIDEST * width, count)
        self.noise, after = noise, After(norm=norm, activation="relu", slope=0.0, dropout=0.0)
        dense = nn.Linear(self.latent, widths[0] * LEAST**2, bias=after.bias)
        units = after.by_unit(widths[0] * LEAST**2) | {"unfold": Unfold(channels=widths[0], size=LEAST)}
        self.blocks = nn.Sequential(stack(dense=dense, **units), *_doubled(widths, after))
        self.to_image = stack(conv=as_output(layers.keep(widths[-1], channels, 3, bias=False)))
        self.augmentation = Augmentation(inputs=text.size, code=code, activation=augmentation)
        layers.initialise(self, **init)
        self.text = text  # which begins as it was made

    def forward(self, noise: Tensor, text: Tensor | None = None) -> Tensor:
        """Noise and eps [B, Z + C] and sentences [B, L] or [B, E] to images [B, C, H, W]."""
        assert text is not None, "a network that reads sentences was given none"
        code = self.augmentation(self.text(text), noise[:, self.noise :])
        image: Tensor = self.squash(self.to_image(self.blocks(torch.cat([noise[:, : self.noise], code], 1))))
        return image


class Residual(nn.Module):
    """Two convolutions of 3x3 with batch norm, plus what came in, and ReLU behind. He et al. 2016. [B, C, H, W] kept"""

    def __init__(self, *, channels: int, after: After):
        super().__init__()
        second = {name: part for name, part in after(channels).items() if name == "norm"}
        self.inner = nn.Sequential(
            stack(conv=layers.keep(channels, channels, 3, bias=after.bias), **after(channels)),
            stack(conv=layers.keep(channels, channels, 3, bias=after.bias), **second),
        )
        self.activation = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """The maps plus what two convolutions make of them. [B, C, H, W] -> [B, C, H, W]"""
        summed: Tensor = self.activation(maps + self.inner(maps))
        return summed


class Frozen(nn.Module):
    """A trained network as it was: state of the game, and nothing that an optimiser, a trick or an average changes.

    It stays in evaluation mode; those who look for layers or parameters do not find any; copies share it.
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net.requires_grad_(False).eval()

    def named_modules(self, memo: Any = None, prefix: str = "", remove_duplicate: bool = True) -> Any:
        """The module alone, so that what is inside is neither found nor changed."""
        yield prefix, self

    def train(self, mode: bool = True) -> Self:
        """It does not train."""
        self.training = mode
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def forward(self, noise: Tensor, text: Tensor) -> Tensor:
        """An image of the network, without gradients. [B, Z], [B, L] or [B, E] -> [B, C, H, W]"""
        with torch.no_grad():
            image: Tensor = self.net(noise, text)
        return image


class SecondGenerator(TextGenerator):
    """Stage II: a small image of stage I and the sentence once more, to an image of higher resolution. Section 3.4.

    The image is halved twice, meets the code of the sentence, passes residual blocks, and is doubled up. The latent is
    that of stage I, then eps of this stage's own augmentation.
    """

    def __init__(
        self, *, text: TextEncoder, first: Generator | None, noise: int, code: int, augmentation: str, channels: int,
        resolution: int, width: int, residuals: int, norm: str, output: str, init: Mapping[str, Any],
    ):  # fmt: skip
        """`first` is the generator of stage I. Raises ConfigError without it, and where it makes other images."""
        limits.whole(".code", code, 1)
        limits.whole(".residuals", residuals, 0)
        first = _checked(first, noise, channels, resolution)
        super().__init__(latent=first.latent + code, channels=channels, resolution=resolution, output=output)
        bottom, after = 2**HALVINGS * width, After(norm=norm, activation="relu", slope=0.0, dropout=0.0)
        count = (resolution * 2**HALVINGS // first.resolution).bit_length() - 1
        widths = halved(bottom, count)
        joint = layers.keep(code + bottom, bottom, 3, bias=after.bias)
        self.encoder = _encoder(channels, width, after)
        self.blocks = nn.Sequential(stack(conv=joint, **after(bottom)))
        self.blocks.extend(Residual(channels=bottom, after=after) for _ in range(residuals))
        self.blocks.extend(_doubled(widths, after))
        self.to_image = stack(conv=as_output(layers.keep(widths[-1], channels, 3, bias=False)))
        self.augmentation = Augmentation(inputs=text.size, code=code, activation=augmentation)
        layers.initialise(self, **init)
        self.text, self.first = text, Frozen(first)

    def forward(self, noise: Tensor, text: Tensor | None = None) -> Tensor:
        """Latents of stage I with eps of this stage [B, Z + C] and sentences [B, L] or [B, E] to [B, C, H, W]."""
        assert text is not None, "a network that reads sentences was given none"
        split = self.first.net.latent
        maps = self.encoder(self.first(noise[:, :split], text))
        code = self.augmentation(self.text(text), noise[:, split:])
        image: Tensor = self.squash(self.to_image(self.blocks(beside(maps, code))))
        return image


class Discriminator(base.Discriminator):
    """The image halved down to 4x4 maps beside the compressed sentence, then a score of both. Sections 3.3 and 3.4.

    With `unconditional`, heads["unconditional"] is a score of the image alone, as stage II of the authors' code has.
    """

    def __init__(
        self, *, text: TextEncoder, code: int, channels: int, resolution: int, width: int, norm: str, slope: float,
        unconditional: bool, output: str, init: Mapping[str, Any],
    ):  # fmt: skip
        super().__init__(channels=channels, resolution=resolution, output=output)
        limits.whole(".width", width, 1)
        limits.whole(".channels", channels, 1, 4)
        after = After(norm=norm, activation="leaky_relu", slope=slope, dropout=0.0)
        count = layers.scales(resolution, RESOLUTIONS, LEAST)
        self.blocks, last = trunk(channels, width, count, after)
        self.head = joint_head(last, code, after)
        as_output(self.head.score)  # type: ignore[type-var]
        self.alone = image_head(last) if unconditional else None
        self.compress = compression(text, code)
        layers.initialise(self, **init)
        self.text = text

    def forward(self, images: Tensor, text: Tensor | None = None) -> DiscriminatorOutput:
        """Images [B, C, H, W] and sentences [B, L] or [B, E] to scores [B] and features."""
        assert text is not None, "a network that reads sentences was given none"
        features = self.hidden(images)
        score = self.head(beside(features[-1], self.compress(self.text(text))))
        heads = {} if self.alone is None else {ALONE: self.squash(self.alone(features[-1])).squeeze(1)}
        return DiscriminatorOutput(self.squash(score).squeeze(1), features, heads)

    def blank(self, count: int) -> Tensor:
        """Empty sentences. [count, L] int64 or [count, E]"""
        return self.text.blank(count)


def joint_head(last: int, code: int, after: After) -> nn.Sequential:
    """From maps of 4x4 pixels beside the compressed sentence to a score. [B, last + code, 4, 4] -> [B, 1]"""
    joint = layers.keep(last + code, last, 3, bias=after.bias)
    return stack(conv=joint, **after(last), score=nn.Conv2d(last, 1, LEAST), fold=Fold())


def image_head(last: int) -> nn.Sequential:
    """From maps of 4x4 pixels to a score of the image alone. [B, last, 4, 4] -> [B, 1]"""
    return stack(score=nn.Conv2d(last, 1, LEAST), fold=Fold())


def compression(text: TextEncoder, code: int) -> nn.Sequential:
    """What D keeps of a sentence's vector. [B, N] -> [B, code]"""
    limits.whole(".code", code, 1)
    return stack(dense=nn.Linear(text.size, code), activation=nn.LeakyReLU(SLOPE))


def beside(maps: Tensor, code: Tensor) -> Tensor:
    """The numbers of a code as constant maps beside other maps. [B, N, H, W], [B, C] -> [B, N + C, H, W]"""
    return torch.cat([maps, code[:, :, None, None].expand(-1, -1, *maps.shape[2:]).to(maps.dtype)], 1)


def halved(bottom: int, count: int) -> list[int]:
    """Channels from the smallest maps on, half as many in each. Raises ConfigError for less than one."""
    limits.whole(".width", bottom, 2**count)
    return [bottom // 2**i for i in range(count + 1)]


def _doubled(widths: list[int], after: After) -> list[nn.Sequential]:
    """Nearest-neighbour doubling and a convolution of 3x3 each, between these channels."""
    return [
        stack(
            enlarge=nn.Upsample(scale_factor=2, mode="nearest"),
            conv=layers.keep(inputs, outputs, 3, bias=after.bias), **after(outputs),
        )
        for inputs, outputs in pairwise(widths)
    ]  # fmt: skip


def _encoder(channels: int, width: int, after: After) -> nn.Sequential:
    """A convolution of 3x3, then those of 4x4 that halve. [B, C, H, W] -> [B, 4 width, H / 4, W / 4]"""
    blocks = nn.Sequential(stack(conv=layers.keep(channels, width, 3, bias=False), **after(width, normed=False)))
    for i in range(HALVINGS):
        halving = layers.halve(width * 2**i, width * 2 ** (i + 1), 4, bias=after.bias)
        blocks.append(stack(conv=halving, **after(width * 2 ** (i + 1))))
    return blocks


def trunk(channels: int, width: int, count: int, after: After) -> tuple[nn.Sequential, int]:
    """Convolutions that halve, then those of 3x3 that bring wide maps down to 8 times the width; and those channels."""
    blocks, widths = nn.Sequential(), [channels, *(width * 2**i for i in range(count))]
    for i, (inputs, outputs) in enumerate(pairwise(widths)):
        halving = layers.halve(inputs, outputs, 4, bias=after.bias and i > 0)
        blocks.append(stack(conv=halving, **after(outputs, normed=i > 0)))
    last = widths[-1]
    while last > WIDEST * width:
        blocks.append(stack(conv=layers.keep(last, last // 2, 3, bias=after.bias), **after(last // 2)))
        last //= 2
    return blocks, last


def _checked(first: Generator | None, noise: int, channels: int, resolution: int) -> Generator:
    """Stage I, where it fits. Raises ConfigError where it is not there, or makes other images from other noise."""
    if first is None:
        expected = "the generator of a trained stage I"
        raise ConfigError(".first", "not set", expected, "game.stage1=RUN, a run of experiment=stackgan_stage1")
    ratio = resolution / first.resolution
    if ratio not in (2, 4, 8, 16) or first.resolution < 2 ** (HALVINGS + 1):
        found = f"{resolution} pixels, from the {first.resolution} of stage I"
        raise ConfigError(".resolution", found, "2, 4, 8 or 16 times as many",
                          f"dataset.resolution={4 * first.resolution}")  # fmt: skip
    for key, mine, theirs in (("noise", noise, first.noise), ("channels", channels, first.channels)):
        if mine != theirs:
            remedy = f".{key}={theirs}" if key == "noise" else f"dataset.{key}={theirs}"
            raise ConfigError(f".{key}", f"{mine}, but stage I has {theirs}", "the same", remedy)
    return first
