"""Data sets whose images are those of another, each changed by a known map: second domains for translation."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.data.datasets.base import Dataset
from ganrun.data.transforms.resize import convert_channels
from ganrun.data.transforms.value_range import ValueRange, to_negative

BRIGHT = 255.0  # of 8-bit values


class Mapped(Dataset):
    """The images of another data set, each changed. Labels and order stay."""

    def __init__(self, *, dataset: Dataset):
        """`dataset` has the images before; its held-out images are changed too."""
        self._before = dataset
        self.channels, self.resolution = dataset.channels, dataset.resolution
        self.classes, self.labels = dataset.classes, dataset.labels
        self.may_lack, self.notes = dataset.may_lack, dataset.notes
        self.test = None if dataset.test is None else self._of(dataset.test)

    @abstractmethod
    def changed(self, images: Tensor) -> Tensor:
        """The images after the map, of the same shape and type. [N, C, H, W], uint8 in 0..255 or float32 in [-1, 1]"""

    def part(self, rows: Tensor) -> Self:
        """These images [M], changed."""
        return self._of(self._before.part(rows))

    def _of(self, before: Dataset) -> Self:
        """Other images, changed in the same way."""
        twin = copy.copy(self)
        twin._before, twin.labels, twin.notes = before, before.labels, before.notes
        twin.test = twin._fingerprint = None
        return twin

    def file_names(self) -> list[str]:
        """Those of the images before, with those of held-out images."""
        return self._before.file_names() + (self.test.file_names() if self.test is not None else [])

    def __len__(self) -> int:
        return len(self._before)

    def image(self, index: int) -> Tensor:
        return self.changed(self._before.image(index)[None])[0]

    def bulk(self) -> tuple[Tensor, Tensor | None]:
        images, labels = self._before.bulk()
        return self.changed(images), labels


class Negative(Mapped):
    """The negatives of another data set: x becomes -x, 8-bit values 255 - x."""

    def changed(self, images: Tensor) -> Tensor:
        """Mirrored values. [N, C, H, W]"""
        return to_negative(images)

    def value_range(self) -> ValueRange:
        """The mirrored range of the images before."""
        low, high, mean = self._before.value_range()
        return ValueRange(-high, -low, -mean)


class Grey(Mapped):
    """The images of another data set without their colours: every channel becomes the luma. ITU-R BT.601."""

    def changed(self, images: Tensor) -> Tensor:
        """Luma in every channel. [N, C, H, W]"""
        return convert_channels(convert_channels(images, 1), images.shape[1]).contiguous()


class Tinted(Mapped):
    """The images of another data set through coloured glass: black stays black, white becomes `colour`."""

    def __init__(self, *, dataset: Dataset, colour: Sequence[float]):
        """`colour`: red, green and blue from 0 to 255; of grey images their mean. Raises ConfigError for others."""
        super().__init__(dataset=dataset)
        if len(colour) != 3 or not all(0 <= value <= BRIGHT for value in colour):
            raise ConfigError(".colour", f"{list(colour)}", "red, green and blue, 0 to 255", ".colour=[255,160,0]")
        self.colour = list(colour) if self.channels == 3 else [sum(colour) / 3] * self.channels

    def changed(self, images: Tensor) -> Tensor:
        """Each channel's distance from black, times its share of the colour. [N, C, H, W]"""
        share = torch.tensor(self.colour).view(-1, 1, 1) / BRIGHT
        if images.dtype == torch.uint8:
            return (images * share).round().to(torch.uint8)
        return (images + 1) * share - 1
