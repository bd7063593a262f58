"""Opening .npy and .npz files: headers are checked against the size of the file, and nothing is unpickled."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from ganrun.core.errors import ConfigError
from ganrun.data.readers.regular import open_regular, printable, reason

MAGIC = b"\x93NUMPY"
DEFLATE = 1032  # the most bytes that deflate makes of one
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
DIMENSIONS = 32  # the most that an array has in every version of numpy


def open_npy(path: Path) -> np.ndarray:
    """The array, memory-mapped. Raises ConfigError for a damaged file."""
    where = printable(path)
    try:
        with open_regular(path) as file:
            shape, fortran, dtype = read_header(file, where)
            check_size(where, shape, dtype, path.stat().st_size - file.tell())
            if 0 in shape:
                return np.empty(shape, dtype)
            return np.memmap(file, dtype, "r", file.tell(), shape, "F" if fortran else "C")
    except OSError as problem:
        raise ConfigError(where, f"cannot be opened ({reason(problem)})", "a readable file") from problem


class Npz:
    """The arrays of an .npz file by name, each read into memory when it is asked for."""

    def __init__(self, path: Path):
        """Raises ConfigError for a damaged archive."""
        self.where = printable(path)
        try:
            self._file = open_regular(path)
            self._archive = zipfile.ZipFile(self._file)
        except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as problem:
            found = f"cannot be read ({reason(problem)})"
            raise ConfigError(self.where, found, "a whole .npz file", "saving it again") from problem
        members = [name for name in self._archive.namelist() if not name.endswith("/")]
        arrays = [name.removesuffix(".npy") for name in members if name.endswith(".npy")]
        self.names = list(dict.fromkeys(arrays))
        self.others = [name for name in members if not name.endswith(".npy")]
        self.twice = [name for name in self.names if arrays.count(name) > 1] if len(arrays) > len(self.names) else []

    def close(self) -> None:
        """Close the file."""
        self._archive.close()
        self._file.close()

    def __getitem__(self, name: str) -> np.ndarray:
        """One array; the last of this name. Raises ConfigError for a damaged one."""
        info, where = self._archive.getinfo(f"{name}.npy"), f"{self.where}[{printable(name)}]"
        if info.file_size > DEFLATE * max(info.compress_size, 1):
            raise ConfigError(where, f"says {info.file_size:,} bytes for {info.compress_size:,} packed",
                              "a true header", "saving it again")  # fmt: skip
        try:
            with self._archive.open(info) as file:
                shape, fortran, dtype = read_header(file, where)
                check_size(where, shape, dtype, info.file_size - file.tell())
                values = np.frombuffer(bytearray(file.read()), dtype)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as problem:
            raise ConfigError(where, f"cannot be read ({reason(problem)})", "a whole array",
                              "saving it again") from problem  # fmt: skip
        return values.reshape(shape, order="F" if fortran else "C")


def read_header(file: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran order, and dtype, as the header states them.

    Raises ConfigError for what numpy.save does not write, for arrays of objects, and for records.
    """
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
    except Exception as problem:  # numpy tokenizes old headers, and raises nearly anything on damaged ones
        found = f"a damaged header ({reason(problem)})"
        raise ConfigError(where, found, "an array", "saving it again") from problem
    if dtype.hasobject:
        raise ConfigError(where, "an array of objects, which could run code when read", "numbers of one kind",
                          "saving images of one size as uint8")  # fmt: skip
    if dtype.kind == "V" or dtype.subdtype or not dtype.itemsize:
        raise ConfigError(where, f"values of type {dtype}", "numbers of one kind", "saving one field alone as uint8")
    return shape, fortran, dtype


def check_size(where: str, shape: tuple[int, ...], dtype: np.dtype, size: int) -> None:
    """Raises ConfigError unless the sides are whole numbers and the file is as long as its header says."""
    if len(shape) > DIMENSIONS or any(type(side) is not int or side < 0 for side in shape):
        found = f"the header says {dtype} {shape}"
        raise ConfigError(where, found[:200], "sides that are whole numbers", "saving it again")
    expected = dtype.itemsize
    for side in shape:
        expected *= side
    if expected != size:
        found = f"the header says {dtype} {shape}, {expected:,} bytes, and {max(size, 0):,} follow"
        raise ConfigError(where, found, "a whole file", "copying or saving it again")
