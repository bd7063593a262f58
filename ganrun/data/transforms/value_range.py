"""Value ranges: which raw values of an array become -1 and 1. Raises ConfigError where the data do not tell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ganrun.core.errors import ConfigError

SETTING = ".range"  # of the data set
CHUNK = 1 << 24  # values that are read at a time
FILLED = 0.25  # the part of a range that images fill at least, or else it is not theirs
USUAL = (1, 16, 255, 1023, 4095, 65535)  # greatest values, of ranges that begin at 0
ROUNDING = 1e-4  # how far beyond its range a value may lie, as a fraction of the range


class ValueRange(NamedTuple):
    """The least, the greatest and the mean of all values."""

    low: float
    high: float
    mean: float

    def __str__(self) -> str:
        return f"values from {self.low:.6g} to {self.high:.6g} (mean {self.mean:.4g})"


def to_units(images: Tensor) -> Tensor:
    """8-bit values 0..255 to float32 in [-1, 1], x / 127.5 - 1; floats are returned unchanged. [B, C, H, W]"""
    return images.to(torch.float32).div_(127.5).sub_(1) if images.dtype == torch.uint8 else images


def range_of(images: Tensor) -> ValueRange:
    """The range of the values as they are stored. [N, C, H, W]"""
    low, high = torch.aminmax(images)
    return ValueRange(float(low), float(high), float(images.mean(dtype=torch.float64)))


def chunks(values: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """An array in parts that fit into memory, with the number of the first row."""
    rows = max(1, CHUNK // max(1, math.prod(values.shape[1:])))
    for start in range(0, len(values), rows):
        yield start, values[start : start + rows]


def measure(values: np.ndarray, path: str) -> ValueRange:
    """The range of all values. Raises ConfigError for complex numbers, text, infinities, NaN and constants."""
    if values.dtype.kind not in "buif":
        remedy = "taking its real part or its absolute value" if values.dtype.kind == "c" else "saving it as uint8"
        raise ConfigError(path, f"values of type {values.dtype}", "whole or real numbers", remedy)
    low, high, total = math.inf, -math.inf, 0.0
    for start, chunk in chunks(values):
        _check_finite(chunk, start, path)
        low, high = min(low, float(chunk.min())), max(high, float(chunk.max()))
        total += float(chunk.sum(dtype=np.float64))
    if low == high:
        raise ConfigError(path, f"every value is {low:g}", "images", "another file")
    return ValueRange(low, high, total / values.size)


def merged(found: Sequence[ValueRange]) -> ValueRange:
    """The range of several images of about as many values."""
    return ValueRange(min(f.low for f in found), max(f.high for f in found), sum(f.mean for f in found) / len(found))


def _check_finite(chunk: np.ndarray, start: int, path: str) -> None:
    if chunk.dtype.kind == "f" and not np.isfinite(chunk).all():
        wrong = ~np.isfinite(chunk).reshape(len(chunk), -1)
        first, count = start + int(wrong.any(1).argmax()), int(wrong.sum())
        raise ConfigError(path, f"values that are not finite (image {first} is the first, {count:,} values near it)",
                      "numbers", "leaving these images out, or numpy.nan_to_num")  # fmt: skip


def choose_range(
    dtype: np.dtype, found: ValueRange, setting: Sequence[float] | None, what: str = "the data"
) -> tuple[float, float] | None:
    """The raw values that become -1 and 1; None for 8-bit values, which stay as they are.

    They follow from the setting, or from the type when the values fill a quarter of its range. `what` was measured.
    Raises ConfigError otherwise.
    """
    if setting is not None:
        return _checked(found, setting, what)
    usual = range_of_type(dtype, found)
    if usual is not None and found.high - found.low >= FILLED * (usual[1] - usual[0]):
        return None if dtype == np.uint8 else usual
    low, high = likely_range(found)
    text = f"not set, and {what} are {dtype} {found}"
    expected = "values in [-1, 1], or the range as a setting"
    if usual is not None:
        expected = f"at least a quarter of {usual[0]:g} to {usual[1]:g}, or the range as a setting"
    raise ConfigError(SETTING, text, expected, f"{SETTING}=[{low:.6g},{high:.6g}]")


def range_of_type(dtype: np.dtype, found: ValueRange) -> tuple[float, float] | None:
    """The values that a type leaves no doubt about, in either byte order; None where there is doubt."""
    if dtype.kind == "u" and dtype.itemsize <= 2:
        return 0.0, 255.0 if dtype.itemsize == 1 else 65535.0
    if dtype.kind == "f" and found.low < 0 and found.low >= -1 - 2 * ROUNDING and found.high <= 1 + 2 * ROUNDING:
        return -1.0, 1.0
    return None


def likely_range(found: ValueRange) -> tuple[float, float]:
    """The smallest usual range that these values fill a quarter of, such as 0 to 255, or else the measured one."""
    most = next((m for m in USUAL if found.high <= m), math.inf)
    if found.low >= 0 and found.high - found.low >= FILLED * most:
        return 0.0, float(most)
    if found.low >= -1 and found.high <= 1 and found.high - found.low >= FILLED * 2:
        return -1.0, 1.0
    return found.low, found.high


def _checked(found: ValueRange, setting: Sequence[float], what: str) -> tuple[float, float]:
    remedy = "{}=[{:.6g},{:.6g}]".format(SETTING, *likely_range(found))
    if len(setting) != 2 or not all(math.isfinite(value) for value in setting) or setting[0] >= setting[1]:
        raise ConfigError(SETTING, f"{list(setting)}", "a low and a high value", remedy)
    low, high = float(setting[0]), float(setting[1])
    tolerance = ROUNDING * (high - low)
    if found.low < low - tolerance or found.high > high + tolerance:
        text = f"[{low:g},{high:g}], but {what} have {found}"
        raise ConfigError(SETTING, text, "a range that holds them all", remedy)
    return low, high


def in_units(found: ValueRange, dtype: np.dtype, ends: tuple[float, float] | None) -> ValueRange:
    """A range of raw values in [-1, 1], when `ends`, or those of the type, become -1 and 1."""
    low, high = ends or range_of_type(dtype, found) or (0.0, 255.0)
    return ValueRange(*(min(max((value - low) * 2 / (high - low) - 1, -1.0), 1.0) for value in found))


def scale(values: np.ndarray, ends: tuple[float, float] | None) -> Tensor:
    """Raw values to float32 in [-1, 1]; without `ends`, 8-bit values as they are. [N, C, H, W]"""
    if ends is None:
        return torch.from_numpy(np.array(values, dtype=np.uint8))
    low, high = ends
    units = (np.asarray(values, dtype=np.float64) - low) * (2 / (high - low)) - 1
    return torch.from_numpy(units.astype(np.float32)).clamp_(-1, 1)


def to_negative(images: Tensor) -> Tensor:
    """Mirrored values: 255 - x for 8-bit data, else -x. [..., C, H, W]"""
    return 255 - images if images.dtype == torch.uint8 else -images
