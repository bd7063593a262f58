"""Counter-based random numbers: row i depends on the seed, the stream and i, not on the number of rows.

SplitMix64, Steele, Lea and Flood 2014.
"""

from __future__ import annotations

import numpy as np

from ganrun.core.seeding import derive

STRIDE, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # the paper's constants


def splitmix(start: int, counters: np.ndarray) -> np.ndarray:
    """SplitMix64 from the state `start`: the number of each counter, in any order. [...] -> [...] uint64."""
    z = np.uint64(start) + (counters.astype(np.uint64) + np.uint64(1)) * np.uint64(STRIDE)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(FIRST)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(SECOND)
    return z ^ (z >> np.uint64(31))


def uniform(seed: int, stream: str, *, rows: int, columns: int) -> np.ndarray:
    """Uniform numbers in [0, 1) with 53 random bits. [rows, columns] float64"""
    counters = np.arange(rows * columns, dtype=np.uint64).reshape(rows, columns)
    return (splitmix(derive(seed, stream), counters) >> np.uint64(11)) * 2.0**-53
