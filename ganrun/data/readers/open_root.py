"""Opening what holds image files: a folder, an archive, or many archives as one data set."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence

from ganrun.core.errors import ConfigError
from ganrun.data.readers.archive_members import kind_of
from ganrun.data.readers.archives import Archives
from ganrun.data.readers.image_file import SUFFIXES
from ganrun.data.readers.image_root import FolderRoot, ImageRoot
from ganrun.data.readers.listing import is_hidden
from ganrun.data.readers.regular import find, open_regular, printable, reason

EXPECTED = "a folder of images, or ZIP or tar archives of them"
ARRAYS = (".npy", ".npz", ".h5", ".hdf5")
ARCHIVES = (".zip", ".tar")


def open_root(path: str | None, where: str = ".path") -> ImageRoot:
    """The folder, the archive, or the archives in a folder or of a pattern such as `train-*.tar`.

    Raises ConfigError for a path that is none of these.
    """
    if not path:
        raise ConfigError(where, "not set", EXPECTED, f"{where}=path/to/images")
    if not os.path.lexists(path) and (found := sorted(glob.glob(path))):
        return Archives(path, [_archive(one, where) for one in found])
    if find(path, where, EXPECTED) == "folder":
        shards = _shards(path)
        return Archives(path, shards) if shards else FolderRoot(path)
    return Archives(path, [_archive(path, where)])


def _shards(folder: str) -> Sequence[str]:
    """The archives in a folder that holds neither images nor folders; else none."""
    try:
        with os.scandir(folder) as entries:
            seen = [entry for entry in entries if not is_hidden(entry.name)]
            if any(entry.is_dir() for entry in seen):
                return []
    except OSError:
        return []
    endings = {entry.path: os.path.splitext(entry.name)[1].lower() for entry in seen}
    archives = sorted(path for path, ending in endings.items() if ending in ARCHIVES)
    return [] if SUFFIXES & set(endings.values()) else archives


def _archive(path: str, where: str) -> str:
    """The path, of a ZIP or tar archive. Raises ConfigError for another file."""
    suffix = os.path.splitext(path)[1].lower()
    try:
        with open_regular(path) as file:
            kind = "" if suffix in ARRAYS else kind_of(file)
    except OSError as problem:
        raise ConfigError(where, f"{printable(path)} cannot be opened ({reason(problem)})", EXPECTED) from problem
    if kind in ("zip", "tar"):
        return path
    found = f"{printable(path)} is a file" + (f" packed by {kind}, of which no part can be read alone" if kind else "")
    remedy = f"{where}={printable(os.path.dirname(path) or '.')}" if suffix in SUFFIXES else "unpacking it"
    raise ConfigError(
        where, found, EXPECTED, f"dataset=array {where}={printable(path)}" if suffix in ARRAYS else remedy
    )
