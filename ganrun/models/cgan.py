"""Conditional GAN of dense layers: the label beside the noise and beside the pixels. Mirza & Osindero 2014."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ganrun.core import limits
from ganrun.models import base, conditional, layers
from ganrun.models.conditional import Beside, Block, block
from ganrun.models.epilogues import Epilogue
from ganrun.models.layers import ACTIVATIONS, stack
from ganrun.models.mlp import check, layer


class Generator(base.Generator):
    """G(z, y): noise and label through dense layers to every pixel at once. Mirza & Osindero 2014, figure 1."""

    def __init__(
        self,
        *,
        latent: int,
        classes: int,
        embed: int | None,
        channels: int,
        resolution: int,
        hidden: Sequence[int],
        norm: str,
        activation: str,
        slope: float,
        dropout: float,
        output: str,
        init: Mapping[str, Any],
    ):
        super().__init__(latent=latent, channels=channels, resolution=resolution, output=output)
        here = "model.generator"
        conditional.check(here, classes, embed)
        check(here, channels, resolution, hidden, norm, slope, dropout)
        limits.choice(f"{here}.activation", activation, ACTIVATIONS)
        self.classes, label = classes, Beside(classes=classes, embed=embed)
        self.blocks = Block()
        for inputs, units in zip([latent + label.size, *hidden], hidden, strict=False):
            kind = norm if len(self.blocks) else "none"  # no norm on what sees the noise
            self.blocks.append(layer(inputs, units, kind, activation, slope, dropout))
        self.blocks[0] = block(label=label, **dict(self.blocks[0].named_children()))
        pixels = nn.Linear(hidden[-1], channels * resolution**2)
        self.to_image = stack(dense=pixels, unflatten=nn.Unflatten(1, (channels, resolution, resolution)))
        layers.initialise(self, f"{here}.init", **init)


class Discriminator(base.Discriminator):
    """D(x, y): every pixel and the label through dense layers to a score. Mirza & Osindero 2014, figure 1."""

    def __init__(
        self,
        *,
        classes: int,
        embed: int | None,
        channels: int,
        resolution: int,
        hidden: Sequence[int],
        norm: str,
        activation: str,
        pieces: int,
        slope: float,
        input_dropout: float,
        dropout: float,
        epilogue: Epilogue | None,
        output: str,
        init: Mapping[str, Any],
    ):
        super().__init__(channels=channels, resolution=resolution, output=output)
        here = "model.discriminator"
        conditional.check(here, classes, embed)
        check(here, channels, resolution, hidden, norm, slope, dropout)
        limits.choice(f"{here}.activation", activation, [*ACTIVATIONS, "maxout"])
        limits.whole(f"{here}.pieces", pieces, 2)
        limits.number(f"{here}.input_dropout", input_dropout, 0, 1)
        self.classes, label = classes, Beside(classes=classes, embed=embed)
        self.blocks = Block()
        for inputs, units in zip([channels * resolution**2 + label.size, *hidden], hidden, strict=False):
            first = not len(self.blocks)  # it has neither norm nor dropout
            kind, drops = ("none", 0.0) if first else (norm, dropout)
            self.blocks.append(layer(inputs, units, kind, activation, slope, drops, pieces))
        image = {"flatten": nn.Flatten(), "pixel_dropout": layers.dropout(input_dropout), "label": label}
        self.blocks[0] = block(**image, **dict(self.blocks[0].named_children()))
        self.head = base.head((hidden[-1],), epilogue, bias=True)
        layers.initialise(self, f"{here}.init", **init)
