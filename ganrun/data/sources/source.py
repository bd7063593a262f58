"""Sources of batches of real images. Resident and streamed data give the same batches, bit for bit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ganrun.core.context import UNCONDITIONAL, Batch, BatchShape, Condition
from ganrun.core.images import at_resolution
from ganrun.core.ranks import ALONE, Rank
from ganrun.core.seeding import generator
from ganrun.data.datasets.base import Dataset
from ganrun.data.sources.order import Numbers, Order
from ganrun.data.transforms.value_range import to_units


class Rows(NamedTuple):
    """Some images of a data set as they are stored, with all that belongs to them."""

    images: Tensor  # [B, C, H, W]
    condition: Condition = UNCONDITIONAL  # an image of it [B, C, H, W] as it is stored, too

    def each(self, change: Callable[[Tensor], Tensor]) -> Rows:
        """The same change of images and of all that belongs to them, [B, ...] each."""
        return Rows(change(self.images), self.condition.each(change))

    def pictures(self, change: Callable[[Tensor], Tensor]) -> Rows:
        """The same change of images and of images that belong to them, [B, C, H, W] each."""
        image = None if self.condition.image is None else change(self.condition.image)
        return Rows(change(self.images), self.condition._replace(image=image))

    def batch(self, device: torch.device, resolution: int | None = None) -> Batch:
        """The images [B, C, R, R] in [-1, 1] with their conditions, on this device."""

        def ready(images: Tensor) -> Tensor:
            return at_resolution(to_units(images), resolution or images.shape[-1]).to(device)

        given = self.condition
        image = None if given.image is None else ready(given.image)
        others = given._replace(image=None).each(lambda one: one.to(device, non_blocking=True))
        return Batch(ready(self.images), others._replace(image=image))


def joined(pieces: Sequence[Rows]) -> Rows:
    """All these rows as one."""
    kinds = zip(*(piece.condition for piece in pieces), strict=True)  # each kind of condition, of all pieces
    condition = Condition(*(None if given[0] is None else torch.cat(given) for given in kinds))
    return Rows(torch.cat([piece.images for piece in pieces]), condition)


def bulk(dataset: Dataset) -> Rows:
    """All rows of a data set."""
    inputs = None if dataset.inputs is None else dataset.inputs.bulk()[0]
    return Rows(dataset.bulk()[0], dataset.condition._replace(image=inputs))


def chosen(test: Dataset, most: int) -> Dataset:
    """At most this many of these held-out images, the same selection in every run."""
    if most >= len(test):
        return test
    return test.part(torch.randperm(len(test), generator=generator(0, "held-out images"))[:most])


class Source(ABC):
    """Endless batches of real images. The position is the number of images drawn so far, by all processes together."""

    def __init__(
        self,
        dataset: Dataset,
        *,
        seed: int,
        device: torch.device,
        rank: Rank = ALONE,
        stream: str = "data",
    ):
        """`rank` says which process this is; `stream` names the random order of the images."""
        self.dataset, self.seed, self.device, self.rank = dataset, seed, device, rank
        self._order = Order(count=len(dataset), seed=seed, device=self._order_device(), stream=stream)
        self._numbers = Numbers(seed=seed, stream=stream, device=device)
        self._seen = 0
        self._open()

    def _open(self) -> None:
        """Get ready to be read."""

    def _order_device(self) -> torch.device:
        """The device of the order: the host, unless images are indexed on the device."""
        return torch.device("cpu")

    @property
    def seen(self) -> int:
        """Images drawn so far, by all processes together. Assigning it continues exactly from there."""
        return self._seen

    @seen.setter
    def seen(self, images: int) -> None:
        self._seen = images
        self._stop()

    def ready(self, interrupted: Callable[[], bool]) -> bool:
        """Wait for as many images as the last step drew. False when that was interrupted."""
        return True

    def draw(self, shape: BatchShape) -> Batch:
        """The next images of this process, [B, C, H, W] float32 on the device. Advances the position."""
        assert 0 < shape.resolution <= self.dataset.resolution, f"{shape} of {self.dataset.resolution} pixel data"
        start = self._share(shape.images)
        rows = self._framed(self._next(shape.images), start)
        self._seen += shape.images * self.rank.world
        return rows.batch(self.device, shape.resolution)

    def _framed(self, rows: Rows, start: int) -> Rows:
        """The part of each picture that is drawn at this position of the order and those that follow."""
        if (framing := self.dataset.framing) is None:
            return rows
        frames = framing.frames(self._numbers.take(start, len(rows.images)), rows.images.shape[-1])
        return rows.pictures(lambda images: framing.take(images, frames))

    def _centred(self, rows: Rows) -> Rows:
        framing = self.dataset.framing
        return rows if framing is None else rows.pictures(framing.centre)

    def _share(self, images: int) -> int:
        """The position of the next batch of this process: the processes take `images` each, in turn."""
        return self._seen + self.rank.number * images

    @property
    def labels(self) -> Tensor | None:
        """The label of every image, on the host. [N] int64"""
        return self.dataset.labels

    @property
    def condition(self) -> Condition:
        """What belongs to every image, on the host: labels [N], captions [N, L] or [N, E]."""
        return self.dataset.condition

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, by label."""
        return self.dataset.classes

    def pick(self, indices: Tensor) -> Batch:
        """The images at these indices [B]: [B, C, H, W]. Does not change the position."""
        return self._centred(self._fetch(indices)).batch(self.device)

    def held_out(self, most: int | None = None) -> Batch | None:
        """The held-out images, [N, C, H, W] on the device; None when the data set has none.

        At most this many of them: then the same selection in every run.
        """
        test = self.dataset.test
        return None if test is None else bulk(test if most is None else chosen(test, most)).batch(self.device)

    def examples(self, count: int) -> Batch:
        """A fixed selection, a function of the seed only; repeats when there are too few. [count, C, H, W]

        The same in all processes. Does not change the position.
        """
        order = torch.randperm(len(self.dataset), generator=generator(self.seed, "examples"))
        return self.pick(order.repeat(-(-count // len(order)))[:count])

    def close(self) -> None:
        """End worker processes. May be repeated; drawing starts them again."""
        self._stop()

    @abstractmethod
    def _next(self, images: int) -> Rows:
        """The next rows as stored, on the device."""

    @abstractmethod
    def _fetch(self, indices: Tensor) -> Rows:
        """The rows at these indices [B] as stored, on the device."""

    @abstractmethod
    def _stop(self) -> None:
        """Forget whatever was read ahead."""


class Resident(Source):
    """All images on the device, indexed there without waiting for the host."""

    def _open(self) -> None:
        # channels last, so that picking rows gives batches in that format without another copy
        self._rows = bulk(self.dataset.stored).each(lambda column: _channels_last(column).contiguous().to(self.device))

    def _order_device(self) -> torch.device:
        return self.device

    def _next(self, images: int) -> Rows:
        return self._at(self._order.take(self._share(images), images))

    def _fetch(self, indices: Tensor) -> Rows:
        return self._at(indices.to(self.device))

    def _stop(self) -> None:
        """Nothing is read ahead."""

    def _at(self, indices: Tensor) -> Rows:
        return self._rows.each(lambda column: _channels_first(column.index_select(0, indices)))


def _channels_last(column: Tensor) -> Tensor:
    return column.permute(0, 2, 3, 1) if column.dim() == 4 else column


def _channels_first(column: Tensor) -> Tensor:
    return column.permute(0, 3, 1, 2) if column.dim() == 4 else column
