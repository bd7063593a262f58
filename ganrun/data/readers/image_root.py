"""Where image files lie: the interface of roots, and a folder as one."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import IO

from ganrun.core.errors import ConfigError
from ganrun.data.readers.listing import HIDDEN, ODD, Listing, is_hidden
from ganrun.data.readers.regular import open_regular, printable, reason


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
