"""Data order: a function of (seed, epoch), so that a position is a count of images seen."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ganrun.core.seeding import generator


class Order:
    """An endless sequence of epochs, each a permutation of the images. Leaves torch's own generators alone."""

    def __init__(self, *, count: int, seed: int, device: torch.device | None = None, stream: str = "data"):
        """`stream` names the random numbers, so that two orders of one seed differ."""
        self.stream = stream
        self.count, self.seed, self.device = count, seed, device or torch.device("cpu")
        self._epoch = -1
        self._permutation = torch.empty(0, dtype=torch.int64)

    def epoch(self, number: int) -> Tensor:
        """This epoch's permutation. [N] int64, on the device; moved there once an epoch."""
        if number != self._epoch:
            permutation = torch.randperm(self.count, generator=generator(self.seed, self.stream, step=number))
            self._epoch, self._permutation = number, permutation.to(self.device, non_blocking=True)
        return self._permutation

    def take(self, start: int, images: int) -> Tensor:
        """The indices of the images from this position on; they may cross any number of epochs. [images] int64"""
        pieces = []
        while images > 0:
            number, offset = divmod(start, self.count)
            piece = self.epoch(number)[offset : offset + images]
            pieces.append(piece)
            start, images = start + len(piece), images - len(piece)
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


class Chunks:
    """The same order cut into lists, for a loader's workers. Endless."""

    def __init__(self, *, order: Order, start: int, images: int, world: int = 1):
        """Lists of `images` indices from position `start` on, every `world`-th list."""
        self.order, self.start, self.images, self.world = order, start, images, world

    def __iter__(self) -> Iterator[list[int]]:
        position = self.start
        while True:
            yield self.order.take(position, self.images).tolist()
            position += self.images * self.world
