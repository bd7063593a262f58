"""One image in an .npy file of its own: [H, W], [H, W, 3], [3, H, W], or these with a 1 in front."""

from __future__ import annotations

import os
from typing import IO

import numpy as np

from ganrun.core.errors import ConfigError
from ganrun.data.readers.npy import MAGIC, check_size, read_header
from ganrun.data.readers.regular import UnreadableImage

COLOURS = (1, 3)


def is_array(file: IO[bytes]) -> bool:
    """Whether the file begins as numpy.save writes it. The position is at the beginning afterwards."""
    file.seek(0)
    start = file.read(len(MAGIC))
    file.seek(0)
    return start == MAGIC


def inspect(file: IO[bytes]) -> tuple[int, int, str, int, str]:
    """Width, height, shape in words, channels and type. Raises UnreadableImage for what is no image."""
    shape, _, dtype = _header(file)
    height, width, channels = _sides(shape)
    if dtype.kind not in "buif":
        raise UnreadableImage(f"has values of type {dtype}")
    return width, height, "array [" + ", ".join(map(str, shape)) + "]", channels, _plain(dtype).name


def read(file: IO[bytes]) -> np.ndarray:
    """The values, in the byte order of this machine. [H, W] or [H, W, 3]. Raises UnreadableImage for other arrays."""
    shape, fortran, dtype = _header(file)
    _sides(shape)
    values = np.frombuffer(file.read(), dtype).reshape(shape, order="F" if fortran else "C")
    values = values[0] if values.ndim == 4 else values
    if values.ndim == 3 and values.shape[0] in COLOURS and values.shape[2] not in COLOURS:
        values = values.transpose(1, 2, 0)
    values = values[:, :, 0] if values.ndim == 3 and values.shape[2] == 1 else values
    return finite(np.ascontiguousarray(values, _plain(dtype)))


def finite(values: np.ndarray) -> np.ndarray:
    """The values themselves [H, W] or [H, W, 3]. Raises UnreadableImage when they are not all finite."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise UnreadableImage("has values that are not finite")
    return values


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    file.seek(0)
    try:
        header = read_header(file, "")
        start = file.tell()
        check_size("", header[0], header[2], file.seek(0, os.SEEK_END) - start)
        file.seek(start)
    except ConfigError as problem:
        raise UnreadableImage(f"is no image ({problem.found})") from problem
    return header


def _sides(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and channels of one image."""
    inner = shape[1:] if len(shape) == 4 and shape[0] == 1 else shape
    if len(inner) == 2:
        return inner[0], inner[1], 1
    first, last = (len(inner) == 3 and inner[at] in COLOURS for at in (0, -1))
    if first == last:
        found = "may have its colours first or last" if first else "is no single image of 1 or 3 channels"
        raise UnreadableImage(f"is an array of shape {shape}, which {found}")
    return (inner[1], inner[2], inner[0]) if first else (inner[0], inner[1], inner[2])


def _plain(dtype: np.dtype) -> np.dtype:
    """The type in the byte order of this machine; true and false as 0 and 1."""
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")
