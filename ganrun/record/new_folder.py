"""A folder that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ganrun.core.errors import ConfigError, typed
from ganrun.record.atomic import environment, sync_folder


def free_folder(key: str, name: str) -> Path:
    """The path of a folder that the setting `key` names, for results. Raises ConfigError where something is already."""
    if not name:
        raise ConfigError(key, "no name", "a new or an empty folder", f"{key}=FOLDER")
    path = Path(os.path.realpath(os.path.expanduser(name)))
    try:
        taken = "it is not empty" if os.listdir(path) else ""
    except NotADirectoryError:
        taken = "it is a file"
    except OSError:  # not there, or what `new_folder` tells of
        taken = ""
    if taken:
        raise ConfigError(key, f"{name}: {taken}", "a new or an empty folder", typed(key, f"{name.rstrip('/')}_2"))
    return path


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` to write into, which takes its place at the end; after an error nothing is left.

    Raises EnvironmentFailed when the system fails in here.
    """
    made: list[Path] = []
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with environment(f"cannot write {path}"):
            made = _make_parents(path)
            temporary.mkdir()
            yield temporary
            os.replace(temporary, path)
            sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        for folder in reversed(made):
            with suppress(OSError):
                folder.rmdir()
        raise


def _make_parents(path: Path) -> list[Path]:
    """Make the folders that lead to this path; returns those that were not there, the outermost first."""
    missing = [folder for folder in path.parents if not os.path.lexists(folder)][::-1]
    path.parent.mkdir(parents=True, exist_ok=True)
    return missing
