"""The page: one HTML file that needs nothing else. Every text in it is escaped by the template engine."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from itertools import groupby
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from ganrun.report import charts, pictures
from ganrun.report.curves import default_metric, shown_metrics, table
from ganrun.report.ranking import Board, Estimate, Row, boards, cut, figure_of
from ganrun.report.run import ReportedRun
from ganrun.report.settings import DASH, MISSING, split
from ganrun.version import __version__

GENERATOR = '<meta name="generator" content="ganrun'  # by which a page is known as one of ours
ILLUSTRATED = 60  # runs with pictures, the best first
DASHES = ("none", "7 3", "2 3")  # of curves, by their board
SETTINGS = 80  # settings that differ and are shown; their number is told


def page(runs: Sequence[ReportedRun], *, higher: bool = False) -> str:
    """The page of these runs, the same for the same runs. Larger objectives are better where `higher`."""
    ranked = boards(runs, higher=higher)
    rows = [row for board in ranked for row in board.rows]
    colours = [colour for board in ranked for colour in charts.colours(board)]
    numbers = {id(row): number for number, row in enumerate(rows)}
    script, style = own_file("page.js"), own_file("page.css")
    return (
        environment_of_pages()
        .get_template("page.html")
        .render(
            version=__version__,
            generator=Markup(GENERATOR),
            policy=f"default-src 'none'; img-src data:; style-src '{digest(style)}'; script-src '{digest(script)}'",
            style=Markup(style),
            script=Markup(script),
            runs=runs,
            rows=rows,
            colours=colours,
            boards=[_board(board, numbers, higher) for board in ranked],
            title=_title(runs, rows),
            verdict=_verdict(ranked),
            settings=_settings(rows),
            cards=_cards(rows),
            illustrated=ILLUSTRATED,
            **_curves(ranked, rows, colours),
        )
    )


def digest(text: str) -> str:
    """What a page's policy calls the one script, or style, that it may use."""
    return f"sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}"


@cache
def own_file(name: str) -> str:
    """The text of a template, script or style of this room."""
    return (files("ganrun.report") / name).read_text(encoding="utf-8")


@cache
def environment_of_pages() -> Environment:
    """What fills templates: every text is escaped."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(own_file),
        finalize=printable,
    )
    environment.filters |= {"estimate": estimate_text, "number": number, "count": count, "cut": cut}
    environment.globals |= {"figure_of": figure_of, "name_of": charts.setting_name, "value_of": charts.setting_value}
    return environment


def printable(value: Any) -> Any:
    """A text without what turns or hides the text around it; such characters are shown as escapes."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)
    return "" if value is None else value


def number(value: float | None, digits: int = 4) -> str:
    """A number in a few digits; a dash for none."""
    if value is None:
        return DASH
    return f"{value:,.0f}" if abs(value) >= 10**digits and abs(value) < 1e9 else f"{value:.{digits}g}"


def count(value: int | None) -> str:
    """A whole number with its thousands apart; a dash for none."""
    return DASH if value is None else f"{value:,}"


def estimate_text(found: Estimate | None) -> str:
    """Mean and half width of the interval, where there is one."""
    if found is None or not found.half:
        return number(found.mean if found else None) + (
            f" ± {found.half:g}" if found and found.half is not None else ""
        )
    places = min(max(1 - math.floor(math.log10(found.half)), 0), 9)  # two digits of the half width
    return f"{found.mean:,.{places}f} ± {found.half:,.{places}f}"


def _title(runs: Sequence[ReportedRun], rows: Sequence[Row]) -> str:
    several = f"{len(runs)} run{'s' * (len(runs) != 1)}"
    return several if len(rows) == len(runs) else f"{several} of {len(rows)} configuration{'s' * (len(rows) != 1)}"


def _board(board: Board, numbers: dict[int, int], higher: bool) -> dict[str, Any]:
    rows = board.rows
    differing = split([row.runs[0].settings for row in rows])[1]
    drawn = charts.axes(rows, charts.chosen_axes(rows, differing), board.figure) if len(rows) > 1 and differing else []
    floors = [row.reals for row in rows if row.reals is not None]
    return {
        "figure": board.figure,
        "is_quality": board.is_quality,
        "better": "higher" if higher and not board.is_quality else "lower",
        "data": _data_set(rows[0].runs[0]),
        "rows": list(zip([numbers[id(row)] for row in rows], rows, charts.intervals(board), strict=True)),
        "axes": drawn,
        "lines": [_line(drawn, place) for place in range(len(rows))],
        "left_out": max(0, len(differing) - charts.AXES),
        "floor": sum(floors) / len(floors) if floors and board.is_quality else None,
        "intervals": any(row.estimate and row.estimate.half is not None for row in rows),
        "width": drawn[-1].x if drawn else 0,
        "tall": charts.TALL,
    }


