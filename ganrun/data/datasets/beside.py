"""Two data sets in step: image i of one belongs to image i of the other."""

from __future__ import annotations

from typing import Self

from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.data.datasets.base import Dataset
from ganrun.data.transforms.value_range import ValueRange


class Beside(Dataset):
    """A data set, and another whose image i belongs to image i of it. Parts of it stay in step."""

    def __init__(self, images: Dataset, others: Dataset):
        """Raises ConfigError for data sets of different lengths."""
        if len(images) != len(others):
            found = f"{len(others):,} images ({others.kind}) for {len(images):,} ({images.kind})"
            raise ConfigError(".", found, "as many of both, image i of one for image i of the other")
        self._images, self._others = images, others
        self.channels, self.resolution, self.stacked = images.channels, images.resolution, images.stacked
        self.classes, self.labels = images.classes, images.labels
        self.may_lack = images.may_lack or others.may_lack
        self.notes = images.notes

    @property
    def kind(self) -> str:
        """That of the images."""
        return self._images.kind

    def part(self, rows: Tensor) -> Self:
        """These images [M], each beside its own."""
        twin = self._copied(rows)
        twin._images, twin._others, twin.test = self._images.part(rows), self._others.part(rows), None
        return twin

    def __len__(self) -> int:
        return len(self._images)

    def image(self, index: int) -> Tensor:
        return self._images.image(index)

    def bulk(self) -> tuple[Tensor, Tensor | None]:
        return self._images.bulk()[0], self.labels

    def file_names(self) -> list[str]:
        """Those of the images, with those of held-out images."""
        return self._images.file_names() + (self.test.file_names() if self.test is not None else [])

    def value_range(self) -> ValueRange:
        """That of the images."""
        return self._images.value_range()


class Known(Beside):
    """Images of one domain, of which each is known in the other domain too: what a translation should be."""

    @property
    def truth(self) -> Dataset:  # type: ignore[override]
        """The same images in the other domain."""
        return self._others


def check_equal(**sets: Dataset) -> None:
    """Refuse two data sets of different shapes, by the names that they are given here. Raises ConfigError."""
    (one, a), (other, b) = sets.items()
    for key in ("channels", "resolution"):
        first, second = getattr(a, key), getattr(b, key)
        if first != second:
            found = f"{first} in {one} ({type(a).__name__}) and {second} in {other} ({type(b).__name__})"
            both = max(first, second) if key == "channels" else min(first, second)  # grey can be shown in colour
            raise ConfigError(f".{key}", found, "the same", f".{key}={both}")


def check_stated(data: Dataset, **stated: int | None) -> None:
    """Refuse a shape that is set and is not that of the data. Raises ConfigError."""
    for key, value in stated.items():
        found = getattr(data, key)
        if value not in (None, found):
            raise ConfigError(f".{key}", f"{value}, but the data have {found}", f"{found}, or null", f".{key}=null")
