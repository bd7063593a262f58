"""Very many paths in little memory: one array of bytes, which worker processes share instead of copying."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path

import numpy as np


class CompactPaths:
    """Paths by index. A list would take several times the memory, and again in each worker, as it counts references."""

    def __init__(self, paths: Iterable[str | Path]):
        names = [os.fsencode(path) for path in paths]
        self._ends = np.fromiter(accumulate(map(len, names)), np.int64, len(names))
        self._text = np.frombuffer(b"".join(names), np.uint8)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> Path:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        start = self._ends[index - 1] if index else 0
        return Path(os.fsdecode(self._text[start : self._ends[index]].tobytes()))
