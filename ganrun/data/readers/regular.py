"""Opening regular files only: a pipe, a socket or a device would make a reader wait without end."""

from __future__ import annotations

import errno
import os
import stat
from itertools import islice
from pathlib import Path
from typing import IO

from ganrun.core.errors import ConfigError, nearest

KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket",
         stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}  # fmt: skip
SIBLINGS = 2000  # names in a folder among which a similar one is looked for
LONGEST = 160  # characters of a name that a message shows


class UnreadableImage(ValueError):
    """An image file that cannot be used; the text says why."""


def open_regular(path: str | os.PathLike[str]) -> IO[bytes]:
    """The file, to be read. Never waits. Raises OSError for what is not there, and for what is not a regular file."""
    _refuse_odd(os.stat(path).st_mode)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _refuse_odd(os.fstat(descriptor).st_mode)  # it may have been replaced in between
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


class MappedFile:
    """A file whose content is mapped into memory: to read beyond an end that was cut off kills the process."""

    def __init__(self, path: str | os.PathLike[str]):
        found = os.stat(path)
        self.path, self._identity, self._size = path, (found.st_dev, found.st_ino), found.st_size

    def check(self) -> None:
        """Raises ConfigError when the file has become shorter. One that was deleted or replaced stays readable."""
        try:
            found = os.stat(self.path)
        except OSError:
            return
        if (found.st_dev, found.st_ino) == self._identity and found.st_size < self._size:
            text = f"cut to {found.st_size:,} of {self._size:,} bytes while it is read"
            raise ConfigError(printable(self.path), text, "a whole file", "putting it back as it was")


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """The content of a file. Raises OSError as `open_regular` does."""
    with open_regular(path) as file:
        return file.read()


def _refuse_odd(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"it is {KINDS.get(stat.S_IFMT(mode), 'no file')}")


def find(path: str, where: str, expected: str) -> str:
    """`file` or `folder`: what is at this path, which the setting `where` gives.

    Raises ConfigError, with the nearest name beside it, when nothing is there, and for pipes, sockets and devices.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(path, where, expected) from None
    except (OSError, ValueError) as problem:  # no right to look, a name that is too long, or one that none can have
        found = f"{printable(path)} cannot be opened ({reason(problem)})"
        raise ConfigError(where, found, expected, f"another {where}") from problem
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return "file" if stat.S_ISREG(mode) else "folder"
    found = f"{printable(path)} is {KINDS.get(stat.S_IFMT(mode), 'no file')}"
    raise ConfigError(where, found, expected, f"another {where}")


def _missing(path: str, where: str, expected: str) -> ConfigError:
    """Where it was looked for, and what may have been meant: a resumed run may have been started elsewhere."""
    place, name = Path(path).parent, Path(path).name
    here = "" if Path(path).is_absolute() else f" in {Path.cwd()}"
    try:
        with os.scandir(place) as entries:
            close = nearest(name[:LONGEST], [entry.name for entry in islice(entries, SIBLINGS)])
    except OSError:
        close = ""
    remedy = f"{where}={printable(str(place / close))}" if close else f"{where}=/the/whole/path"
    return ConfigError(where, f"nothing is at {printable(path)}{here}", expected, remedy)


def printable(name: str | os.PathLike[str]) -> str:
    """A name as a message, a log and a configuration can hold it: what is not UTF-8 or not printed, as escapes."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= 2 * LONGEST else f"{text[:LONGEST]}...{text[-LONGEST:]}"


def reason(problem: BaseException) -> str:
    """Why a file could not be opened or read, in a few words."""
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror.lower()
    return (str(problem) or type(problem).__name__).splitlines()[0][:LONGEST]
