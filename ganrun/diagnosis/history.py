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
        self._columns: dict[str, list[float]] = {}

    def add(self, step: int, means: Mapping[str, float | None]) -> None:
        """Add the row of a log; a number that is not finite may be None, as JSON has it."""
        for tag, value in means.items():
            column = self._columns.setdefault(tag, [])
            column += [np.nan] * (len(self.steps) - len(column))
            column.append(np.nan if value is None else float(value))
        self.steps.append(step)

    def __contains__(self, tag: str) -> bool:
        return tag in self._columns

    @property
    def tags(self) -> Iterable[str]:
        """Every tag that some row has, in the order of their first rows."""
        return self._columns.keys()

    @property
    def latest(self) -> dict[str, float]:
        """The last row: the values of the tags that it has, NaN where a number was not finite."""
        return {tag: column[-1] for tag, column in self._columns.items() if len(column) == len(self.steps)}

    def column(self, tag: str) -> np.ndarray:
        """The values of a tag in every row [R]; NaN where a row lacks it."""
        column = self._columns.get(tag, [])
        return np.array(column + [np.nan] * (len(self.steps) - len(column)))

    def recent(self, tag: str, steps: int) -> np.ndarray:
        """The values of a tag in the rows of the last `steps` steps, without those that lack it."""
        first = bisect_right(self.steps, self.steps[-1] - steps)  # a long run has many rows: only these are read
        values = np.array(self._columns.get(tag, [])[first:])
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
