"""Data sets: images and labels by index, and what is measured about them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

import torch
from torch import Tensor

from ganrun.data.transforms.classes import Wanted, select

SAMPLED = 256  # how many images a measurement looks at when the data are not in memory


class Span(NamedTuple):
    """Measured values, in the units a generator speaks: 8-bit data lie in [-1, 1]."""

    low: float
    high: float
    mean: float


def to_units(images: Tensor) -> Tensor:
    """8-bit values 0..255 to float32 in [-1, 1], x / 127.5 - 1; floats are in these units already."""
    return images.to(torch.float32).div_(127.5).sub_(1) if images.dtype == torch.uint8 else images


def evenly(total: int, count: int) -> list[int]:
    """At most `count` indices spread over `total`, first and last among them."""
    count = min(total, count)
    return [i * (total - 1) // max(count - 1, 1) for i in range(count)]


class DataSets(ABC):
    """What a game draws from: one data set, or several of one shape, by the names of their streams."""

    channels: int
    resolution: int  # height and width, in pixels
    classes: tuple[str, ...] = ()  # names; empty when unlabelled
    labels: Tensor | None = None  # [N] int64 in 0..len(classes)-1

    @property
    @abstractmethod
    def streams(self) -> Mapping[str, Dataset]:
        """The data set of each stream."""

    @abstractmethod
    def fingerprint(self) -> str:
        """What a resumed run compares: count, shape, classes, and the content of a sample."""


class Dataset(DataSets):
    """Images of one shape, by index, with a label each or none at all. Any order, any process, same answer."""

    test: Dataset | None = None  # images that are kept out of training

    @property
    def streams(self) -> Mapping[str, Dataset]:
        """This data set is the only stream."""
        return {"images": self}

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def image(self, index: int) -> Tensor:
        """One image. [C, H, W] uint8 in 0..255, or float32 in the units of `Span`"""

    def label(self, index: int) -> int:
        assert self.labels is not None, "unlabelled data were asked for a label"
        return int(self.labels[index])

    def bulk(self) -> tuple[Tensor, Tensor | None]:
        """Everything at once. [N, C, H, W] and [N]"""
        first = self.image(0)
        images = torch.empty((len(self), *first.shape), dtype=first.dtype)
        for index in range(len(self)):
            images[index] = self.image(index)
        return images, self.labels

    def fingerprint(self) -> str:
        """What a resumed run compares: count, shape, classes, and the content of a sample."""
        digest = blake2b(repr((len(self), self.channels, self.resolution, self.classes)).encode(), digest_size=8)
        for index in evenly(len(self), 32):
            digest.update(self.image(index).contiguous().numpy().tobytes())
        if self.labels is not None:
            digest.update(self.labels[evenly(len(self), 4096)].numpy().tobytes())
        return digest.hexdigest()

    def span(self) -> Span:
        images = to_units(self._sample())
        return Span(float(images.min()), float(images.max()), float(images.mean(dtype=torch.float64)))

    def _sample(self) -> Tensor:
        """The images that stand for all when values are measured. [M, C, H, W]"""
        return torch.stack([self.image(index) for index in evenly(len(self), SAMPLED)])


class Held(Dataset):
    """A data set that is one tensor in memory."""

    def __init__(self, *, images: Tensor, labels: Tensor | None, names: Sequence[str], classes: Wanted):
        """`images` [N, C, H, W], `labels` [N] int64; `classes` are the wanted ones, null for all."""
        indices, self.labels, self.classes = select(classes, names, labels)
        self.images = images if indices is None else images[indices]
        self.channels, self.resolution = images.shape[1], images.shape[2]

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> Tensor:
        return self.images[index]

    def bulk(self) -> tuple[Tensor, Tensor | None]:
        return self.images, self.labels

    def span(self) -> Span:
        low, high = torch.aminmax(self.images)
        mean = self.images.mean(dtype=torch.float64)
        if self.images.dtype == torch.uint8:
            return Span(float(low) / 127.5 - 1, float(high) / 127.5 - 1, float(mean) / 127.5 - 1)
        return Span(float(low), float(high), float(mean))