def _data_set(run: ReportedRun) -> str:
    return str(run.settings.get("dataset._target_", "")).rpartition(".")[2]


def _line(axes: Sequence[charts.Axis], place: int) -> list[str]:
    """The pieces of a row's line through the axes; it is broken where the row has no value."""
    points = [(axis.x, axis.crossings[place]) for axis in axes]
    pieces = [list(some) for known, some in groupby(points, lambda point: point[1] is not None) if known]
    return [" ".join(f"{x},{y}" for x, y in piece) for piece in pieces]


def _verdict(ranked: Sequence[Board]) -> list[str]:
    """What the ranking says, in a few sentences for each board."""
    named = [board for board in ranked if board.figure and any(row.estimate for row in board.rows)]
    if not named:
        return ["Nothing to rank by: no run here has a quality or an objective in its summary."]
    several = len(named) > 1
    return [(f"{_data_set(board.rows[0].runs[0])}: " if several else "") + _best_of(board) for board in named]


def _best_of(board: Board) -> str:
    first, *others = [row for row in board.rows if row.estimate]
    what = "quality" if board.is_quality else f"objective {board.figure}"
    reached = f"{what} {estimate_text(first.estimate)}{_over_seeds(first)}."
    if not others:
        return f"{reached[:1].upper()}{reached[1:]}"
    more = ""
    if overlap(first, others[0]):
        more = " Its interval and that of the next overlap: more seeds would tell them apart."
    elif all(row.estimate and row.estimate.seeds == 1 for row in (first, *others)):
        more = " Each configuration has one seed, so small differences may be chance."
    return f"Best: {first.label}, {reached}{more}"


def _over_seeds(row: Row) -> str:
    return f" over {row.estimate.seeds} seeds" if row.estimate and row.estimate.seeds > 1 else ""


def overlap(one: Row, other: Row) -> bool:
    """Whether the intervals of two rows share a value; False where one of them has none."""
    a, b = one.estimate, other.estimate
    if a is None or b is None or a.half is None or b.half is None:
        return False
    return abs(a.mean - b.mean) <= a.half + b.half


def _settings(rows: Sequence[Row]) -> dict[str, Any]:
    """What differs between rows as a table, and what all have in common."""
    several = [row.runs[0].settings for row in rows]
    common, differing = split([settings for settings in several if settings] or [{}])
    common.pop("seed", None)
    names = [name for name in differing if name != "seed"]
    return {
        "names": names[:SETTINGS],
        "left_out": max(0, len(names) - SETTINGS),
        "values": [[settings.get(name, MISSING) for name in names[:SETTINGS]] for settings in several],
        "common": sorted(common.items()),
    }


def _cards(rows: Sequence[Row]) -> list[list[dict[str, Any]]]:
    """For each row its runs with their pictures: first the one that stands for the row."""
    size, left = pictures.sizes(min(sum(len(row.runs) for row in rows), ILLUSTRATED)), ILLUSTRATED
    cards = []
    for row in rows:
        ordered = sorted(row.runs, key=lambda run: run is not row.shown)[:left]
        left -= len(ordered)
        cards.append([{"run": r, "best": pictures.best(r, size), "strip": pictures.strip(r, size)} for r in ordered])
    return cards


def _curves(ranked: Sequence[Board], rows: Sequence[Row], colours: Sequence[str]) -> dict[str, Any]:
    """What the script draws."""
    placed = [(place, row) for place, board in enumerate(ranked) for row in board.rows]
    runs = [(place, run) for place, row in enumerate(rows) for run in row.runs]
    names = shown_metrics(run.curves for _, run in runs)
    drawn, left_out = table([run.curves for _, run in runs], names)
    names = names[: len(names) - left_out]
    first = default_metric(names, ranked[0].figure if ranked else None)
    data = {
        "rows": [
            {"label": str(printable(row.label)), "colour": colour, "dash": DASHES[min(place, len(DASHES) - 1)]}
            for (place, row), colour in zip(placed, colours, strict=True)
        ],
        "runs": [
            {"row": place, "seed": str(printable(run.seed)), **curves}
            for (place, run), curves in zip(runs, drawn, strict=True)
        ],
        "metrics": [str(printable(name)) for name in names],
    }
    return {"data": data, "metrics": _by_group(names), "first": first, "metrics_left_out": left_out}


def _by_group(names: Iterable[str]) -> list[tuple[str, list[tuple[int, str]]]]:
    """Metrics with their numbers, by the first part of their names."""
    return [(group, list(some)) for group, some in groupby(enumerate(names), lambda pair: pair[1].partition("/")[0])]
