"""Curves of a run's metrics, and which of their points a page of bounded size shows."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ganrun.record.results import windows

MOST = 2000  # points of a curve
LEAST = 40  # points to which a curve may be thinned for the sake of the others
POINTS = 120_000  # of all curves of the page
MAIN = ("metrics/", "loss/", "probability/", "score/", "energy/")  # what is looked at first
MANY = 5000  # metrics of a run; a run writes tens to hundreds


@dataclass(frozen=True)
class Curves:
    """The windows of a run: their steps, times, and for each metric which of them have it and its values there."""

    steps: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)  # seconds since 1970
    metrics: dict[str, tuple[array[int], array[float]]] = field(default_factory=dict)
    damaged: list[int] = field(default_factory=list)  # numbers of lines

    @classmethod
    def read(cls, path: Path) -> Curves:
        """From metrics.jsonl. Raises ConfigError for what is no such file."""
        curves = cls()
        for window in windows(path, curves.damaged):
            for name, value in window.items():
                if value is not None and (name in curves.metrics or len(curves.metrics) < MANY):
                    places, values = curves.metrics.setdefault(name, (array("q"), array("d")))
                    places.append(len(curves.steps))
                    values.append(value)
            curves.steps.append(window.step)
            if window.time is not None:
                curves.times.append(window.time)
        return curves


def thinned(values: Sequence[float], most: int) -> list[int]:
    """The places of at most `most` values: the first, the last, and the least and largest of each of equal ranges.

    All places where there are no more. `most` is at least 4.
    """
    count = len(values)
    if count <= most:
        return list(range(count))
    numbers = np.asarray(values)
    kept = {0, count - 1}
    edges = np.linspace(0, count, (most - 2) // 2 + 1).astype(int)
    for start, end in pairwise(edges.tolist()):
        kept |= {start + int(numbers[start:end].argmin()), start + int(numbers[start:end].argmax())}
    return sorted(kept)


def shown_metrics(several: Iterable[Curves]) -> list[str]:
    """Every metric that a run recorded, those that are looked at first in front."""
    names = {name for curves in several for name in curves.metrics}
    return sorted(names, key=lambda name: (_order(name), name))


def _order(name: str) -> int:
    if name.startswith("weight_gradient/"):
        return len(MAIN) + 1
    return next((place for place, head in enumerate(MAIN) if name.startswith(head)), len(MAIN))


def default_metric(names: Sequence[str], ranked: str | None) -> str | None:
    """The metric that is shown first: the one that ranks, else a quality, else a loss, else any."""
    wanted = [ranked, *(n for n in names if n.startswith("metrics/quality")), "loss/generator/total"]
    wanted += [name for name in names if name.startswith("loss/")]
    return next((name for name in wanted if name in names), names[0] if names else None)


def table(several: Sequence[Curves], names: Sequence[str]) -> tuple[list[dict[str, Any]], int]:
    """For each run the curves that the page draws, and how many of the metrics there was no room for.

    A run's `curves` are `[number of the metric, number of its list of steps, values]`; most share a list in `steps`.
    """
    limits = _limits(several, names)
    return [_drawn(curves, dict(zip(names, limits, strict=False))) for curves in several], len(names) - len(limits)


def _drawn(curves: Curves, limits: dict[str, int]) -> dict[str, Any]:
    lists: dict[tuple[int, ...], int] = {}
    found = []
    for number, (name, limit) in enumerate(limits.items()):
        places, values = curves.metrics.get(name, ((), ()))
        if kept := thinned(values, limit):
            steps = tuple(curves.steps[places[i]] for i in kept)
            shown = [float(f"{values[i]:.4g}") for i in kept]
            found.append([number, lists.setdefault(steps, len(lists)), shown])
    return {"steps": [list(steps) for steps in lists], "curves": found}


def _limits(several: Sequence[Curves], names: Sequence[str]) -> list[int]:
    """The number of points that each curve of a metric may have; fewer than there are names when room runs out."""
    limits: list[int] = []
    room = POINTS
    sizes = [[len(c.metrics[name][1]) for c in several if name in c.metrics] for name in names]
    weights = [4 if _order(name) < len(MAIN) else 1 for name in names]
    waiting = sum(weight * len(size) for weight, size in zip(weights, sizes, strict=True))
    for size, weight in zip(sizes, weights, strict=True):
        limit = min(MOST, max(LEAST, room * weight // max(waiting, 1)))
        waiting -= weight * len(size)
        room -= sum(min(limit, one) for one in size)
        if room < 0:
            break
        limits.append(limit)
    return limits
