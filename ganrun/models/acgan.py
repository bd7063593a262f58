"""A discriminator that also names the class of what it sees. AC-GAN, Odena et al. 2017; its G is `cdcgan`'s."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ganrun.core import limits
from ganrun.models import base, conditional, layers
from ganrun.models.dcgan_shape import RESOLUTIONS, SMALLEST
from ganrun.models.epilogues import Epilogue
from ganrun.models.layers import After, Fold, stack


class Discriminator(base.NamingDiscriminator):
    """Two convolutions at each scale, the first of which halves it; a score and class logits. Their table 2.

    Channels double with every convolution, from `width` up to a cap.
    """

    def __init__(
        self, *, classes: int, channels: int, resolution: int, width: int, max_width: int, kernel: int, norm: str,
        activation: str, slope: float, dropout: float, epilogue: Epilogue | None, output: str, init: Mapping[str, Any],
    ):  # fmt: skip
        super().__init__(channels=channels, resolution=resolution, output=output)
        conditional.check(classes, low=2)
        self.classes = classes
        scales = layers.scales(resolution, RESOLUTIONS, SMALLEST)
        widths = layers.widths(channels, width, max_width, 2 * scales)  # two convolutions a scale
        limits.odd_kernel(".kernel", kernel)
        after = After(norm=norm, activation=activation, slope=slope, dropout=dropout)
        self.blocks = nn.Sequential()
        for above, below in zip([channels, *widths], widths, strict=False):
            shrink = layers.keep if len(self.blocks) % 2 else layers.halve
            conv = shrink(above, below, kernel, bias=after.bias)
            self.blocks.append(stack(conv=conv, **after(below, normed=len(self.blocks) > 0)))
        self.head = base.head((widths[-1], SMALLEST, SMALLEST), epilogue, bias=True)
        self.class_head = stack(fold=Fold(), logits=nn.Linear(widths[-1] * SMALLEST**2, classes))
        layers.initialise(self, **init)
