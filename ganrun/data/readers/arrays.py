"""Images and labels of an .npy, .npz or HDF5 file: which arrays they are, and what else the file holds."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ganrun.core.errors import ConfigError, nearest
from ganrun.data.readers import hdf5
from ganrun.data.readers.listing import some
from ganrun.data.readers.npy import Npz, open_npy
from ganrun.data.readers.regular import LONGEST, find, open_regular, printable

FILE = "an NPY, NPZ or HDF5 file"
IMAGES = ("images", "image", "x", "x_train", "train_images", "data", "arr_0")  # usual names
LABELS = ("labels", "label", "y", "y_train", "train_labels", "targets", "arr_1")
MATES = {  # parts of the names of images, and of their labels
    "images": ("labels", "targets"),
    "image": ("label", "target"),
    "x": ("y",),
    "data": ("labels", "targets", "label"),
    "arr_0": ("arr_1",),
}


class Arrays(NamedTuple):
    """What was read."""

    images: np.ndarray
    labels: np.ndarray | None
    notes: list[str]  # sentences: which arrays were taken and which were left out


def open_arrays(path: str | None, images: str | None, labels: str | bool | None) -> Arrays:
    """Images and labels by name from a file of several arrays, or an .npy and another one for its labels.

    `labels` may be true, when there must be some, and false, for none. Raises ConfigError for a damaged file and for
    names that are not in it.
    """
    file = existing_file(path, ".path")
    container = _container(file)
    if container is not None:
        with closing(container):
            return _from_container(container, images, labels)
    if images is not None:
        found = f"{images!r}, but {printable(file)} is not an NPZ file"
        raise ConfigError(".images", found, "null", "leaving it out")
    if labels is True:
        raise ConfigError(".labels", "true, but an NPY file holds one array", "the file of the labels",
                          ".labels=path/to/labels.npy")  # fmt: skip
    beside = open_npy(existing_file(labels, ".labels")) if isinstance(labels, str) else None
    return Arrays(open_npy(file), beside, [])


def existing_file(path: str | None, where: str) -> Path:
    """The file. Raises ConfigError when it is not there, and for what is not a regular file."""
    if not path:
        raise ConfigError(where, "not set", FILE, f"{where}=path/to/images.npy")
    if find(path, where, FILE) == "folder":
        found = f"{printable(path)} is a folder"
        raise ConfigError(where, found, FILE, f"dataset=folder {where}={printable(path)}")
    return Path(path)


def _container(file: Path) -> Npz | hdf5.Hdf5 | None:
    """The arrays by name; None for a file of one array."""
    try:
        with open_regular(file) as opened:
            start = opened.read(len(hdf5.MAGIC))
            packed = zipfile.is_zipfile(opened)
    except OSError:
        return None  # whoever opens it next says why
    if start == hdf5.MAGIC:
        return hdf5.Hdf5(file)
    return Npz(file) if packed else None


def _from_container(container: Npz | hdf5.Hdf5, images: str | None, labels: str | bool | None) -> Arrays:
    first = choose_name(container.names, images, IMAGES, ".images", container.where)
    second = _labels_of(container, first, labels)
    left = [name for name in container.names if name not in (first, second)] + list(container.others)
    taken = f"images from {printable(first)}" + (f", labels from {printable(second)}" if second else ", no labels")
    notes = [taken + (f"; left out: {some([printable(name) for name in left])}" if left else "")]
    if container.twice:
        notes.append(f"several arrays of one name, of which the last is used: {some(list(container.twice))}")
    return Arrays(container[first], container[second] if second else None, notes if left or container.twice else [])


def _labels_of(container: Npz | hdf5.Hdf5, images: str, setting: str | bool | None) -> str | None:
    """The name of the array that holds the labels of these images; None for none."""
    if setting is False:
        return None
    if isinstance(setting, str):
        return choose_name(container.names, setting, LABELS, ".labels", container.where)
    mate = mate_of(images, container.names)
    if mate is None and setting is True:
        found = f"no labels of {printable(images)} in {container.where}"
        raise ConfigError(".labels", found, some(container.names), ".labels=null")
    return mate


def mate_of(images: str, names: Sequence[str]) -> str | None:
    """The array whose name is that of the images with another word, such as `y_test` for `x_test`; None without one.

    To images of a usual name belong labels of any usual name that names no other part of the data.
    """
    low, mine = _low(names), images.lower()
    words = [mine.replace(word, other) for word, others in MATES.items() if word in mine for other in others]
    usual = [name for name in LABELS if "train" not in name] if mine in IMAGES else []
    found = next((name for name in (*words, *usual) if name in low and name != mine), None)
    return None if found is None else names[low.index(found)]


def choose_name(names: Sequence[str], setting: str | None, usual: Sequence[str], where: str, file: str) -> str:
    """The array that the setting names, or one with a usual name, or the only one. Raises ConfigError otherwise."""
    shown = some([printable(name) for name in names])
    if setting is not None:
        if setting in names:
            return setting
        close = nearest(setting[:LONGEST], names[:1000]) or (names[0] if names else "")
        found = f"no array {printable(setting)!r} in {file}"
        raise ConfigError(where, found, shown or "arrays", f"{where}={printable(close)}" if close else "another file")
    low = _low(names)
    likely = next((names[low.index(name)] for name in usual if name in low), None)
    if likely is None and len(names) != 1:
        remedy = f"{where}={printable(names[0])}" if names else "dataset=folder, if it holds images"
        raise ConfigError(where, f"{file} holds {shown or 'no arrays'}", "the name of one of them", remedy)
    return likely or names[0]


def _low(names: Sequence[str]) -> list[str]:
    return [name.lower() for name in names]
