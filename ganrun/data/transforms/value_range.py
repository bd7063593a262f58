"""What the numbers of an array stand for: measured as a whole, and refused when they could mean two things."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ganrun.core.errors import ConfigError

WHERE = "dataset.range"
PIECE = 1 << 24  # values looked at at once
ROUNDING = 1e-4  # how far beyond its range a value may lie, as a part of the range


class Measured(NamedTuple):
    """The least, the greatest and the mean of all values."""

    low: float
    high: float
    mean: float

    def __str__(self) -> str:
        return f"values from {self.low:.6g} to {self.high:.6g} (mean {self.mean:.4g})"


def pieces(values: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """An array in parts that fit into memory, with the number of the first row."""
    rows = max(1, PIECE // max(1, math.prod(values.shape[1:])))
    for start in range(0, len(values), rows):
        yield start, values[start : start + rows]


def measure(values: np.ndarray, path: str) -> Measured:
    """Look at every value; refuse complex numbers, text, and what is not finite."""
    if values.dtype.kind not in "buif":
        remedy = "taking its real part or its absolute value" if values.dtype.kind == "c" else "saving it as uint8"
        raise ConfigError(path, f"values of type {values.dtype}", "whole or real numbers", remedy)
    low, high, total = math.inf, -math.inf, 0.0
    for start, piece in pieces(values):
        _finite(piece, start, path)
        low, high = min(low, float(piece.min())), max(high, float(piece.max()))
        total += float(piece.sum(dtype=np.float64))
    if low == high:
        raise ConfigError(path, f"every value is {low:g}", "images", "another file")
    return Measured(low, high, total / values.size)


def _finite(piece: np.ndarray, start: int, path: str) -> None:
    if piece.dtype.kind == "f" and not np.isfinite(piece).all():
        wrong = ~np.isfinite(piece).reshape(len(piece), -1)
        first, count = start + int(wrong.any(1).argmax()), int(wrong.sum())
        raise ConfigError(path, f"values that are not finite (image {first} is the first, {count:,} values near it)",
                      "numbers", "leaving these images out, or numpy.nan_to_num")  # fmt: skip


def settle(dtype: np.dtype, found: Measured, wanted: Sequence[float] | None) -> tuple[float, float] | None:
    """The values that become -1 and 1; None for 8-bit values that stay as they are."""
    if wanted is not None:
        return _checked(found, wanted)
    if dtype == np.uint8 and found.high > 1:
        return None
    if dtype == np.uint16 and found.high > 4095:
        return 0.0, 65535.0
    if dtype.kind == "f" and found.low < 0 and found.low >= -1 - 2 * ROUNDING and found.high <= 1 + 2 * ROUNDING:
        return -1.0, 1.0
    low, high = likely(found)
    text = f"not set, and the data are {dtype} {found}"
    raise ConfigError(WHERE, text, "values in [-1, 1], or to be told the range", f"{WHERE}=[{low:g},{high:g}]")


def likely(found: Measured) -> tuple[float, float]:
    """The range that these values most likely have."""
    if found.low < 0:
        most = max(-found.low, found.high)
        most = 1.0 if most <= 1 else next((m for m in (128, 32768) if most / m > 0.7 and most <= m), math.ceil(most))
        return -most, most
    return 0.0, float(next((m for m in (1, 16, 255, 1023, 4095, 65535) if found.high <= m), math.ceil(found.high)))


def _checked(found: Measured, wanted: Sequence[float]) -> tuple[float, float]:
    guess = "[{:g},{:g}]".format(*likely(found))
    if len(wanted) != 2 or not all(math.isfinite(value) for value in wanted) or wanted[0] >= wanted[1]:
        raise ConfigError(WHERE, f"{list(wanted)}", "a low and a high value", f"{WHERE}={guess}")
    low, high = float(wanted[0]), float(wanted[1])
    room = ROUNDING * (high - low)
    if found.low < low - room or found.high > high + room:
        text = f"[{low:g},{high:g}], but the data have {found}"
        raise ConfigError(WHERE, text, "a range that holds them all", f"{WHERE}={guess}")
    return low, high


def scale(values: np.ndarray, ends: tuple[float, float] | None) -> Tensor:
    """Raw values to float32 in [-1, 1], or 8-bit values as they are. Any shape."""
    if ends is None:
        return torch.from_numpy(np.array(values, dtype=np.uint8))
    low, high = ends
    units = (np.asarray(values, dtype=np.float64) - low) * (2 / (high - low)) - 1
    return torch.from_numpy(units.astype(np.float32)).clamp_(-1, 1)
