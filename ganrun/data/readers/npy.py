"""Opening .npy and .npz files: headers are checked against the size of the file, and nothing is unpickled."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from ganrun.core.errors import ConfigError, nearest

MAGIC = b"\x93NUMPY"
DEFLATE = 1032  # the most bytes that deflate makes of one
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
IMAGES = ("images", "image", "x", "x_train", "train_images", "data", "arr_0")  # usual names
LABELS = ("labels", "label", "y", "y_train", "train_labels", "targets", "arr_1")


def open_arrays(path: Path, images: str | None, labels: str | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Images and labels of an .npz by name, or of an .npy and another one for its labels.

    Raises ConfigError for a damaged file and for names that are not in it.
    """
    if not zipfile.is_zipfile(path):
        if images is not None:
            raise ConfigError(".images", f"{images!r}, but {path} is not an NPZ file", "null", "leaving it out")
        return open_npy(path), None if labels is None else open_npy(existing_file(labels, ".labels"))
    with _archive(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        first = choose_name(names, images, IMAGES, ".images", path)
        second = (
            choose_name(names, labels, LABELS, ".labels", path) if labels or set(LABELS) & set(_low(names)) else None
        )
        values = _member(archive, path, first)
        return values, None if second in (None, first) else _member(archive, path, str(second))


def existing_file(path: str | None, where: str) -> Path:
    """The file. Raises ConfigError, with the nearest name beside it, when it is not there."""
    if not path:
        raise ConfigError(where, "not set", "an NPY or NPZ file", f"{where}=path/to/images.npy")
    file = Path(path)
    if file.is_dir():
        raise ConfigError(where, f"{file} is a folder", "an NPY or NPZ file", f"dataset=folder {where}={file}")
    if not file.exists():
        siblings = [child.name for child in file.parent.iterdir()] if file.parent.is_dir() else []
        close = nearest(file.name, siblings)
        raise ConfigError(
            where, f"no file {file}", "an NPY or NPZ file", f"{where}={file.parent / close}" if close else ""
        )
    return file


def choose_name(names: Sequence[str], setting: str | None, usual: Sequence[str], where: str, path: Path) -> str:
    """The array that the setting names, or one with a usual name, or the only one. Raises ConfigError otherwise."""
    if setting is not None:
        if setting in names:
            return setting
        close = nearest(setting, names) or (names[0] if names else "")
        raise ConfigError(
            where, f"no array {setting!r} in {path}", ", ".join(names) or "arrays", close and f"{where}={close}"
        )
    low = _low(names)
    likely = next((names[low.index(name)] for name in usual if name in low), None)
    if likely is None and len(names) != 1:
        raise ConfigError(where, f"{path} holds {', '.join(names) or 'no arrays'}", "the name of one of them",
                      f"{where}={names[0]}" if names else "another file")  # fmt: skip
    return likely or names[0]


def _low(names: Sequence[str]) -> list[str]:
    return [name.lower() for name in names]


def open_npy(path: Path) -> np.ndarray:
    """The array, memory-mapped. Raises ConfigError for a damaged file."""
    try:
        with path.open("rb") as file:
            shape, fortran, dtype = _header(file, str(path))
            _check_size(str(path), shape, dtype, path.stat().st_size - file.tell())
            if 0 in shape:
                return np.empty(shape, dtype)
            return np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran else "C")
    except OSError as problem:
        raise ConfigError(str(path), f"cannot be opened ({problem.strerror})", "a readable file") from problem


def _member(archive: zipfile.ZipFile, path: Path, name: str) -> np.ndarray:
    """One array of an archive, in memory."""
    info, where = archive.getinfo(f"{name}.npy"), f"{path}[{name}]"
    if info.file_size > DEFLATE * max(info.compress_size, 1):
        raise ConfigError(where, f"says {info.file_size:,} bytes for {info.compress_size:,} packed", "a true header")
    try:
        with archive.open(info) as file:
            shape, fortran, dtype = _header(file, where)
            _check_size(where, shape, dtype, info.file_size - file.tell())
            values = np.frombuffer(bytearray(file.read()), dtype)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as problem:
        raise ConfigError(where, f"cannot be read ({problem})", "a whole array", "saving it again") from problem
    return values.reshape(shape, order="F" if fortran else "C")


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as problem:
        raise ConfigError(str(path), f"cannot be read ({problem})", "a whole .npz file", "saving it again") from problem


def _header(file: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran order, and dtype, as the header states them. Refuses arrays of objects."""
    start = file.read(len(MAGIC))
    file.seek(0)
    if start != MAGIC:
        shown = start.decode("ascii", "replace")
        found = f"begins with {shown!r}" if start else "is empty"
        raise ConfigError(
            where, found, "an array that numpy.save wrote", "numpy.save, rather than a new name for a file"
        )
    try:
        version = np.lib.format.read_magic(file)
        shape, fortran, dtype = HEADERS.get(version, HEADERS[2, 0])(file, max_header_size=10_000)
    except (ValueError, SyntaxError, TypeError, EOFError) as problem:
        raise ConfigError(
            where, f"a damaged header ({str(problem).splitlines()[0]})", "an array", "saving it again"
        ) from problem
    if dtype.hasobject:
        raise ConfigError(where, "an array of objects, which could run code when read", "numbers of one kind",
                      "saving images of one size as uint8")  # fmt: skip
    return shape, fortran, dtype


def _check_size(where: str, shape: tuple[int, ...], dtype: np.dtype, size: int) -> None:
    """Raises ConfigError unless the file is as long as its header says."""
    expected = dtype.itemsize
    for side in shape:
        expected *= side
    if expected != size or min(shape, default=1) < 0:
        found = f"the header says {dtype} {shape}, {expected:,} bytes, and {max(size, 0):,} follow"
        raise ConfigError(where, found, "a whole file", "copying or saving it again")
