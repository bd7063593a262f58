"""Files in archives that are read in place and never unpacked: ZIP and tar, one or many that make one data set."""

from __future__ import annotations

import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from io import BytesIO
from typing import IO, Any

import numpy as np

from ganrun.core.errors import ConfigError
from ganrun.data.readers.archive_members import ENCRYPTED, IN_TAR, Member, kind_of, members
from ganrun.data.readers.compact_paths import CompactPaths
from ganrun.data.readers.image_root import ImageRoot
from ganrun.data.readers.listing import HIDDEN, Listing, is_hidden
from ganrun.data.readers.progress_bar import track
from ganrun.data.readers.regular import UnreadableImage, open_regular, printable, reason

DEFLATE = 1032  # the most bytes that deflate makes of one
LARGEST = 1 << 30  # bytes of one file in an archive, unpacked
MOST_OPEN = 256  # archives that stay open
LOCAL = 30  # bytes of a header in a ZIP archive, before the name
PLACE = [("archive", "u4"), ("offset", "i8"), ("packed", "i8"), ("size", "i8"), ("method", "u1"), ("checksum", "u4")]


class Archives(ImageRoot):
    """The files of archives by name, as of one folder. A folder around all of them is left away.

    Where two archives hold files of one name, each name gets that of its archive in front: `00001.tar:cat.png`.
    What is kept of each file are 41 bytes and its name, in arrays that forked workers share. Files are read at their
    places, in any order and by many threads.
    """

    def __init__(self, path: str, archives: Sequence[str]):
        """`path` is what the user named. Raises ConfigError for a damaged archive."""
        super().__init__(path)
        self.archives = list(archives)
        self._files: dict[int, IO[bytes]] = {}
        numbers = range(len(self.archives))
        found = [self._listed(number) for number in track(numbers, "listing the archives", len(numbers))]
        names = [own for own, _ in found]
        if prefix := _common_folder(name for own in names for name in own):
            names = [[name.removeprefix(prefix) for name in own] for own in names]
        keys = [_keys(own) for own in names]
        distinct = sum(len(np.unique(own)) for own in keys)
        self.twice = sum(map(len, names)) - distinct
        if len(np.unique(np.concatenate(keys))) < distinct:
            names = [_in_front(title, own) for title, own in zip(_titles(self.archives), names, strict=True)]
            keys = [_keys(own) for own in names]
        order = _last_of_each(all_keys := np.concatenate(keys))
        self._keys, self._places = all_keys[order], np.concatenate([places for _, places in found])[order]
        flat = [name for own in names for name in own]
        self._names = CompactPaths([flat[row] for row in order.tolist()])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_files": {}}

    def _listed(self, number: int) -> tuple[list[str], np.ndarray]:
        """The names of the files in an archive [N], and their places [N]."""
        found = self._members(number)
        places = np.array([(number, *member[1:]) for member in found], dtype=PLACE)
        return [_plain(member.name) for member in found], places

    def _members(self, number: int) -> list[Member]:
        path = self.archives[number]
        try:
            file = self._file(number)
            kind = kind_of(file)
            if kind in ("zip", "tar"):
                return [member for member in members(file, kind) if _plain(member.name)]
            problem: Exception = ValueError(f"it is packed by {kind}" if kind else "it is neither ZIP nor tar")
        except (zipfile.BadZipFile, tarfile.TarError, OSError, NotImplementedError, ValueError) as unreadable:
            problem = unreadable
        found = f"{printable(path)} cannot be read ({reason(problem)})"
        raise ConfigError(".path", found, "a whole ZIP or tar archive", "copying or saving it again") from problem

    def _file(self, number: int) -> IO[bytes]:
        """An archive. Whoever reads it gives the place, so that threads and forked processes share it."""
        file = self._files.get(number)
        if file is None:
            file = open_regular(self.archives[number])
            if len(self._files) < MOST_OPEN:
                file = self._files.setdefault(number, file)
        return file

    def open(self, name: str) -> IO[bytes]:
        if (row := self._row(name)) is None:
            raise FileNotFoundError(2, "no such file", name)
        archive, offset, packed, size, method, checksum = self._places[row].item()
        if method == ENCRYPTED:
            raise UnreadableImage("is encrypted")
        if size > min(LARGEST, DEFLATE * max(packed, 1)):
            raise UnreadableImage(f"says {size:,} bytes for {packed:,} packed")
        file = self._file(archive)
        if method == IN_TAR:
            return BytesIO(_read(file, packed, offset))
        return BytesIO(_unpacked(_in_zip(file, packed, offset), size, method, checksum))

    def _row(self, name: str) -> int | None:
        row = int(np.searchsorted(self._keys, _key(name)))
        return row if row < len(self._keys) and self._names[row] == name else None

    def holds(self, name: str) -> bool:
        return self._row(name) is not None

    def place(self, name: str) -> str:
        row = self._row(name)
        archive = self.path if row is None else self.archives[int(self._places["archive"][row])]
        return f"{printable(archive)}[{printable(name)}]"

    def listing(self) -> Listing:
        """Every file of the archives, by name."""
        found = Listing(self.path)
        for name in sorted(self._names):
            parts = name.split("/")
            if any(map(is_hidden, parts)):
                found.leave_out(HIDDEN)
                continue
            if len(parts) > 1:
                found.add_folder(parts[0])
            found.add(name)
        if self.twice:
            found.leave_out("files of a name that comes again", self.twice)
        return found


