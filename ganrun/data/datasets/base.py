"""The interface of data sets: images and labels by index, one data set or several as named streams."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Self

import torch
from torch import Tensor

from ganrun.core.context import Condition
from ganrun.core.errors import ConfigError
from ganrun.data.readers.evenly_spaced import evenly_spaced
from ganrun.data.transforms.classes import ClassSelection, select_classes
from ganrun.data.transforms.framing import Framing
from ganrun.data.transforms.value_range import ValueRange, range_of, to_units

SAMPLED = 256  # images from which the value range of a data set is estimated that is not in memory


class DataSets(ABC):
    """What a game draws from: one data set, or several of one shape, by the names of their streams."""

    channels: int
    resolution: int  # height and width, in pixels
    classes: tuple[str, ...] = ()  # names; empty when unlabelled
    labels: Tensor | None = None  # [N] int64 in 0..len(classes)-1
    stacked: int = 0  # classes of a channel, where the channels write the class of their image as a number; else 0
    may_lack: bool = False  # whether the user said that files which cannot be read are to be left out
    notes: Sequence[str] = ()  # sentences: what was found, changed or left out; whoever opens data tells them

    def file_names(self) -> list[str]:
        """The names of the files in use, for a resumed run to tell which are gone; none where that is not told."""
        return []

    @property
    @abstractmethod
    def streams(self) -> Mapping[str, Dataset]:
        """The data set of each stream."""

    def with_streams(self, streams: Mapping[str, Dataset]) -> DataSets:
        """The same with these data sets as its streams. Raises ConfigError where that cannot be."""
        found = f"set, and {type(self).__name__} cannot be divided"
        raise ConfigError(".held_out", found, "0 for these data", ".held_out=0")

    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of the data, which a resumed run compares: count, shape, classes, and a sample of the content."""


class Dataset(DataSets):
    """Images of one shape, by index, each with a label or all without.

    An image depends on its index only, not on the order of access or on the process.
    """

    test: Dataset | None = None  # held-out images, or the data's own test split: no run trains on them
    captions: Sequence[str] = ()  # a sentence for each image; empty where the data have none
    text: Tensor | None = None  # [N, L] int64, the words of the captions by number, where networks are to read them
    embedding: Tensor | None = None  # [N, E] float32, what another network made of the captions
    inputs: Dataset | None = None  # of pairs: its image i is what image i is made from, and both are drawn together
    truth: Dataset | None = None  # its image i is image i in the other domain, where that is known; never drawn
    framing: Framing | None = None  # which part of an image as it is stored is taken when it is drawn; None: all of it
    _fingerprint: str | None = None

    @property
    def stored(self) -> Dataset:
        """The images as they are stored; others than its own where `framing` takes a part of them."""
        return self

    @property
    def streams(self) -> Mapping[str, Dataset]:
        """The only stream, `images`: the data set itself."""
        return {"images": self}

    def with_streams(self, streams: Mapping[str, Dataset]) -> DataSets:
        """The only stream."""
        return streams["images"]

    @property
    def content(self) -> Tensor | None:
        """The class of what each image shows, also of data whose classes no network is told. [N] int64"""
        return self.labels

    @property
    def kind(self) -> str:
        """What messages call these data."""
        return type(self).__name__

    def part(self, rows: Tensor) -> Dataset:
        """The images at these indices [M], in this order, as a data set with the same classes."""
        return Part(self, rows)

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def image(self, index: int) -> Tensor:
        """One image. [C, H, W] uint8 in 0..255, or float32 in [-1, 1]"""

    @property
    def condition(self) -> Condition:
        """What networks may read beside each image, on the host: labels [N], captions [N, L] or [N, E]."""
        return Condition(labels=self.labels, text=self.text, embedding=self.embedding)

    def label(self, index: int) -> int:
        """The class of one image, 0..len(classes)-1. Labelled data only."""
        assert self.labels is not None, "the data have no labels"
        return int(self.labels[index])

    def bulk(self) -> tuple[Tensor, Tensor | None]:
        """All images [N, C, H, W] and labels [N]."""
        first = self.image(0)
        images = torch.empty((len(self), *first.shape), dtype=first.dtype)
        for index in range(len(self)):
            images[index] = self.image(index)
        return images, self.labels

    def fingerprint(self) -> str:
        """A hash of the data, which a resumed run compares: count, shape, classes, and a sample of the content.

        Read once: a file that vanishes later must not keep a run from being saved.
        """
        if self._fingerprint is None:
            self._fingerprint = self._read_fingerprint()
        return self._fingerprint

    def _read_fingerprint(self) -> str:
        digest = blake2b(repr((len(self), self.channels, self.resolution, self.classes)).encode(), digest_size=8)
        for index in evenly_spaced(len(self), 32):
            digest.update(self.image(index).contiguous().numpy().tobytes())
        for given in self.condition:
            if given is not None:
                digest.update(given[evenly_spaced(len(self), 4096)].numpy().tobytes())
        return digest.hexdigest()

    def value_range(self) -> ValueRange:
        """Least, greatest and mean value, where 8-bit data are in [-1, 1]; estimated from a sample of the images."""
        return range_of(to_units(self._sample()))

    def _copied(self, rows: Tensor) -> Self:
        """A copy with the labels and captions of these images [M] alone; who calls it cuts the images."""
        twin = copy.copy(self)
        _take_conditions(twin, self, rows)
        twin._fingerprint = None
        return twin

    def _sample(self) -> Tensor:
        """Images spread evenly over the data. [M, C, H, W]"""
        return torch.stack([self.image(index) for index in evenly_spaced(len(self), SAMPLED)])


