"""Data of which a random part of each image is drawn. Everything that is not drawn shows the middle."""

from __future__ import annotations

from torch import Tensor

from ganrun.core import limits
from ganrun.core.errors import ConfigError
from ganrun.data.datasets.base import Dataset, DataSets
from ganrun.data.transforms.framing import Framing
from ganrun.data.transforms.value_range import ValueRange


class Framed(Dataset):
    """The middle of each image of another data set; drawn are squares anywhere in it, and their mirror images."""

    def __init__(self, whole: Dataset, framing: Framing):
        """`whole` has the images as they are stored; its inputs, and what its images should become, are framed too."""
        self._whole, self._taken, self.framing = whole, framing, framing
        self.channels, self.resolution, self.classes = whole.channels, framing.resolution, whole.classes
        self.labels, self.text, self.embedding = whole.labels, whole.text, whole.embedding
        self.captions, self.stacked, self.may_lack = whole.captions, whole.stacked, whole.may_lack
        self.test = None if whole.test is None else Framed(whole.test, framing)
        self.notes = whole.notes

    @property
    def stored(self) -> Dataset:
        """The whole images."""
        return self._whole

    @property
    def inputs(self) -> Dataset | None:  # type: ignore[override]
        """Of pairs: the middle of what each image is made from."""
        return None if self._whole.inputs is None else Framed(self._whole.inputs, self._taken)

    @property
    def truth(self) -> Dataset | None:  # type: ignore[override]
        """The middle of each image in the other domain, where that is known."""
        return None if self._whole.truth is None else Framed(self._whole.truth, self._taken)

    @property
    def content(self) -> Tensor | None:
        """The class of what each image shows. [N] int64"""
        return self._whole.content

    @property
    def kind(self) -> str:
        """That of the whole images."""
        return self._whole.kind

    def part(self, rows: Tensor) -> Framed:
        """The middles of these images [M]."""
        return Framed(self._whole.part(rows), self._taken)

    def __len__(self) -> int:
        return len(self._whole)

    def image(self, index: int) -> Tensor:
        return self._taken.centre(self._whole.image(index))

    def bulk(self) -> tuple[Tensor, Tensor | None]:
        images, labels = self._whole.bulk()
        return self._taken.centre(images), labels

    def file_names(self) -> list[str]:
        """Those of the whole images."""
        return self._whole.file_names()

    def value_range(self) -> ValueRange:
        """That of the whole images."""
        return self._whole.value_range()

    def fingerprint(self) -> str:
        """That of the whole images: what is taken of them are settings."""
        return self._whole.fingerprint()


def frame(data: DataSets, framing: Framing) -> DataSets:
    """The data of every stream, drawn as `framing` says; held-out images show the middle.

    Raises ConfigError for no probability, and for points of 1 pixel, which have no mirror image.
    """
    limits.number(".mirrored", framing.mirrored, 0, 1 + 1e-9)
    if data.resolution == 1:
        raise ConfigError(".mirrored", "points of 1 pixel have no picture to move", "0 for these data", ".mirrored=0")
    streams = {name: Framed(dataset, framing) for name, dataset in data.streams.items()}
    for dataset in streams.values():
        dataset.notes = [*dataset.notes, _note(dataset.stored, framing)]
    return data.with_streams(streams)


def _note(whole: Dataset, framing: Framing) -> str:
    """What is drawn, in words."""
    side = framing.resolution
    square = f"a random square of {side}x{side} pixels of {whole.resolution}x{whole.resolution}"
    words = [square] if side < whole.resolution else []
    words += [f"mirrored with p = {framing.mirrored:g}"] if framing.mirrored else []
    return f"each image as it is drawn: {', '.join(words) or 'as it is'}; held-out images show the middle"
