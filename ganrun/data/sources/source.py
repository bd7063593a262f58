"""Sources: batches of real images, resident on the device or streamed through workers, bit for bit the same."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from ganrun.core.context import Batch, Stage
from ganrun.core.seeding import generator
from ganrun.data.datasets.base import Dataset, to_units
from ganrun.data.sources.order import Order


def open_source(dataset: Dataset, *, seed: int, device: torch.device, workers: int, memory: float) -> Source:
    """Keep the data on the device when they fit into `memory` GiB; stream them through `workers` processes if not."""
    from ganrun.data.sources.streamed import Streamed

    image = dataset.image(0)
    if len(dataset) * image.numel() * image.element_size() <= memory * 2**30:
        return Resident(dataset, seed=seed, device=device)
    return Streamed(dataset, seed=seed, device=device, workers=workers)


class Source(ABC):
    """Batches of real images, endless; where it stands is the count of images seen."""

    def __init__(self, dataset: Dataset, *, seed: int, device: torch.device):
        self.dataset, self.seed, self.device = dataset, seed, device
        self._seen = 0

    @property
    def seen(self) -> int:
        """Images drawn so far. Assigning to it continues exactly from there."""
        return self._seen

    @seen.setter
    def seen(self, images: int) -> None:
        self._seen = images
        self._stop()

    def draw(self, stage: Stage) -> Batch:
        """The next images, as float32 on the device. Advances the position."""
        assert 0 < stage.resolution <= self.dataset.resolution, f"{stage} of {self.dataset.resolution} pixel data"
        images, labels = self._next(stage.images)
        self._seen += stage.images
        return Batch(_reduced(to_units(images), stage.resolution), labels)

    @property
    def labels(self) -> Tensor | None:
        """The label of every image, on the host. [N] int64"""
        return self.dataset.labels

    @property
    def classes(self) -> tuple[str, ...]:
        return self.dataset.classes

    def pick(self, indices: Tensor) -> Batch:
        """These images. Does not move."""
        images, labels = self._fetch(indices)
        return Batch(to_units(images), labels)

    def kept_out(self) -> Batch | None:
        """All images that are kept out of training; None when the data set has none."""
        if self.dataset.test is None:
            return None
        images, labels = self.dataset.test.bulk()
        return Batch(to_units(images).to(self.device), None if labels is None else labels.to(self.device))

    def examples(self, count: int) -> Batch:
        """A fixed selection, a function of the seed only; repeats when there are too few. Does not move."""
        order = torch.randperm(len(self.dataset), generator=generator(self.seed, "examples"))
        images, labels = self._fetch(order.repeat(-(-count // len(order)))[:count])
        return Batch(to_units(images), labels)

    def close(self) -> None:
        """Let go of processes. Harmless when repeated; drawing starts them again."""
        self._stop()

    @abstractmethod
    def _next(self, images: int) -> tuple[Tensor, Tensor | None]:
        """The next images as stored, on the device, and their labels."""

    @abstractmethod
    def _fetch(self, indices: Tensor) -> tuple[Tensor, Tensor | None]:
        """These images as stored, on the device, and their labels."""

    @abstractmethod
    def _stop(self) -> None:
        """Forget whatever was read ahead."""


class Resident(Source):
    """Everything on the device, indexed there; nothing waits for the host."""

    def __init__(self, dataset: Dataset, *, seed: int, device: torch.device):
        super().__init__(dataset, seed=seed, device=device)
        images, labels = dataset.bulk()
        # rows of channels last, so that picking rows gives batches in that format without another copy
        self._images = images.permute(0, 2, 3, 1).contiguous().to(device)  # [N, H, W, C]
        self._labels = None if labels is None else labels.to(device)
        self._order = Order(count=len(dataset), seed=seed, device=device)

    def _next(self, images: int) -> tuple[Tensor, Tensor | None]:
        return self._rows(self._order.take(self._seen, images))

    def _fetch(self, indices: Tensor) -> tuple[Tensor, Tensor | None]:
        return self._rows(indices.to(self.device))

    def _stop(self) -> None:
        """Nothing is read ahead."""

    def _rows(self, indices: Tensor) -> tuple[Tensor, Tensor | None]:
        images = self._images.index_select(0, indices).permute(0, 3, 1, 2)
        return images, None if self._labels is None else self._labels.index_select(0, indices)


def _reduced(images: Tensor, resolution: int) -> Tensor:
    """The images at a stage's resolution, by averaging pixels. [B, C, R, R], channels last"""
    return images if images.shape[-1] == resolution else F.adaptive_avg_pool2d(images, resolution)
