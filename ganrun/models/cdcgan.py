"""Conditional DCGAN: the label beside the input, or beside what every layer is given. Newmu/dcgan_code, mnist."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from torch import nn

from ganrun.core import limits
from ganrun.models import base, conditional, layers
from ganrun.models.conditional import Beside, Block, block
from ganrun.models.dcgan import RESOLUTIONS, SMALLEST
from ganrun.models.epilogues import Epilogue
from ganrun.models.layers import Fold, Unfold

PLACES = ("input", "every")  # where labels are put


class Labels:
    """Makes the layers that put labels in: none but the first, when only the input is to have them."""

    def __init__(self, *, where: str, condition: str, classes: int, embed: int | None):
        conditional.check(where, classes, embed)
        limits.choice(f"{where}.condition", condition, PLACES)
        self.every, self.classes, self.embed = condition == "every", classes, embed

    def __call__(self, *, first: bool = False) -> Beside | None:
        return Beside(classes=self.classes, embed=self.embed) if first or self.every else None

    def size(self, *, first: bool = False) -> int:
        """How many values such a layer adds."""
        return (self.embed or self.classes) if first or self.every else 0


class Generator(base.Generator):
    """Noise and label to 4x4 maps, then doubled up to the image. dcgan_code, train_cond_dcgan.py, `gen`."""

    def __init__(
        self,
        *,
        latent: int,
        classes: int,
        condition: str,
        embed: int | None,
        channels: int,
        resolution: int,
        width: int,
        max_width: int,
        kernel: int,
        top_kernel: int,
        norm: str,
        activation: str,
        slope: float,
        dropout: float,
        output: str,
        init: Mapping[str, Any],
    ):
        super().__init__(latent=latent, channels=channels, resolution=resolution, output=output)
        here = "model.generator"
        labels = Labels(where=here, condition=condition, classes=classes, embed=embed)
        self.classes = classes
        scales = layers.scales(here, resolution, RESOLUTIONS, SMALLEST)
        widths = layers.widths(here, channels, width, max_width, scales)[::-1]  # bottom first
        limits.resizing_kernel(f"{here}.kernel", kernel)
        limits.resizing_kernel(f"{here}.top_kernel", top_kernel)
        after = layers.After(where=here, norm=norm, activation=activation, slope=slope, dropout=dropout)
        bias, more = norm == "none", labels.size()
        project = nn.Linear(latent + labels.size(first=True), widths[0] * SMALLEST**2, bias=bias)
        unfold = Unfold(channels=widths[0], size=SMALLEST)
        self.blocks = Block(block(label=labels(first=True), project=project, unfold=unfold, **after(widths[0])))
        for below, above in pairwise(widths):
            conv = layers.double(below + more, above, kernel, bias=bias)
            self.blocks.append(block(label=labels(), conv=conv, **after(above)))
        self.to_image = block(label=labels(), conv=layers.double(widths[-1] + more, channels, top_kernel, bias=bias))
        layers.initialise(self, f"{here}.init", **init)


class Discriminator(base.Discriminator):
    """Image and label halved down to 4x4 maps, then one dense layer. dcgan_code, train_cond_dcgan.py, `discrim`."""

    def __init__(
        self,
        *,
        classes: int,
        condition: str,
        embed: int | None,
        channels: int,
        resolution: int,
        width: int,
        max_width: int,
        kernel: int,
        norm: str,
        activation: str,
        slope: float,
        dropout: float,
        epilogue: Epilogue | None,
        output: str,
        init: Mapping[str, Any],
    ):
        super().__init__(channels=channels, resolution=resolution, output=output)
        here = "model.discriminator"
        labels = Labels(where=here, condition=condition, classes=classes, embed=embed)
        self.classes = classes
        scales = layers.scales(here, resolution, RESOLUTIONS, SMALLEST)
        widths = layers.widths(here, channels, width, max_width, scales)
        limits.resizing_kernel(f"{here}.kernel", kernel)
        after = layers.After(where=here, norm=norm, activation=activation, slope=slope, dropout=dropout)
        bias = norm == "none"
        self.blocks = Block()
        for above, below in zip([channels, *widths], widths, strict=False):
            first = not len(self.blocks)  # no norm on what sees the image
            conv = layers.halve(above + labels.size(first=first), below, kernel, bias=bias)
            self.blocks.append(block(label=labels(first=first), conv=conv, **after(below, normed=not first)))
        shape = (widths[-1], SMALLEST, SMALLEST)
        units = (epilogue.fit(shape) if epilogue else math.prod(shape)) + labels.size()
        fold = None if epilogue else Fold()
        self.head = block(epilogue=epilogue, fold=fold, label=labels(), score=nn.Linear(units, 1, bias=bias))
        layers.initialise(self, f"{here}.init", **init)
