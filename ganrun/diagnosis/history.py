"""What a run has logged so far, as rules read it: rows of means by tag."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping

import numpy as np

GRADIENTS = "weight_gradient/"


def mean(values: np.ndarray) -> float:
    """The mean of values [R]; NaN of none."""
    return float(values.mean()) if len(values) else float("nan")


class History:
    """The means of each log window so far, by tag. A row lacks the tags that its window did not have."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.latest: dict[str, float] = {}  # the last row: the values of the tags it has, NaN where one is not finite
        self._columns: dict[str, np.ndarray] = {}  # [capacity] each, NaN where nothing is
        self._capacity = 64  # rows

    def add(self, step: int, means: Mapping[str, float | None]) -> None:
        """Add the row of a log; a number that is not finite may be None, as JSON has it."""
        row = len(self.steps)
        if row == self._capacity:
            self._columns = {tag: np.append(column, self._empty()) for tag, column in self._columns.items()}
            self._capacity *= 2
        self.latest = {tag: np.nan if value is None else float(value) for tag, value in means.items()}
        for tag, value in self.latest.items():
            if tag not in self._columns:
                self._columns[tag] = self._empty()
            self._columns[tag][row] = value
        self.steps.append(step)

    def _empty(self) -> np.ndarray:
        return np.full(self._capacity, np.nan)

    def __contains__(self, tag: str) -> bool:
        return tag in self._columns

    @property
    def tags(self) -> Iterable[str]:
        """Every tag that some row has, in the order of their first rows."""
        return self._columns.keys()

    def column(self, tag: str) -> np.ndarray:
        """The values of a tag in every row [R]; NaN where a row lacks it."""
        column = self._columns.get(tag)
        return np.full(len(self.steps), np.nan) if column is None else column[: len(self.steps)]

    def recent(self, tag: str, steps: int) -> np.ndarray:
        """The values of a tag in the rows of the last `steps` steps, without those that lack it."""
        values = self.column(tag)[bisect_right(self.steps, self.steps[-1] - steps) :]
        return values[~np.isnan(values)]

    def mean(self, tag: str, steps: int) -> float:
        """The mean over the last `steps` steps; NaN where there is nothing."""
        return mean(self.recent(tag, steps))

    def points(self, tag: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps [P] and values [P] of the rows that have a tag, such as one that is seldom measured."""
        values = self.column(tag)
        there = ~np.isnan(values)
        return np.array(self.steps)[there], values[there]

    def layers(self, player: str) -> list[str]:
        """The tags of the gradient norms of a player's layers, in depth order: from the noise, or from the image."""
        return sorted(tag for tag in self.tags if tag.startswith(f"{GRADIENTS}{player}/"))
