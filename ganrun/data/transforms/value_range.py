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


def _check_finite(chunk: np.ndarray, start: int, path: str) -> None:
    if chunk.dtype.kind == "f" and not np.isfinite(chunk).all():
        wrong = ~np.isfinite(chunk).reshape(len(chunk), -1)
        first, count = start + int(wrong.any(1).argmax()), int(wrong.sum())
        raise ConfigError(path, f"values that are not finite (image {first} is the first, {count:,} values near it)",
                      "numbers", "leaving these images out, or numpy.nan_to_num")  # fmt: skip


def choose_range(dtype: np.dtype, found: ValueRange, setting: Sequence[float] | None) -> tuple[float, float] | None:
    """The raw values that become -1 and 1; None for 8-bit values, which stay as they are.

    They follow from the setting, or from the type where that leaves no doubt. Raises ConfigError otherwise.
    """
    if setting is not None:
        return _checked(found, setting)
    if dtype == np.uint8 and found.high > 1:
        return None
    if dtype == np.uint16 and found.high > 4095:
        return 0.0, 65535.0
    if dtype.kind == "f" and found.low < 0 and found.low >= -1 - 2 * ROUNDING and found.high <= 1 + 2 * ROUNDING:
        return -1.0, 1.0
    low, high = likely_range(found)
    text = f"not set, and the data are {dtype} {found}"
    raise ConfigError(SETTING, text, "values in [-1, 1], or the range as a setting", f"{SETTING}=[{low:g},{high:g}]")


def likely_range(found: ValueRange) -> tuple[float, float]:
    """The smallest usual range that contains these values, such as 0 to 255."""
    if found.low < 0:
        most = max(-found.low, found.high)
        most = 1.0 if most <= 1 else next((m for m in (128, 32768) if most / m > 0.7 and most <= m), math.ceil(most))
        return -most, most
    return 0.0, float(next((m for m in (1, 16, 255, 1023, 4095, 65535) if found.high <= m), math.ceil(found.high)))


def _checked(found: ValueRange, setting: Sequence[float]) -> tuple[float, float]:
    remedy = "{}=[{:g},{:g}]".format(SETTING, *likely_range(found))
    if len(setting) != 2 or not all(math.isfinite(value) for value in setting) or setting[0] >= setting[1]:
        raise ConfigError(SETTING, f"{list(setting)}", "a low and a high value", remedy)
    low, high = float(setting[0]), float(setting[1])
    tolerance = ROUNDING * (high - low)
    if found.low < low - tolerance or found.high > high + tolerance:
        text = f"[{low:g},{high:g}], but the data have {found}"
        raise ConfigError(SETTING, text, "a range that holds them all", remedy)
    return low, high


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
