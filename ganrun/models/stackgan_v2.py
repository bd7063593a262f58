"""StackGAN++: a tree of stages that make an image each, trained at once. Zhang et al. 2018 (arXiv 1710.10916).

Layers and widths are those of the authors' code, StackGAN-v2/code/model.py. What differs is what `stackgan` says of
noise and encoders; and D, which is given the generator's mean code there, compresses the sentence itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ganrun.core import limits
from ganrun.core.context import ALONE, DiscriminatorOutput
from ganrun.core.errors import ConfigError
from ganrun.core.images import Images, pyramid
from ganrun.models import base, layers
from ganrun.models.layers import After, Parts, Unfold, as_output, stack
from ganrun.models.stackgan import (
    LEAST,
    RESOLUTIONS,
    beside,
    compression,
    halved,
    image_head,
    joint_head,
    trunk,
)
from ganrun.models.text import Augmentation, TextEncoder, TextGenerator

MOST = 5  # scales


class Residual(nn.Module):
    """Two convolutions of 3x3 with norms, the first gated, plus what came in. [B, C, H, W] kept"""

    def __init__(self, *, channels: int, after: After):
        super().__init__()
        second = {name: part for name, part in after(channels).items() if name == "norm"}
        self.inner = nn.Sequential(
            stack(conv=layers.keep(channels, 2 * channels, 3, bias=after.bias), **gated(channels, after)),
            stack(conv=layers.keep(channels, channels, 3, bias=after.bias), **second),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """The maps plus what two convolutions make of them. [B, C, H, W] -> [B, C, H, W]"""
        summed: Tensor = maps + self.inner(maps)
        return summed


class Generator(TextGenerator):
    """Noise and the code of a sentence to an image at each of `scales`, each twice the size of the one before.

    The first stage is dense 4x4 maps that are doubled up; each later one joins the code to the maps of the stage
    before, passes residual blocks and doubles them. Activations are gated linear units. Section 4.1 and figure 2.
    """

    def __init__(
        self, *, text: TextEncoder, noise: int, code: int, augmentation: str, channels: int, resolution: int,
        scales: int, width: int, residuals: int, norm: str, output: str, init: Mapping[str, Any],
    ):  # fmt: skip
        """`width` counts the channels of the maps of the smallest image, halved in each later stage.

        Raises ConfigError for settings out of range, and for more scales than the resolution has.
        """
        limits.whole(".noise", noise, 1)
        limits.whole(".code", code, 1)
        limits.whole(".residuals", residuals, 0, limits.LAYERS)
        super().__init__(latent=noise + code, channels=channels, resolution=resolution, output=output)
        count = _doublings(resolution, scales)
        depths = halved(width * 2**count, count + scales - 1)
        self.noise, self.scales = noise, scales
        after = After(norm=norm, activation="relu", slope=0.0, dropout=0.0)
        self.blocks = nn.Sequential(_dense(self.latent, depths[0], after))
        self.blocks.extend(_doubled(inputs, outputs, after) for inputs, outputs in pairwise(depths[: count + 1]))
        self.joins: list[int] = []  # the blocks that are given the code
        self.ends = [count]  # the blocks behind which an image is made
        for inputs, outputs in pairwise(depths[count:]):
            self.joins.append(len(self.blocks))
            self.blocks.append(_gated(inputs + code, inputs, after))
            self.blocks.extend(Residual(channels=inputs, after=after) for _ in range(residuals))
            self.blocks.append(_doubled(inputs, outputs, after))
            self.ends.append(len(self.blocks) - 1)
        self.to_image = nn.Sequential(*(layers.keep(depth, channels, 3, bias=False) for depth in depths[count:]))
        as_output(self.to_image[-1])  # type: ignore[type-var]
        self.augmentation = Augmentation(inputs=text.size, code=code, activation=augmentation)
        layers.initialise(self, **init)
        self.text = text  # which begins as it was made

    def forward(self, noise: Tensor, text: Tensor | None = None) -> Images:  # type: ignore[override]
        """Noise and eps [B, Z + C] and sentences [B, L] or [B, E] to images [B, C, H, W], the largest last."""
        assert text is not None, "a network that reads sentences was given none"
        code = self.augmentation(self.text(text), noise[:, self.noise :])
        maps = torch.cat([noise[:, : self.noise], code], 1)
        made: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            maps = block(beside(maps, code) if number in self.joins else maps)
            if number in self.ends:
                made.append(self.squash(self.to_image[len(made)](maps)))
        return tuple(made)


class Discriminator(base.Discriminator):
    """A tower for each scale: the image halved to 4x4 maps, a score of these beside the sentence, and one without.

    The towers share nothing but what they read of the sentence; with the loss of each they are as many discriminators.
    Scores are [B, 1, 1, S], the largest scale last, as of S patches. With `unconditional`, heads["unconditional"] are
    scores of the images alone. Section 4.2.
    """

    def __init__(
        self, *, text: TextEncoder, code: int, channels: int, resolution: int, scales: int, width: int, norm: str,
        slope: float, unconditional: bool, output: str, init: Mapping[str, Any],
    ):  # fmt: skip
        """Raises ConfigError for settings out of range, and for more scales than the resolution has."""
        super().__init__(channels=channels, resolution=resolution, output=output)
        limits.whole(".width", width, 1)
        limits.whole(".channels", channels, 1, 4)
        count, self.scales = _doublings(resolution, scales), scales
        after = After(norm=norm, activation="leaky_relu", slope=slope, dropout=0.0)
        towers = [trunk(channels, width, count + scale, after) for scale in range(scales)]
        self.blocks = nn.Sequential(*(block for blocks, _ in towers for block in blocks))
        self.ends = list(accumulate(len(blocks) for blocks, _ in towers))  # behind the last block of each tower
        self.compress = compression(text, code)
        self.head = nn.Sequential(*(joint_head(last, code, after) for _, last in towers))
        as_output(self.head[-1].score)  # type: ignore[type-var]
        self.alone = nn.ModuleList(image_head(last) for _, last in towers) if unconditional else None
        layers.initialise(self, **init)
        self.text = text

    def forward(self, images: Images, text: Tensor | None = None) -> DiscriminatorOutput:
        """Every scale, [B, C, H, W] each, the largest last, and sentences [B, L] or [B, E] to scores [B, 1, 1, S].

        One image has the scales that a real has.
        """
        assert text is not None, "a network that reads sentences was given none"
        features, code = self.hidden(images), self.compress(self.text(text))
        last = [features[end - 1] for end in self.ends]
        heads = {} if self.alone is None else {ALONE: self._scores(self.alone, last)}
        return DiscriminatorOutput(self._scores(self.head, [beside(maps, code) for maps in last]), features, heads)

    def hidden(self, images: Images, text: Tensor | None = None) -> tuple[Tensor, ...]:
        """The output of each block, the tower of the smallest scale first. [B, C, H, W] -> [B, C', H', W'] each"""
        given = iter(images if isinstance(images, tuple) else pyramid(images, self.scales))
        features: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            begins = number in (0, *self.ends)
            features.append(block(next(given) if begins else features[-1]))
        return tuple(features)

    def blank(self, count: int) -> Tensor:
        """Empty sentences. [count, L] int64 or [count, E]"""
        return self.text.blank(count)

    def _scores(self, heads: Any, maps: list[Tensor]) -> Tensor:
        scores = torch.cat([head(own) for head, own in zip(heads, maps, strict=True)], 1)
        return self.squash(scores)[:, None, None]


def gated(channels: int, after: After) -> Parts:
    """A norm of twice the channels and a gated linear unit, which halves them. Dauphin et al. 2017, section 2."""
    return after(2 * channels) | {"activation": nn.GLU(1)}


def _gated(inputs: int, outputs: int, after: After) -> nn.Sequential:
    return stack(conv=layers.keep(inputs, 2 * outputs, 3, bias=after.bias), **gated(outputs, after))


def _doubled(inputs: int, outputs: int, after: After) -> nn.Sequential:
    return stack(
        enlarge=nn.Upsample(scale_factor=2, mode="nearest"), **dict(_gated(inputs, outputs, after).named_children())
    )


def _dense(inputs: int, channels: int, after: After) -> nn.Sequential:
    """A vector to maps of 4x4 pixels, gated."""
    units = channels * LEAST**2
    parts = after.by_unit(2 * units) | {"activation": nn.GLU(1)}
    return stack(
        dense=nn.Linear(inputs, 2 * units, bias=after.bias), **parts, unfold=Unfold(channels=channels, size=LEAST)
    )


def _doublings(resolution: int, scales: int) -> int:
    """How often 4x4 maps are doubled before the smallest of the images. Raises ConfigError for too many scales."""
    limits.whole(".scales", scales, 2, MOST)
    count = layers.scales(resolution, RESOLUTIONS, LEAST) - (scales - 1)
    if count < 1:
        found, least = f"{scales}, of {resolution} pixels", LEAST * 2**scales
        raise ConfigError(".scales", found, f"at most {scales + count - 1}", f"dataset.resolution={least}")
    return count
