"""The file formats of benchmarks: idx (MNIST), pickles of arrays (CIFAR) and MATLAB 5 (SVHN). Files cannot run code."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ganrun.core.errors import ConfigError
from ganrun.data.readers.regular import open_regular, read_regular

UBYTE = 0x08  # the idx format's code for unsigned bytes
REMEDY = "deleting it, and .download=true"


def read_idx(path: Path, rank: int) -> np.ndarray:
    """An idx file of bytes, gzipped or not: 0, 0, type, rank, the sizes in big-endian, the values.

    Raises ConfigError for a damaged file.
    """
    raw = _unzipped(path)
    header = 4 + 4 * rank
    if len(raw) < header or raw[:4] != bytes((0, 0, UBYTE, rank)):
        raise ConfigError(
            str(path), f"begins with {raw[:4].hex(' ') or 'nothing'}", f"an idx{rank} file of bytes", REMEDY
        )
    shape = struct.unpack(f">{rank}I", raw[4:header])
    expected = header + int(np.prod(shape, dtype=object))
    if len(raw) != expected:
        raise ConfigError(
            str(path), f"{len(raw)} bytes for the shape {shape}", f"{expected}: it is cut or damaged", REMEDY
        )
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def _unzipped(path: Path) -> bytes:
    try:
        return gzip.decompress(read_regular(path)) if path.suffix == ".gz" else read_regular(path)
    except (OSError, EOFError, zlib.error) as problem:
        raise ConfigError(str(path), f"cannot be read ({problem})", "a whole file", REMEDY) from problem


class ArraysOnly(pickle.Unpickler):
    """Unpickles containers, numbers, text and plain arrays. Raises UnpicklingError for any other class."""

    def find_class(self, module: str, name: str) -> Any:
        """The function of an array that a pickle names. Raises UnpicklingError for any other; imports nothing."""
        found = _allowed().get((module.replace("numpy._core", "numpy.core"), name))
        if found is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return found


def _allowed() -> dict[tuple[str, str], Callable]:
    return {
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _encode,
    }


def _reconstruct(kind: type, shape: tuple, typecode: Any) -> np.ndarray:
    """An empty array, as numpy's function of this name makes; the state that follows sets shape and values."""
    if kind is not np.ndarray:
        raise pickle.UnpicklingError("it asks for an array that is not numpy's")
    return np.ndarray((0,), np.dtype("u1"))


def _encode(text: str, encoding: str) -> bytes:
    """Bytes, as Python 3 writes them into an old pickle."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding}")
    return text.encode("latin1")


def read_pickle(path: Path) -> dict[str, Any]:
    """A dictionary of arrays, lists and text, as CIFAR's batches are. Raises ConfigError for any other pickle."""
    try:
        found = ArraysOnly(io.BytesIO(read_regular(path)), encoding="latin1").load()
    except Exception as problem:  # a damaged pickle raises nearly anything
        raise ConfigError(str(path), f"not a plain pickle ({problem})", "arrays and lists only", REMEDY) from problem
    if not isinstance(found, dict):
        raise ConfigError(str(path), f"holds a {type(found).__name__}", "a dictionary", REMEDY)
    return {key.decode("latin1") if isinstance(key, bytes) else str(key): value for key, value in found.items()}


def read_mat(path: Path, names: tuple[str, ...]) -> list[np.ndarray]:
    """Arrays by name from a MATLAB 5 file. Raises ConfigError for a damaged file."""
    from scipy.io import loadmat

    try:
        with open_regular(path) as file:
            found = loadmat(file, variable_names=names)
        return [np.asarray(found[name]) for name in names]
    except Exception as problem:  # a damaged file raises nearly anything
        raise ConfigError(str(path), f"cannot be read ({problem})", f"a MATLAB file with {names}", REMEDY) from problem
