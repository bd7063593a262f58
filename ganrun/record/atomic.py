"""Atomic writes: a file is either whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ganrun.core.errors import EnvironmentFailed


def write_atomically(path: Path, data: bytes | memoryview | str) -> None:
    """Write under another name, sync, rename, sync the folder: a kill at any instant leaves the old file or the new."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def link_atomically(path: Path, name: str | None) -> None:
    """Make this path a relative link to the file of that name beside it; no link for None or where none can be made."""
    if path.is_symlink() and os.readlink(path) == name:
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if name is not None:
            temporary.unlink(missing_ok=True)
            os.symlink(name, temporary)
            os.replace(temporary, path)
            sync_folder(path.parent)
            return
    except OSError:  # a file system without links, or a full one: a link to what was before must not stay
        temporary.unlink(missing_ok=True)
    with suppress(OSError):
        path.unlink()


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def environment(what: str, intact: str = "") -> Iterator[None]:
    """Raises EnvironmentFailed, in one sentence, when the system fails in here; `intact` says what is still good."""
    try:
        yield
    except OSError as error:
        reason = f"{what}: {error.strerror or error}"
        raise EnvironmentFailed(f"{reason}; {intact}" if intact else reason) from error
