"""Photographic negatives: a second domain whose map from the first is known exactly."""

from __future__ import annotations

from torch import Tensor

from ganrun.data.datasets.base import Dataset
from ganrun.data.transforms.value_range import ValueRange, to_negative


class Negative(Dataset):
    """The negatives of another data set: x becomes -x, 8-bit values 255 - x. Labels and order stay."""

    def __init__(self, *, dataset: Dataset):
        """`dataset` has the positives; its held-out images are negated too."""
        self._positives = dataset
        self.channels, self.resolution = dataset.channels, dataset.resolution
        self.classes, self.labels = dataset.classes, dataset.labels
        self.notes = dataset.notes

    @property
    def test(self) -> Negative | None:  # type: ignore[override]
        """The negatives of the held-out images."""
        held_out = self._positives.test
        return None if held_out is None else Negative(dataset=held_out)

    def __len__(self) -> int:
        return len(self._positives)

    def image(self, index: int) -> Tensor:
        return to_negative(self._positives.image(index))

    def bulk(self) -> tuple[Tensor, Tensor | None]:
        images, labels = self._positives.bulk()
        return to_negative(images), labels

    def value_range(self) -> ValueRange:
        """The mirrored range of the positives."""
        low, high, mean = self._positives.value_range()
        return ValueRange(-high, -low, -mean)
