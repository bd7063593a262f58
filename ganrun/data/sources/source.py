"""Sources of batches of real images. Resident and streamed data give the same batches, bit for bit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from ganrun.core.context import Batch, BatchShape, Condition
from ganrun.core.images import at_resolution
from ganrun.core.ranks import ALONE, Rank
from ganrun.core.seeding import generator
from ganrun.data.datasets.base import Dataset
from ganrun.data.sources.order import Order
from ganrun.data.transforms.value_range import to_units

Rows = tuple[Tensor, Condition]  # images as stored [B, C, H, W], and what belongs to them


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
        images, condition = self._next(shape.images)
        self._seen += shape.images * self.rank.world
        return Batch(at_resolution(to_units(images), shape.resolution), condition)

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
        images, condition = self._fetch(indices)
        return Batch(to_units(images), condition)

    def held_out(self, most: int | None = None) -> Batch | None:
        """The held-out images, [N, C, H, W] on the device; None when the data set has none.

        At most this many of them: then the same selection in every run.
        """
        test = self.dataset.test
        if test is None:
            return None
        if most is not None and most < len(test):
            test = test.part(torch.randperm(len(test), generator=generator(0, "held-out images"))[:most])
        images, _ = test.bulk()
        return Batch(to_units(images).to(self.device), test.condition.each(self._put))

    def examples(self, count: int) -> Batch:
        """A fixed selection, a function of the seed only; repeats when there are too few. [count, C, H, W]

        The same in all processes. Does not change the position.
        """
        order = torch.randperm(len(self.dataset), generator=generator(self.seed, "examples"))
        images, condition = self._fetch(order.repeat(-(-count // len(order)))[:count])
        return Batch(to_units(images), condition)

    def _put(self, tensor: Tensor) -> Tensor:
        """A tensor of the host's on the device."""
        return tensor.to(self.device, non_blocking=True)

    def close(self) -> None:
        """End worker processes. May be repeated; drawing starts them again."""
        self._stop()

    @abstractmethod
    def _next(self, images: int) -> Rows:
        """The next images as stored, on the device, and their conditions."""

    @abstractmethod
    def _fetch(self, indices: Tensor) -> Rows:
        """The images at these indices [B] as stored, on the device, and their conditions."""

    @abstractmethod
    def _stop(self) -> None:
        """Forget whatever was read ahead."""


class Resident(Source):
    """All images on the device, indexed there without waiting for the host."""

    def _open(self) -> None:
        images, _ = self.dataset.bulk()
        # rows of channels last, so that picking rows gives batches in that format without another copy
        self._images = images.permute(0, 2, 3, 1).contiguous().to(self.device)  # [N, H, W, C]
        self._conditions = self.dataset.condition.each(self._put)

    def _order_device(self) -> torch.device:
        return self.device

    def _next(self, images: int) -> Rows:
        return self._rows(self._order.take(self._share(images), images))

    def _fetch(self, indices: Tensor) -> Rows:
        return self._rows(indices.to(self.device))

    def _stop(self) -> None:
        """Nothing is read ahead."""

    def _rows(self, indices: Tensor) -> Rows:
        images = self._images.index_select(0, indices).permute(0, 3, 1, 2)
        return images, self._conditions.each(lambda given: given.index_select(0, indices))
