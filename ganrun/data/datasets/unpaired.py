"""Unpaired domains: two data sets of one shape, for translation between them. Zhu et al. 2017 (CycleGAN), section 1."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ganrun.data.datasets.base import Dataset, DataSets
from ganrun.data.datasets.beside import Known, check_equal, check_stated


class Unpaired(DataSets):
    """Two data sets as the streams `a` and `b`; no image has a partner. Unlabelled as a whole."""

    def __init__(
        self,
        *,
        a: Dataset,
        b: Dataset,
        channels: int | None = None,
        resolution: int | None = None,
        halves: bool = False,
    ):
        """`channels` and `resolution` are checked where they are set.

        `halves`: the data sets hold the same images in two renderings, in one order. Then a is the first half of the
        one and b the second half of the other, so that no image has its partner in the data, and what each should
        become is known. Raises ConfigError for data sets of different shapes, for others than these, and for halves of
        different lengths.
        """
        check_equal(a=a, b=b)
        check_stated(a, channels=channels, resolution=resolution)
        self.a, self.b = _halved(a, b) if halves else (a, b)
        self.channels, self.resolution = a.channels, a.resolution
        self.may_lack = a.may_lack or b.may_lack
        self.notes = [f"{name}: {note}" for name, data in self.streams.items() for note in data.notes]

    def file_names(self) -> list[str]:
        """The names of the files in use, each behind the name of its stream."""
        return [f"{stream}/{name}" for stream, data in self.streams.items() for name in data.file_names()]

    @property
    def streams(self) -> Mapping[str, Dataset]:
        """The streams `a` and `b`."""
        return {"a": self.a, "b": self.b}

    def with_streams(self, streams: Mapping[str, Dataset]) -> Unpaired:
        """The same domains with these images."""
        return Unpaired(a=streams["a"], b=streams["b"])

    def fingerprint(self) -> str:
        """The fingerprints of both data sets."""
        return f"{self.a.fingerprint()}-{self.b.fingerprint()}"


def _halved(a: Dataset, b: Dataset) -> tuple[Dataset, Dataset]:
    """The first half of a and the second of b, each with what its images are in the other domain."""
    first, second = torch.arange(len(a)).tensor_split(2)
    return Known(a, b).part(first), Known(b, a).part(second)
