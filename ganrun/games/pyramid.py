"""The game of MSG-GAN: an image is a pyramid of several scales, made and judged as one. Karnewar & Wang 2020."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from ganrun.core.facts import Fact
from ganrun.core.images import Images, pyramid, scales
from ganrun.core.seeding import the_same_each_time
from ganrun.core.traits import Traits
from ganrun.games.latent import LatentGame

SHOWN = 8  # noises in the picture of all scales, at most


class PyramidGame(LatentGame):
    """Images from noise at several scales at once. MSG-GAN, Karnewar & Wang 2020 (arXiv 1903.06048), section 2.

    D is given all scales: those that G makes, or a real image and its means over 2x2 pixels, 4x4 pixels and so on.
    Samples are the largest scale.
    """

    pyramids: ClassVar[bool] = True

    @property
    def traits(self) -> Traits:  # type: ignore[override]
        """Those of images from noise, but they have several scales."""
        found = super().traits
        return replace(found, provides=found.provides - {Fact.SINGLE_SCALE})

    def shown(self, real: Tensor) -> Images:
        """The pyramid of each real, of as many scales as the generator makes. [B, C, H, W]"""
        return pyramid(real, self.pair.generator.scales)  # type: ignore[arg-type]

    @torch.no_grad()
    def pictures(self) -> Mapping[str, Tensor]:
        """The traversals of tricks; and as `scales`, all scales of some images of the grid, a row for each image.

        [rows, columns, C, H, W] in [-1, 1]
        """
        labels = None if self.grid_labels is None else self.grid_labels[:SHOWN]
        with self.pair.sampler() as generator, the_same_each_time(self.grid.device):
            made = scales(generator(self.grid[:SHOWN], labels))
        size = made[-1].shape[2:]
        enlarged = [functional.interpolate(images.float(), size=size, mode="nearest") for images in made]
        return {**super().pictures(), "scales": torch.stack(enlarged, 1)}
