"""Where image files lie: a folder, or a ZIP archive that is read in place and never unpacked."""

from __future__ import annotations

import os
import zipfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from typing import IO, Any

from ganrun.core.errors import ConfigError
from ganrun.data.readers.image_file import SUFFIXES
from ganrun.data.readers.listing import HIDDEN, ODD, Listing, is_hidden
from ganrun.data.readers.regular import UnreadableImage, find, open_regular, printable, reason

EXPECTED = "a folder or a ZIP archive of images"
DEFLATE = 1032  # the most bytes that deflate makes of one
LARGEST = 1 << 30  # bytes of one image file in an archive, unpacked
ARRAYS = (".npy", ".npz", ".h5", ".hdf5")


class ImageRoot(ABC):
    """Files by name, relative to the root and with slashes. May be copied into worker processes."""

    def __init__(self, path: str):
        self.path = path

    @abstractmethod
    def open(self, name: str) -> IO[bytes]:
        """One file, to be read. Raises OSError and UnreadableImage where it cannot be."""

    @abstractmethod
    def listing(self) -> Listing:
        """What is in it, in order. Raises ConfigError for what cannot be listed."""

    @abstractmethod
    def place(self, name: str) -> str:
        """Where a file is, for messages."""

    @abstractmethod
    def holds(self, name: str) -> bool:
        """Whether there is a regular file of this name."""


def open_root(path: str | None, where: str = ".path") -> ImageRoot:
    """The folder or the archive. Raises ConfigError for a path that is neither."""
    if not path:
        raise ConfigError(where, "not set", EXPECTED, f"{where}=path/to/images")
    if find(path, where, EXPECTED) == "folder":
        return FolderRoot(path)
    suffix = os.path.splitext(path)[1].lower()
    try:
        if suffix not in ARRAYS and _is_zip(path):
            return ZipRoot(path)
    except OSError as problem:
        raise ConfigError(where, f"{printable(path)} cannot be opened ({reason(problem)})", EXPECTED) from problem
    remedy = f"{where}={printable(os.path.dirname(path) or '.')}" if suffix in SUFFIXES else "unpacking it"
    raise ConfigError(where, f"{printable(path)} is a file", EXPECTED,
                      f"dataset=array {where}={printable(path)}" if suffix in ARRAYS else remedy)  # fmt: skip


def _is_zip(path: str) -> bool:
    """Whether this is a ZIP archive, or begins as one does."""
    with open_regular(path) as file:
        return file.read(4) == b"PK\3\4" or zipfile.is_zipfile(file)


class FolderRoot(ImageRoot):
    """A folder, with those below it and those that links lead to."""

    def open(self, name: str) -> IO[bytes]:
        return open_regular(os.path.join(self.path, name))

    def holds(self, name: str) -> bool:
        return os.path.isfile(os.path.join(self.path, name))

    def place(self, name: str) -> str:
        return printable(os.path.join(self.path, name))

    def listing(self) -> Listing:
        """Every file below the folder, each folder's in order. Raises ConfigError for a loop of links."""
        found = Listing(self.path)
        self._walk("", [os.path.realpath(self.path)], found)
        return found

    def _walk(self, inside: str, above: list[str], found: Listing) -> None:
        """`inside` is the folder, relative to the root; `above` are the real paths that lead to it."""
        for entry in self._entries(inside):
            name = inside + entry.name
            if is_hidden(entry.name):
                found.leave_out(HIDDEN)
            elif _is_folder(entry):
                real = os.path.realpath(entry.path)
                if real in above:
                    raise ConfigError(".path", f"a loop of links: {printable(entry.path)} leads back to "
                                      f"{printable(real)}", "a tree",
                                      f"deleting the link {printable(entry.name)}")  # fmt: skip
                found.add_folder(name)
                self._walk(f"{name}/", [*above, real], found)
            elif _is_odd(entry):
                found.leave_out(ODD)
            else:
                found.add(name)

    def _entries(self, inside: str) -> list[os.DirEntry[str]]:
        folder = os.path.join(self.path, inside)
        try:
            with os.scandir(folder) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except OSError as problem:
            found = f"{printable(folder)} cannot be opened ({reason(problem)})"
            raise ConfigError(".path", found, "a readable folder") from problem


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether this is a folder or leads to one. Only a link costs a look at the disk."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _is_odd(entry: os.DirEntry[str]) -> bool:
    """Whether this is a pipe, a socket or a device. A link to nothing is a file that cannot be read."""
    if entry.is_symlink():
        return os.path.exists(entry.path) and not os.path.isfile(entry.path)
    return not entry.is_file()


class ZipRoot(ImageRoot):
    """The files of a ZIP archive, as StyleGAN's dataset_tool.py writes it. A folder around all of them is left away."""

    def __init__(self, path: str):
        """Raises ConfigError for a damaged archive."""
        super().__init__(path)
        self._owner = 0  # the process that opened it; forked ones would share its position
        self._archive: zipfile.ZipFile | None = None
        names = Counter(name for name, _ in self._files())
        self.twice = sum(count - 1 for count in names.values())
        self._prefix = _common_folder(list(names))
        self._members = {name.removeprefix(self._prefix): info for name, info in self._files()}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_owner": 0, "_archive": None}

    def _opened(self) -> zipfile.ZipFile:
        if self._archive is None or self._owner != os.getpid():
            try:
                self._archive = zipfile.ZipFile(open_regular(self.path))
            except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as problem:
                found = f"{printable(self.path)} cannot be read ({reason(problem)})"
                raise ConfigError(".path", found, "a whole ZIP archive", "copying or saving it again") from problem
            self._owner = os.getpid()
        assert self._archive is not None
        return self._archive

    def _files(self) -> Iterator[tuple[str, zipfile.ZipInfo]]:
        """Names with slashes, without `.` and a slash at their beginning."""
        for info in self._opened().infolist():
            parts = [part for part in info.filename.replace("\\", "/").split("/") if part not in ("", ".")]
            if parts and not info.is_dir():
                yield "/".join(parts), info

    def open(self, name: str) -> IO[bytes]:
        if name not in self._members:
            raise FileNotFoundError(2, "no such file", name)
        info = self._members[name]
        if info.flag_bits & 1:
            raise UnreadableImage("is encrypted")
        if info.file_size > min(LARGEST, DEFLATE * max(info.compress_size, 1)):
            raise UnreadableImage(f"says {info.file_size:,} bytes for {info.compress_size:,} packed")
        with self._opened().open(info) as member:
            return BytesIO(member.read())

    def holds(self, name: str) -> bool:
        return name in self._members

    def place(self, name: str) -> str:
        return f"{printable(self.path)}[{printable(name)}]"

    def listing(self) -> Listing:
        """Every file of the archive, by name."""
        found = Listing(self.path)
        for name in sorted(self._members):
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


def _common_folder(names: list[str]) -> str:
    """The folder that all visible files lie in, with a slash at the end; empty when there is none."""
    folders = [name.rpartition("/")[0] for name in names if not any(map(is_hidden, name.split("/")))]
    common = os.path.commonpath(folders) if folders and all(folders) else ""
    return f"{common}/" if common else ""
