"""The game of MSG-GAN: an image is a pyramid of several scales, made and judged as one. Karnewar & Wang 2020."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ganrun.core import limits
from ganrun.core.context import BatchShape, Latent, Terms
from ganrun.core.facts import Fact
from ganrun.core.images import Images, pyramid, scales
from ganrun.core.pair import Pair
from ganrun.core.seeding import the_same_each_time
from ganrun.core.traits import Traits
from ganrun.games.latent import LatentGame

COVARIANCE = 5.0  # weight of covariances beside means: lambda 2 of the paper, with lambda 1 = 1
SHOWN = 8  # noises in the picture of all scales, at most


class PyramidGame(LatentGame):
    """Images from noise at several scales at once. MSG-GAN, Karnewar & Wang 2020 (arXiv 1903.06048), section 2.

    D is given all scales: those that G makes, or a real image and its means over 2x2 pixels, 4x4 pixels and so on.
    Samples are the largest scale.
    """

    pyramids: ClassVar[bool] = True
    instead: ClassVar[str] = "model=msggan, or game=latent"

    def __init__(self, *, pairs: Mapping[str, Pair], shape: BatchShape, prior: str, grid: int, colour: float):
        """`colour` is the weight of `colour_consistency`. Raises ConfigError for a negative one."""
        super().__init__(pairs=pairs, shape=shape, prior=prior, grid=grid)
        limits.number(".colour", colour, 0)
        self.colour = colour

    @property
    def traits(self) -> Traits:  # type: ignore[override]
        """Those of images from noise, but they have several scales."""
        found = super().traits
        return replace(found, provides=found.provides - {Fact.SINGLE_SCALE})

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Those of all scales."""
        count = int(self.pair.generator.scales)  # type: ignore[arg-type]
        return tuple(self.shape.resolution >> halvings for halvings in reversed(range(count)))

    def shown(self, real: Tensor) -> Images:
        """The pyramid of each real, of as many scales as the generator makes. [B, C, H, W]"""
        return pyramid(real, self.pair.generator.scales)  # type: ignore[arg-type]

    def own_terms(self, fake: Images, latent: Latent) -> Terms:
        """How much the colours of the scales of each fake differ. []"""
        own = super().own_terms(fake, latent)
        return own | {"colour": self.colour * colour_consistency(scales(fake))} if self.colour else own

    @torch.no_grad()
    def pictures(self) -> Mapping[str, Tensor]:
        """The traversals of tricks; and as `scales`, all scales of some images of the grid, a row for each image.

        [rows, columns, C, H, W] in [-1, 1]
        """
        count, given = len(self.grid), self.grid_condition()
        spread = torch.arange(min(SHOWN, count), device=self.grid.device) * count // min(SHOWN, count)
        given = None if given is None else given[spread]
        with self.pair.sampler() as generator, the_same_each_time(self.grid.device):
            made = scales(generator(self.grid[spread], given))
        size = made[-1].shape[2:]
        enlarged = [F.interpolate(images.float(), size=size, mode="nearest") for images in made]
        return {**super().pictures(), "scales": torch.stack(enlarged, 1)}


def colour_consistency(made: Sequence[Tensor]) -> Tensor:
    """How much the colours of each scale differ from those of the scale before, which it does not change.

    The mean square of the difference of mean pixels, and 5 times that of the covariances of channels, summed over
    neighbours. [B, C, H, W] each -> []. Zhang et al. 2018 (StackGAN++), section 4.3. As in trainer.py of the authors,
    mean squares over images and channels, and no gradient for the smaller scale.
    """
    terms = []
    for small, large in pairwise(map(Tensor.float, made)):
        means, covariances = zip(moments(small.detach()), moments(large), strict=True)
        terms += [F.mse_loss(*means), COVARIANCE * F.mse_loss(*covariances)]
    return torch.stack(terms).sum()


def moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean pixels, and covariances of channels over the pixels of an image. [B, C, H, W] -> [B, C], [B, C, C]"""
    pixels = images.flatten(2)
    apart = pixels - pixels.mean(2, keepdim=True)
    return pixels.mean(2), apart @ apart.mT / pixels.shape[2]
