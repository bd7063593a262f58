"""Residual networks of GANs. Gulrajani et al. 2017 (gan_cifar_resnet.py); Miyato et al. 2018, table 4."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

from torch import nn

from ganrun.core import limits
from ganrun.core.errors import ConfigError
from ganrun.models import base, layers, resnet_blocks
from ganrun.models.conditional import ConditionalBatchNorm, Score, block
from ganrun.models.epilogues import Epilogue
from ganrun.models.layers import After
from ganrun.models.resnet_blocks import SEED, Before

CONDITIONING = ("projection", "head")


class Generator(base.Generator):
    """Project noise to 4x4 maps, then double them by residual blocks. Miyato et al. 2018, table 4, on the left.

    With `classes`, the norms of its blocks have gains and biases for each class. Miyato & Koyama 2018, figure 14.
    """

    mixes_labels = True  # shares of each class are taken too

    def __init__(
        self, *, latent: int, channels: int, resolution: int, classes: int, width: int, max_width: int, kernel: int,
        top_kernel: int, upsample: str, norm: str, activation: str, slope: float, dropout: float, output: str,
        init: Mapping[str, Any],
    ):  # fmt: skip
        super().__init__(latent=latent, channels=channels, resolution=resolution, output=output)
        widths = resnet_blocks.generator_widths(channels, resolution, width, max_width)
        resnet_blocks.check_up(kernel, top_kernel, upsample)
        self.classes = _classes(classes, norm)
        after = After(norm=norm, activation=activation, slope=slope, dropout=dropout)
        own = partial(ConditionalBatchNorm, classes=classes) if classes else None
        project = nn.Linear(latent, widths[0] * SEED**2)
        before = Before(after=replace(after, own_norm=own))
        self.blocks = resnet_blocks.tower(project, widths, kernel=kernel, upsample=upsample, before=before)
        self.to_image = resnet_blocks.to_image(widths[-1], channels, top_kernel, after)
        resnet_blocks.initialise(self, **init)


class Discriminator(base.NamingDiscriminator):
    """Residual blocks that halve the image, some that keep its size, the sum of each map, a score. Miyato et al. 2018.

    With `classes` it reads labels by projection (Miyato & Koyama 2018, equation 9), or names them by a head of its own
    (Odena et al. 2017; in gan_cifar_resnet.py too). The last features are the pooled ones, [B, N].
    """

    def __init__(
        self, *, channels: int, resolution: int, classes: int, conditioning: str, width: int, max_width: int,
        smallest: int, flat: int, wide: bool, kernel: int, norm: str, activation: str, slope: float, dropout: float,
        pool: str, epilogue: Epilogue | None, output: str, init: Mapping[str, Any],
    ):  # fmt: skip
        super().__init__(channels=channels, resolution=resolution, output=output)
        halvings = resnet_blocks.halvings(resolution, smallest)
        limits.whole(".flat", flat, 0)
        limits.odd_kernel(".kernel", kernel)
        limits.choice(".pool", pool, resnet_blocks.POOLS)
        limits.choice(".conditioning", conditioning, CONDITIONING)
        self.classes = _classes(classes)
        widths = layers.widths(channels, width, max_width, halvings + flat)
        after = After(norm=norm, activation=activation, slope=slope, dropout=dropout)
        make = partial(resnet_blocks.down, kernel=kernel, before=Before(after=after))
        self.blocks = block()
        for i, (above, below) in enumerate(pairwise([channels, *widths])):
            hidden = below if wide or i == 0 else above
            made = make(above, below, hidden=hidden, halves=i < halvings, image=i == 0)
            self.blocks.add_module(f"down{i + 1}" if i < halvings else f"flat{i + 1 - halvings}", made)
        self.blocks.add_module("pool", block(activation=after(1)["activation"], pool=layers.Pool(kind=pool)))
        names = classes > 0 and conditioning == "head"
        self.head = _head(widths[-1], 0 if names else classes, epilogue)
        self.class_head = nn.Linear(widths[-1], classes) if names else None
        resnet_blocks.initialise(self, **init)


def _head(features: int, classes: int, epilogue: Epilogue | None) -> nn.Sequential:
    """From pooled features to a score, which reads labels when there are classes."""
    if not classes:
        return base.head((features,), epilogue, bias=True)
    inputs = epilogue.fit((features,)) if epilogue else features
    return block(epilogue=epilogue, score=Score(features=inputs, classes=classes, bias=True))


def _classes(classes: int, norm: str = "batch") -> int:
    limits.whole(".classes", classes, 0)
    if classes and norm != "batch":
        found = f"{norm}, and {classes} classes, which each have gains in batch norm"
        raise ConfigError(".norm", found, "batch", ".norm=batch")
    return classes
