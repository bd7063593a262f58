"""Games whose images are made from noise: what samples, walks and rejection need of them after training."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganrun.core.context import UNCONDITIONAL, Condition, Latent
from ganrun.core.game import Game
from ganrun.core.images import Images, at_resolution, each_scale, scales


@dataclass(frozen=True, slots=True)
class Drawing:
    """The generator to draw samples from, in evaluation mode, and the noise to give it, truncated or not."""

    generator: nn.Module
    noise: Callable[[int], Tensor]  # count -> [count, Z], from torch's generator
    resolution: int | None = None  # pixels to a side of images; None: the most that the generator makes

    @torch.no_grad()
    def made(self, latent: Latent) -> Images:
        """Images of latents, at every scale that the generator makes. [B, C, H, W] in [-1, 1]"""
        return each_scale(self.generator(latent.noise, latent.condition.tensor), Tensor.float)

    def images(self, latent: Latent) -> Tensor:
        """Images of latents, at their largest scale or at that of `resolution`. [B, C, H, W] in [-1, 1]"""
        made = scales(self.made(latent))
        if self.resolution is None:
            return made[-1]
        of_that_size = [images for images in made if images.shape[-1] == self.resolution]
        return of_that_size[0] if of_that_size else at_resolution(made[-1], self.resolution)


class FromNoise(Game):
    """A game whose images are made from noise, and from labels where the run is conditional."""

    spherical: bool  # whether noise lies on a sphere or near one, as N(0, I) does: then paths between noises follow it
    mixes_labels: bool  # whether the generator takes shares of each class [B, K] in place of labels [B]

    @property
    @abstractmethod
    def resolutions(self) -> tuple[int, ...]:
        """The resolutions at which samples can be drawn, the largest last."""

    @contextmanager
    @abstractmethod
    def drawing(self, truncation: float | None = None, resolution: int | None = None) -> Iterator[Drawing]:
        """Within, the averaged generator and its noise; with a `truncation`, less varied and more typical.

        `resolution` is one of `resolutions`; without it samples have the largest. Raises ConfigError where truncation
        means nothing.
        """

    @abstractmethod
    def latent(self, noise: Tensor, condition: Condition = UNCONDITIONAL) -> Latent:
        """Noise [B, Z] with its condition as the tricks leave it; they may draw from torch's generator."""

    def traversals(self, noise: Tensor) -> Mapping[str, Tensor]:
        """Latents along each code of the tricks, from noise [N, Z]: name -> [rows, columns, Z]."""
        return {}
