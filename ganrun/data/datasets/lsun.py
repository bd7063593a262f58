"""LSUN: ten kinds of scenes, up to three million photographs each, in LMDB databases. Yu et al. 2015."""

from __future__ import annotations

import os
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.data.datasets.base import Dataset
from ganrun.data.datasets.benchmarks import check_split
from ganrun.data.readers.image_file import decode
from ganrun.data.readers.progress_bar import track
from ganrun.data.readers.regular import UnreadableImage, open_regular
from ganrun.data.transforms.classes import ClassSelection, class_indices, select_classes
from ganrun.data.transforms.resize import check_shape

SCENES = (
    "bedroom", "bridge", "church_outdoor", "classroom", "conference_room",
    "dining_room", "kitchen", "living_room", "restaurant", "tower",
)  # fmt: skip
READING: dict[str, Any] = {"max_readers": 1, "readonly": True, "lock": False, "readahead": False, "meminit": False}


class Lsun(Dataset):
    """The scenes whose databases are there, one class each; a photograph is decoded when it is read."""

    def __init__(self, *, root: str, split: str, channels: int, resolution: int, classes: ClassSelection):
        """Raises ConfigError for missing or damaged databases, and without the package lmdb."""
        check_shape(channels, resolution)
        check_split(split, ("train", "val", "test"))
        self.channels, self.resolution = channels, resolution
        self.classes = scenes(Path(root), split, classes)
        stems = [f"{name}_{split}" for name in self.classes] or [split]  # the test set has no labels
        self._paths = [os.path.realpath(Path(root) / f"{stem}_lmdb") for stem in stems]
        self._keys = [image_keys(path) for path in self._paths]
        sizes = torch.tensor([len(some) for some in self._keys])
        self._ends = sizes.cumsum(0)
        self.labels = torch.arange(len(stems)).repeat_interleave(sizes) if self.classes else None

    def __len__(self) -> int:
        return int(self._ends[-1])

    def image(self, index: int) -> Tensor:
        """One photograph, decoded. Raises ConfigError when it is damaged. [C, R, R] uint8"""
        part = int(torch.searchsorted(self._ends, index, right=True))
        key = bytes(self._keys[part][index - int(self._ends[part])])  # counted from the end: a negative number
        with open_database(self._paths[part]).begin() as transaction:
            raw = transaction.get(key)
        try:
            return decode(BytesIO(raw or b""), channels=self.channels, resolution=self.resolution)
        except UnreadableImage as problem:
            found = f"the image {key.decode('ascii', 'replace')} {problem}"
            raise ConfigError(self._paths[part], found, "a whole image", "unpacking the archive again") from problem


def scenes(root: Path, split: str, selection: ClassSelection) -> tuple[str, ...]:
    """The selected scenes, or all that are there; none for the test set. Raises ConfigError without any database."""
    if split == "test":
        select_classes(selection, (), None)
        return ()
    there = [name for name in SCENES if os.path.isdir(root / f"{name}_{split}_lmdb")]
    kept = [SCENES[index] for index in class_indices(selection, SCENES)] if selection is not None else there
    if not kept:
        found = f"no folder such as church_outdoor_{split}_lmdb in {root}"
        raise ConfigError(".root", found, "LSUN's databases", "unpacking one there, or another .root")
    return tuple(kept)


@cache  # LMDB opens a file once in a process; forked workers use what they inherit
def open_database(path: str) -> Any:
    """The database, read-only. Raises ConfigError without the package lmdb and for what is no database."""
    try:
        import lmdb
    except ImportError as problem:
        found = "the package lmdb, which reads LSUN's files, is not installed"
        raise ConfigError(".", found, "the package lmdb", "pip install lmdb") from problem
    try:
        open_regular(os.path.join(path, "data.mdb")).close()
        return lmdb.open(path, **READING)
    except (lmdb.Error, OSError) as problem:
        raise ConfigError(".root", f"{' '.join(str(problem).split())}", "an LMDB database of LSUN",
                      "unpacking the archive again") from problem  # fmt: skip


def image_keys(path: str) -> np.ndarray:
    """The keys of a database's images, in its order. [N] bytes. Raises ConfigError for a damaged or empty one."""
    database, size = open_database(path), (Path(path) / "data.mdb").stat().st_size
    needed = (database.info()["last_pgno"] + 1) * database.stat()["psize"]
    if size < needed:  # reading beyond the end would kill the process
        raise ConfigError(path, f"{size:,} bytes in data.mdb, which says {needed:,}", "a whole database: it is cut",
                      "unpacking the archive again")  # fmt: skip
    count = database.stat()["entries"]
    if not count:
        raise ConfigError(path, "no images", "an LMDB database of LSUN", "unpacking the archive again")
    with database.begin() as transaction:
        names = transaction.cursor().iternext(keys=True, values=False)
        return np.array(list(track(names, f"listing {Path(path).name}", count)))
