"""Conditional DCGAN: the label beside the input, or beside the input of every layer. Newmu/dcgan_code (2015), mnist.

Data without labels, or of one class, have nothing to tell apart: then no layer reads any, and it is a plain DCGAN.
"""

from collections.abc import Mapping
from typing import Any

from ganrun.core import limits
from ganrun.models import base, conditional, layers
from ganrun.models.conditional import NO_LABELS, LabelLayers
from ganrun.models.dcgan_shape import DoublingGenerator, HalvingDiscriminator
from ganrun.models.epilogues import Epilogue
from ganrun.models.layers import After

PLACES = ("input", "every")  # where labels are put


class Generator(DoublingGenerator):
    """Noise and label to 4x4 maps, then doubled up to the image. dcgan_code, train_cond_dcgan.py, `gen`."""

    mixes_labels = True  # shares of each class are taken too

    def __init__(
        self, *, latent: int, classes: int, condition: str, embed: int | None, channels: int, resolution: int,
        width: int, max_width: int, kernel: int, top_kernel: int, norm: str, activation: str, slope: float,
        dropout: float, output: str, init: Mapping[str, Any],
    ):  # fmt: skip
        after = After(norm=norm, activation=activation, slope=slope, dropout=dropout)
        super().__init__(
            latent=latent, channels=channels, resolution=resolution, output=output, width=width, max_width=max_width,
            kernel=kernel, top_kernel=top_kernel, top_bias=after.bias, after=after, init=init,
            labels=_labels(classes, condition, embed),
        )  # fmt: skip
        self.classes = _told_apart(classes)


class Discriminator(HalvingDiscriminator):
    """Image and label halved down to 4x4 maps, then one dense layer. dcgan_code, train_cond_dcgan.py, `discrim`."""

    def __init__(
        self, *, classes: int, condition: str, embed: int | None, channels: int, resolution: int, width: int,
        max_width: int, kernel: int, norm: str, activation: str, slope: float, dropout: float,
        epilogue: Epilogue | None, output: str, init: Mapping[str, Any],
    ):  # fmt: skip
        labels = _labels(classes, condition, embed)
        after = After(norm=norm, activation=activation, slope=slope, dropout=dropout)
        super().__init__(
            channels=channels, resolution=resolution, output=output, width=width, max_width=max_width, kernel=kernel,
            after=after, labels=labels,
        )  # fmt: skip
        self.classes = _told_apart(classes)
        self.head = base.head(self.last, epilogue, label=labels(), bias=after.bias)
        layers.initialise(self, **init)


def _labels(classes: int, condition: str, embed: int | None) -> LabelLayers:
    conditional.check(classes, embed, low=0)
    limits.choice(".condition", condition, PLACES)
    return LabelLayers(classes=classes, embed=embed, every=condition == "every") if _told_apart(classes) else NO_LABELS


def _told_apart(classes: int) -> int:
    """The number of classes that the network tells apart; 0 for one that reads no labels."""
    return classes if classes > 1 else 0
