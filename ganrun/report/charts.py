"""Where lines, dots and labels of the page's charts go; the template draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ganrun.record.results import finite
from ganrun.report.ranking import Board, Row
from ganrun.report.settings import MISSING, TARGET, key_of, shown

AXES = 8  # settings that are drawn, before the axis of what ranks
WIDE = (140, 210)  # units between two axes: at least, and at most where they have room
ROOM = 900  # units for all of them together
TALL = 220  # units of an axis
LABEL = 22  # characters beside an axis
CHOICES = 24  # categories of an axis
RAMP = ((37, 99, 196), (15, 140, 152), (120, 135, 55), (196, 122, 20), (192, 62, 48))  # best to worst: red, green, blue
GREY = "#8a8f98"


def colour(place: float | None) -> str:
    """From blue, at 0, to red, at 1; grey for what has no rank. Legible on white and on black."""
    if place is None:
        return GREY
    scaled = min(max(place, 0.0), 1.0) * (len(RAMP) - 1)
    low = min(int(scaled), len(RAMP) - 2)
    parts = [round(a + (b - a) * (scaled - low)) for a, b in zip(RAMP[low], RAMP[low + 1], strict=True)]
    return "#" + "".join(f"{part:02x}" for part in parts)


def colours(board: Board) -> list[str]:
    """One for each row of a board, by its rank."""
    ranked = [row.rank for row in board.rows if row.rank]
    span = max(max(ranked, default=1) - 1, 1)
    return [colour((row.rank - 1) / span if row.rank else None) for row in board.rows]


@dataclass(frozen=True)
class Interval:
    """A dot with its interval, and the floor, in hundredths of the width of their common axis."""

    dot: float
    low: float
    high: float
    floor: float | None


def intervals(board: Board) -> list[Interval | None]:
    """For each row of a board; None where it has no estimate."""
    ends = [end for row in board.rows if row.estimate for end in _ends(row, board.is_quality)]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    span = (high - low) or 1.0

    def place(value: float) -> float:
        return round(4 + 92 * (value - low) / span, 2)

    found: list[Interval | None] = []
    for row in board.rows:
        if row.estimate is None:
            found.append(None)
            continue
        mean, half = row.estimate.mean, row.estimate.half or 0.0
        floor = None if row.reals is None or not board.is_quality else place(row.reals)
        found.append(Interval(place(mean), place(mean - half), place(mean + half), floor))
    return found


def _ends(row: Row, with_floor: bool) -> list[float]:
    assert row.estimate is not None
    mean, half = row.estimate.mean, row.estimate.half or 0.0
    return [mean - half, mean + half, *([row.reals] if with_floor and row.reals is not None else [])]


@dataclass(frozen=True)
class Axis:
    """An axis of parallel coordinates: its name, where it stands, its labels, and where each row crosses it."""

    name: str
    x: int
    labels: list[tuple[float, str]]  # y and text
    crossings: list[float | None]  # y of each row; None where a row has no such value


def axes(rows: Sequence[Row], names: Sequence[str], figure: str | None) -> list[Axis]:
    """An axis for each setting, and the last for what ranks; larger numbers are higher."""
    found: list[tuple[str, list[tuple[float, str]], list[float | None]]] = []
    for name in names[:AXES]:
        values = [row.runs[0].settings.get(name, MISSING) for row in rows]
        found.append((setting_name(name), *(_numbers(values) or _categories(values))))
    if figure and any(row.estimate for row in rows):
        means = [row.estimate.mean if row.estimate else None for row in rows]
        found.append((figure, *(_numbers(means, gaps=True) or ([], []))))
    between = min(WIDE[1], max(WIDE[0], ROOM // max(len(found) - 1, 1)))
    return [Axis(name, place * between, labels, ys) for place, (name, labels, ys) in enumerate(found)]


def chosen_axes(rows: Sequence[Row], differing: Sequence[str]) -> list[str]:
    """The settings to draw: what was typed first; of those that divide the rows in the same way one."""
    typed = {o.lstrip("~+").partition("=")[0] for row in rows for run in row.runs for o in run.overrides}

    def order(name: str) -> tuple[bool, bool]:
        return name not in typed, not name.endswith(TARGET)

    found: dict[tuple[int, ...], str] = {}
    for name in sorted(differing, key=order):
        values = [key_of(row.runs[0].settings.get(name, MISSING)) for row in rows]
        found.setdefault(tuple(values.index(value) for value in values), name)
    return [name for name in differing if name in list(found.values())[:AXES]]


def setting_name(name: str) -> str:
    """How a setting is called: the class that is built at a place by the place alone."""
    return name.removesuffix(f".{TARGET}")


def setting_value(name: str, value: Any) -> str:
    """A setting's value: of the class that is built the last two of its names."""
    return ".".join(str(value).split(".")[-2:]) if name.endswith(TARGET) and value is not MISSING else shown(value)


def _numbers(values: Sequence[Any], gaps: bool = False) -> tuple[list[tuple[float, str]], list[float | None]] | None:
    """Labels and places on an axis of numbers, logarithmic over more than a factor of 20; None for other values."""
    numbers = [finite(value) for value in values]
    known = [number for number in numbers if number is not None]
    if not known or (not gaps and len(known) < len(values)):
        return None
    logarithmic = min(known) > 0 and max(known) / min(known) > 20
    scaled = [None if n is None else math.log10(n) if logarithmic else n for n in numbers]
    low = min(s for s in scaled if s is not None)
    span = (max(s for s in scaled if s is not None) - low) or 1.0
    places = [None if s is None else round(TALL * (1 - (s - low) / span), 1) for s in scaled]
    marked: list[tuple[float, str]] = []
    for place, number in sorted(
        {(p, n) for p, n in zip(places, numbers, strict=True) if p is not None and n is not None}
    ):
        if not marked or place - marked[-1][0] >= 16 or place == TALL:
            marked = marked[:-1] if marked and place == TALL and place - marked[-1][0] < 16 else marked
            marked.append((place, f"{number:.4g}"))
    return marked, places


def _categories(values: Sequence[Any]) -> tuple[list[tuple[float, str]], list[float | None]]:
    """Labels and places on an axis of choices, in the order of their texts; from the 24th on they share a place."""
    texts = [_short(value) for value in values]
    named = {key_of(value): text for value, text in zip(values, texts, strict=True)}
    ordered = sorted(named, key=lambda key: (named[key], key))
    between = TALL / max(min(len(ordered), CHOICES) - 1, 1)
    heights = {key: round(min(place, CHOICES - 1) * between, 1) for place, key in enumerate(ordered)}
    labels = [(heights[key], named[key]) for key in ordered[:CHOICES]]
    return labels, [heights[key_of(value)] for value in values]


def _short(value: Any) -> str:
    text = shown(value)
    if isinstance(value, str) and text.count(".") > 1 and " " not in text:  # a dotted path
        text = ".".join(text.split(".")[-2:])
    return text if len(text) <= LABEL else text[: LABEL - 1] + "…"
