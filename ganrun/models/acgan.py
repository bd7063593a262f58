"""A discriminator that also names the class of what it sees. AC-GAN, Odena et al. 2017; its G is `cdcgan`'s."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from ganrun.core import limits
from ganrun.core.context import DiscriminatorOutput
from ganrun.core.facts import Fact
from ganrun.core.traits import Traits
from ganrun.models import base, conditional, layers
from ganrun.models.dcgan import RESOLUTIONS, SMALLEST
from ganrun.models.epilogues import Epilogue
from ganrun.models.layers import Fold, stack


class Discriminator(base.Discriminator):
    """Two convolutions at each scale, the first of which halves it; a score and class logits. Their table 2.

    Channels double with every convolution, from `width` up to a cap.
    """

    def __init__(
        self,
        *,
        classes: int,
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
        conditional.check(here, classes, low=2)
        self.classes = classes
        scales = layers.scales(here, resolution, RESOLUTIONS, SMALLEST)
        widths = layers.widths(here, channels, width, max_width, 2 * scales)  # two convolutions a scale
        limits.odd_kernel(f"{here}.kernel", kernel)
        after = layers.After(where=here, norm=norm, activation=activation, slope=slope, dropout=dropout)
        self.blocks, bias = nn.Sequential(), norm == "none"
        for above, below in zip([channels, *widths], widths, strict=False):
            shrink = layers.keep if len(self.blocks) % 2 else layers.halve
            conv = shrink(above, below, kernel, bias=bias)
            self.blocks.append(stack(conv=conv, **after(below, normed=len(self.blocks) > 0)))
        shape = (widths[-1], SMALLEST, SMALLEST)
        self.head = base.head(shape, epilogue, bias=True)
        self.class_head = stack(fold=Fold(), logits=nn.Linear(widths[-1] * SMALLEST**2, classes))
        layers.initialise(self, f"{here}.init", **init)

    @property
    def traits(self) -> Traits:
        return replace(super().traits, provides=super().traits.provides | {Fact.CLASS_HEAD})

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        """[B, C, H, W] -> score [B], features, and heads["class"] [B, K], which are logits. Reads no labels."""
        opinion = super().forward(images)
        return opinion._replace(heads={"class": self.class_head(opinion.features[-1])})
