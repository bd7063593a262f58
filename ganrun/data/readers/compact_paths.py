"""Very many paths in little memory: one array of bytes, which worker processes share instead of copying."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import accumulate

import numpy as np


class CompactPaths(Sequence[str]):
    """Paths by index. A list would take several times the memory, and again in each worker, as it counts references."""

    def __init__(self, paths: Iterable[str | bytes]):
        names = [os.fsencode(path) for path in paths]
        self._ends = np.fromiter(accumulate(map(len, names)), np.int64, len(names))
        self._text = np.frombuffer(b"".join(names), np.uint8)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:  # type: ignore[override]  # no slices
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        start = self._ends[index - 1] if index else 0
        return os.fsdecode(self._text[start : self._ends[index]].tobytes())

    def take(self, indices: Sequence[int]) -> CompactPaths:
        """The paths at these indices, in this order."""
        text, ends = self._text.tobytes(), self._ends.tolist()
        starts = [0, *ends]
        return CompactPaths(text[starts[index] : ends[index]] for index in indices)
