"""Norms for each class in G, projection of the label in D, on DCGAN's shapes. Miyato & Koyama 2018."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from torch import nn

from ganrun.core import limits
from ganrun.models import base, conditional, layers
from ganrun.models.conditional import Block, ConditionalBatchNorm, Score, block
from ganrun.models.dcgan import RESOLUTIONS, SMALLEST
from ganrun.models.layers import Unfold, stack


class Generator(base.Generator):
    """DCGAN's generator, where the label speaks through conditional batch norm alone. Their section 5 and figure 14."""

    def __init__(
        self,
        *,
        latent: int,
        classes: int,
        channels: int,
        resolution: int,
        width: int,
        max_width: int,
        kernel: int,
        top_kernel: int,
        activation: str,
        slope: float,
        output: str,
        init: Mapping[str, Any],
    ):
        super().__init__(latent=latent, channels=channels, resolution=resolution, output=output)
        here = "model.generator"
        conditional.check(here, classes)
        self.classes = classes
        scales = layers.scales(here, resolution, RESOLUTIONS, SMALLEST)
        widths = layers.widths(here, channels, width, max_width, scales)[::-1]  # bottom first
        limits.resizing_kernel(f"{here}.kernel", kernel)
        limits.resizing_kernel(f"{here}.top_kernel", top_kernel)
        limits.choice(f"{here}.activation", activation, layers.ACTIVATIONS)

        def after(maps: int) -> dict[str, nn.Module]:
            norm = ConditionalBatchNorm(channels=maps, classes=classes)
            return {"norm": norm, "activation": layers.activation(activation, slope)}

        project = nn.Linear(latent, widths[0] * SMALLEST**2, bias=False)  # a norm undoes a bias
        unfold = Unfold(channels=widths[0], size=SMALLEST)
        self.blocks = Block(block(project=project, unfold=unfold, **after(widths[0])))
        for below, above in pairwise(widths):
            self.blocks.append(block(conv=layers.double(below, above, kernel, bias=False), **after(above)))
        self.to_image = stack(conv=layers.double(widths[-1], channels, top_kernel, bias=True))
        layers.initialise(self, f"{here}.init", **init)


class Discriminator(base.Discriminator):
    """DCGAN's discriminator up to phi(x), summed over pixels; psi(phi(x)) + <embed(y), phi(x)>. Their equation 9."""

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
        output: str,
        init: Mapping[str, Any],
    ):
        super().__init__(channels=channels, resolution=resolution, output=output)
        here = "model.discriminator"
        conditional.check(here, classes)
        self.classes = classes
        scales = layers.scales(here, resolution, RESOLUTIONS, SMALLEST)
        widths = layers.widths(here, channels, width, max_width, scales)
        limits.resizing_kernel(f"{here}.kernel", kernel)
        after = layers.After(where=here, norm=norm, activation=activation, slope=slope, dropout=dropout)
        self.blocks = Block()
        for above, below in zip([channels, *widths], widths, strict=False):
            normed = len(self.blocks) > 0  # no norm on what sees the image
            conv = layers.halve(above, below, kernel, bias=norm == "none")
            self.blocks.append(stack(conv=conv, **after(below, normed=normed)))
        self.head = block(pool=layers.Pool(kind="sum"), score=Score(features=widths[-1], classes=classes, bias=True))
        layers.initialise(self, f"{here}.init", **init)