def _plain(name: str) -> str:
    """A name with slashes, without `.` and a slash at its beginning."""
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def _key(name: str) -> np.uint64:
    """A hash by which a name is found."""
    return np.uint64(int.from_bytes(blake2b(os.fsencode(name), digest_size=8).digest(), "little"))


def _keys(names: Sequence[str]) -> np.ndarray:
    return np.fromiter(map(_key, names), np.uint64, len(names))


def _titles(archives: Sequence[str]) -> list[str]:
    """A name for each archive: that of its file, with a number where two have the same."""
    titles = [os.path.basename(path) for path in archives]
    return titles if len(set(titles)) == len(titles) else [f"{n}:{title}" for n, title in enumerate(titles)]


def _in_front(archive: str, names: Sequence[str]) -> list[str]:
    """The names with that of the archive before the file's own, so that folders stay what they are."""
    return ["/".join([*name.split("/")[:-1], f"{archive}:{name.split('/')[-1]}"]) for name in names]


def _last_of_each(keys: np.ndarray) -> np.ndarray:
    """Indices in the order of these keys [N]; of equal ones, the last alone."""
    order = np.argsort(keys, kind="stable")
    if not len(order):
        return order
    return order[np.append(np.diff(keys[order]) != 0, True)]


def _common_folder(names: Iterable[str]) -> str:
    """The folder that all visible files lie in, with a slash at the end; empty when there is none."""
    folders = {name.rpartition("/")[0] for name in names if not any(map(is_hidden, name.split("/")))}
    common = os.path.commonpath(folders) if folders and all(folders) else ""
    return f"{common}/" if common else ""


def _read(file: IO[bytes], count: int, offset: int) -> bytes:
    """These bytes. Raises UnreadableImage where the archive ends before them."""
    found = os.pread(file.fileno(), count, offset)
    while len(found) < count and (more := os.pread(file.fileno(), count - len(found), offset + len(found))):
        found += more
    if len(found) < count:
        raise UnreadableImage("lies behind the end of its archive, which was cut")
    return found


def _in_zip(file: IO[bytes], packed: int, offset: int) -> bytes:
    """The packed bytes behind a header of a ZIP archive, whose length it says itself."""
    header = _read(file, LOCAL, offset)
    if header[:4] != b"PK\3\4":
        raise UnreadableImage("is cut or damaged (no header at its place in the archive)")
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return _read(file, packed, offset + LOCAL + lengths)


def _unpacked(packed: bytes, size: int, method: int, checksum: int) -> bytes:
    """A file of a ZIP archive."""
    if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnreadableImage("is packed in another way than deflate (that compression method is not supported)")
    try:
        content = zlib.decompressobj(-15).decompress(packed, size + 1) if method else packed
    except zlib.error as problem:
        raise UnreadableImage(f"is cut or damaged ({reason(problem)})") from problem
    if len(content) != size or zlib.crc32(content) != checksum:
        raise UnreadableImage("is cut or damaged (Bad CRC-32)")
    return content
