"""Data order: a function of seed and epoch, so that a position in it is a number of images."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ganrun.core.ranks import ALONE, Rank
from ganrun.core.seeding import generator

BLOCK = 4096  # positions whose random numbers are drawn at once


class Order:
    """An endless sequence of epochs, each a permutation of the images. Does not use torch's global generators."""

    def __init__(self, *, count: int, seed: int, device: torch.device | None = None, stream: str = "data"):
        """`stream` names the random numbers, so that two orders of one seed differ."""
        self.stream = stream
        self.count, self.seed, self.device = count, seed, device or torch.device("cpu")
        self._epoch = -1
        self._permutation = torch.empty(0, dtype=torch.int64)

    def epoch(self, number: int) -> Tensor:
        """The permutation of one epoch, on the device. [N] int64"""
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


class Numbers:
    """Three random numbers for each position of an order: a function of seed, stream and position."""

    def __init__(self, *, seed: int, stream: str, device: torch.device):
        """`stream` is that of the order; the numbers are kept on the device, a block at a time."""
        self.seed, self.stream, self.device = seed, f"{stream}/framing", device
        self._number, self._block = -1, torch.empty(0, 3)

    def block(self, number: int) -> Tensor:
        """The numbers of `BLOCK` positions, on the device. [BLOCK, 3] in [0, 1)"""
        if number != self._number:
            drawn = torch.rand(BLOCK, 3, generator=generator(self.seed, self.stream, step=number))
            self._number, self._block = number, drawn.to(self.device, non_blocking=True)
        return self._block

    def take(self, start: int, images: int) -> Tensor:
        """The numbers of the images from this position on. [images, 3] in [0, 1)"""
        pieces = []
        while images > 0:
            number, offset = divmod(start, BLOCK)
            pieces.append(self.block(number)[offset : offset + images])
            start, images = start + len(pieces[-1]), images - len(pieces[-1])
        return torch.cat(pieces)


class Chunks:
    """The order of one process cut into lists of indices, for the workers of a loader. Endless."""

    def __init__(self, *, order: Order, start: int, images: int, rank: Rank = ALONE):
        """Lists of `images` indices; from position `start` on, the processes take lists in turn."""
        self.order, self.start, self.images, self.rank = order, start, images, rank

    def __iter__(self) -> Iterator[list[int]]:
        position = self.start + self.rank.number * self.images
        while True:
            yield self.order.take(position, self.images).tolist()
            position += self.images * self.rank.world
