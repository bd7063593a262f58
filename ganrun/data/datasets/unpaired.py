"""Unpaired domains: two data sets of one shape, for translation between them. Zhu et al. 2017 (CycleGAN), section 1."""

from __future__ import annotations

from collections.abc import Mapping

from ganrun.core.errors import ConfigError
from ganrun.data.datasets.base import Dataset, DataSets


class Unpaired(DataSets):
    """Two data sets as the streams `a` and `b`; no image has a partner. Unlabelled as a whole."""

    def __init__(self, *, a: Dataset, b: Dataset, channels: int | None = None, resolution: int | None = None):
        """`channels` and `resolution` are checked where they are set.

        Raises ConfigError for data sets of different shapes, and for others than these.
        """
        _check_equal(a, b)
        for key, value in (("channels", channels), ("resolution", resolution)):
            found = getattr(a, key)
            if value not in (None, found):
                raise ConfigError(f".{key}", f"{value}, but the data have {found}", f"{found}, or null", f".{key}=null")
        self.a, self.b = a, b
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


def _check_equal(a: Dataset, b: Dataset) -> None:
    for key in ("channels", "resolution"):
        first, second = getattr(a, key), getattr(b, key)
        if first != second:
            found = f"{first} in a ({type(a).__name__}) and {second} in b ({type(b).__name__})"
            raise ConfigError(f".{key}", found, "the same", f".{key}={min(first, second)}")
