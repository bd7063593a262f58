"""Members of a gzipped tar archive, read in one pass through memory: nothing is unpacked to disk."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Callable, Iterator
from typing import Any

from ganrun.core.errors import ConfigError
from ganrun.data.readers.regular import open_regular, printable, reason

MOST = 1 << 28  # bytes of an archive, unpacked: what is asked for is kept in memory
CHUNK = 1 << 16


class Bounded:
    """A file that is read from its beginning on, up to a number of bytes."""

    def __init__(self, file: gzip.GzipFile, most: int):
        self._file, self._left, self._most = file, most, most

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size`. Raises OSError where they are too many together."""
        found = self._file.read(min(size, self._left + 1))
        self._left -= len(found)
        if self._left < 0:
            raise OSError(f"it has more than {self._most:,} bytes, unpacked")
        return found


def read_members(path: str, wanted: Callable[[str], bool], *, where: str, expected: str) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the regular files that are `wanted` by their names.

    Links, devices and files with holes are passed over. Raises ConfigError, at the setting `where`, for what is not a
    whole archive.
    """
    try:
        with open_regular(path) as packed, gzip.open(packed) as file:
            bounded: Any = Bounded(file, MOST)
            with tarfile.open(fileobj=bounded, mode="r|") as archive:
                yield from _regular(archive, wanted)
            while bounded.read(CHUNK):  # to the end, where the checksum is
                pass
    except Exception as problem:  # a damaged archive raises nearly anything
        found = f"{printable(path)} cannot be read ({reason(problem)})"
        raise ConfigError(where, found, expected, "fetching it again") from problem


def _regular(archive: tarfile.TarFile, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    while (member := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]  # which it would keep
        if member.isreg() and not member.issparse() and wanted(member.name):
            if member.size > MOST:
                raise OSError(f"{printable(member.name)} says {member.size:,} bytes")
            content = archive.extractfile(member)
            assert content is not None
            yield member.name, content.read()