def _take_conditions(part: Dataset, whole: Dataset, rows: Tensor) -> None:
    """Give a part the labels, captions and text of these images [M] of the whole."""
    some = whole.condition.each(lambda given: given[rows])
    part.labels, part.text, part.embedding = some.labels, some.text, some.embedding
    if "captions" in vars(whole):  # kept, not made of something else when they are asked for
        part.captions = [whole.captions[row] for row in rows.tolist()]


class Part(Dataset):
    """Some images of a data set, read from it when they are asked for."""

    def __init__(self, whole: Dataset, rows: Tensor):
        """`rows` [M] are their indices in the whole."""
        self._whole, self._rows = whole, rows
        self.channels, self.resolution, self.classes = whole.channels, whole.resolution, whole.classes
        _take_conditions(self, whole, rows)
        self.may_lack, self.notes, self.stacked = whole.may_lack, whole.notes, whole.stacked

    @property
    def kind(self) -> str:
        """That of the whole."""
        return self._whole.kind

    def __len__(self) -> int:
        return len(self._rows)

    def image(self, index: int) -> Tensor:
        return self._whole.image(int(self._rows[index]))

    def file_names(self) -> list[str]:
        """The names of the files in use, with those of held-out images."""
        names = self._whole.file_names()
        own = [names[row] for row in self._rows.tolist()] if names else []
        return own + (self.test.file_names() if self.test is not None else [])

    def value_range(self) -> ValueRange:
        """That of the whole."""
        return self._whole.value_range()


class InMemory(Dataset):
    """A data set that is one tensor in memory."""

    def __init__(self, *, images: Tensor, labels: Tensor | None, names: Sequence[str], classes: ClassSelection):
        """`images` [N, C, H, W], `labels` [N] int64; `classes` are the selected ones, null for all."""
        indices, self.labels, self.classes = select_classes(classes, names, labels)
        self.images = images if indices is None else images[indices]
        self.channels, self.resolution = images.shape[1], images.shape[2]

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> Tensor:
        return self.images[index]

    def part(self, rows: Tensor) -> Self:
        """These images [M], as data of the same kind."""
        twin = self._copied(rows)
        twin.images = self.images[rows]
        return twin

    def bulk(self) -> tuple[Tensor, Tensor | None]:
        return self.images, self.labels

    def value_range(self) -> ValueRange:
        """Least, greatest and mean value of all images, where 8-bit data are in [-1, 1]."""
        found = range_of(self.images)
        return ValueRange(*(v / 127.5 - 1 for v in found)) if self.images.dtype == torch.uint8 else found
