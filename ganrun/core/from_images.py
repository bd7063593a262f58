"""Games whose images are made from images: what pictures, probes, measures and `ganrun sample` need of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganrun.core.context import Batches
from ganrun.core.game import Game
from ganrun.core.pair import Pair
from ganrun.core.seeding import the_same_each_time


class FromImages(Game):
    """A game that translates images, in one direction for each of its pairs."""

    back: ClassVar[Mapping[str, str]] = {}  # direction -> the one that leads back, where there is one
    origins: ClassVar[Mapping[str, str]]  # direction -> the stream whose images are translated, or whose inputs are

    @abstractmethod
    def given(self, direction: str, batches: Batches) -> Tensor:
        """What is translated in this direction, of the batches of an update. [B, C, H, W]"""

    @torch.no_grad()
    def translate(self, direction: str, images: Tensor) -> Tensor:
        """Translations by the averaged generator, in evaluation mode. [B, C, H, W] in [-1, 1] -> the same size

        Layers that draw random numbers draw them from torch's generator. Images of a size that the network does not
        take are continued at their right and lower edge before, and cut after.
        """
        with self._pair(direction).sampler() as generator:
            whole = continued(images, getattr(generator, "multiple", 1), getattr(generator, "least", 1))
            made: Tensor = generator(whole, None)
        return made[..., : images.shape[2], : images.shape[3]].float()

    def _translated(self, direction: str, images: Tensor) -> Tensor:
        """Translations by the generator as it trains, in float32. [B, C, H, W] -> [B, C, H, W]"""
        made: Tensor = self._pair(direction).generator(images, None)
        return made.float()

    def _pictured(self, direction: str, images: Tensor) -> Tensor:
        """Translations for pictures, with the same random numbers each time. [B, C, H, W] -> [B, C, H, W]"""
        with the_same_each_time(images.device):
            return self.translate(direction, images)

    def _pair(self, direction: str) -> Pair:
        pair = self.pairs[direction]
        assert isinstance(pair, Pair)
        return pair


def continued(images: Tensor, multiple: int, least: int) -> Tensor:
    """Images continued by their last column and row to sides that are multiples, and long enough. [B, C, H, W]"""
    missing = []
    for side in (images.shape[3], images.shape[2]):
        missing += [0, -(-max(side, least) // multiple) * multiple - side]
    return F.pad(images, missing, mode="replicate") if any(missing) else images


def reads_image(net: nn.Module) -> bool:
    """Whether a discriminator sees an image beside the one that it was made from."""
    return bool(getattr(net, "reads_image", False))
