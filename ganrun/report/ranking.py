"""Which configuration is best: runs that differ in the seed alone are one row, with a 95 % interval of its mean."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from ganrun.report.run import ReportedRun, natural
from ganrun.report.settings import key_of, without_seed

CONFIDENCE = 0.95
LONGEST = 160  # characters of a label
QUIET = re.compile(r"\+*(seed=|plugins=|hydra[./@]|log\.|engine\.)")  # overrides that say little of a configuration


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, with the half width of its 95 % interval by Student's t; None of a single seed."""

    mean: float
    half: float | None
    seeds: int

    @classmethod
    def of(cls, values: Sequence[tuple[str, float]]) -> Estimate | None:
        """Of (seed, value); repetitions of one seed count once, as their mean. None of no value.

        Mean m and standard deviation s of n seeds give m +- t s / sqrt(n), with the 97.5 % quantile of Student's t with
        n - 1 degrees of freedom (Student 1908).
        """
        by_seed: dict[str, list[float]] = {}
        for seed, value in values:
            by_seed.setdefault(seed, []).append(value)
        means = [fmean(some) for some in by_seed.values()]
        count = len(means)
        if not count:
            return None
        half = student_t(count - 1) * stdev(means) / math.sqrt(count) if count > 1 else None
        return cls(fmean(means), half, count)


def student_t(freedom: int) -> float:
    """The quantile of Student's t between which and its negative 95 % lie."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One configuration: its runs, which differ in the seed alone, and what they reached."""

    label: str
    runs: list[ReportedRun]
    shown: ReportedRun | None  # whose pictures stand for the row: of the runs that have any the best
    missing: int  # runs without a figure to rank by
    estimate: Estimate | None  # of the last figure
    best: Estimate | None  # of the best quality during the runs
    reals: float | None  # quality of reals against reals: the floor
    rank: int | None = None  # from 1; equal means share one


@dataclass(frozen=True, kw_only=True)
class Board:
    """Rows whose figures compare: of one metric, on one data set. Best first."""

    figure: str | None  # the metric; None: nothing to rank by
    is_quality: bool
    rows: list[Row]


def boards(runs: Sequence[ReportedRun], *, higher: bool = False) -> list[Board]:
    """The ranking: qualities first, then objectives, then what has neither.

    Of qualities the lower are better, of objectives too unless `higher`.
    """
    found: dict[tuple[int, str, str], list[Row]] = {}
    for label, group in labelled(grouped(runs)):
        figure, kind = _common_figure(group)
        sign = -1 if higher and kind == 1 else 1
        found.setdefault((kind, figure, _data(group[0]) * bool(figure)), []).append(_row(label, group, figure, sign))
    ordered = sorted(found.items(), key=lambda item: (item[0][0], item[0][1], natural(item[1][0].label)))
    return [
        Board(figure=figure or None, is_quality=kind == 0, rows=_ranked(rows, -1 if higher and kind == 1 else 1))
        for (kind, figure, _), rows in ordered
    ]


def grouped(runs: Iterable[ReportedRun]) -> list[list[ReportedRun]]:
    """Runs that differ in the seed alone together, by seed; one whose settings cannot be read is alone."""
    found: dict[str, list[ReportedRun]] = {}
    for run in runs:
        found.setdefault(without_seed(run.settings) if run.settings else f"run {run.name}", []).append(run)
    return [sorted(group, key=lambda run: (natural(run.seed), natural(run.name))) for group in found.values()]


def labelled(groups: Sequence[list[ReportedRun]]) -> list[tuple[str, list[ReportedRun]]]:
    """Each group with what was typed for it and not for all; with its folder where that tells it from no other."""
    typed = [[o for o in group[0].overrides if not QUIET.match(o)] for group in groups]
    alone = len(groups) == 1
    shared = set() if alone else set.intersection(*map(set, typed))
    labels = [" ".join(o for o in own if o not in shared) or "as configured" for own in typed]
    if alone and len(groups[0]) == 1:
        labels = [groups[0][0].name]
    return [
        (cut(label if labels.count(label) == 1 else f"{label} ({group[0].name})"), group)
        for label, group in zip(labels, groups, strict=True)
    ]


def cut(label: str) -> str:
    """A text of bounded length."""
    return label if len(label) <= LONGEST else f"{label[: LONGEST // 2]} ... {label[-LONGEST // 3 :]}"


def figure_of(run: ReportedRun, figure: str) -> float | None:
    """What a run reached of this metric at its end, as its quality or its objective; None without."""
    if run.quality and run.quality.metric == figure:
        return run.quality.last
    return run.objective if run.settings.get("objective") == figure else None


def _common_figure(group: Sequence[ReportedRun]) -> tuple[str, int]:
    """The metric that ranks a group, and its kind: 0 a quality, 1 an objective, 2 none."""
    qualities = [run.quality.metric for run in group if run.quality and run.quality.last is not None]
    objectives = [str(run.settings.get("objective")) for run in group if run.objective is not None]
    for kind, metrics in enumerate((qualities, objectives)):
        if metrics:
            return min(metrics), kind
    return "", 2


def _data(run: ReportedRun) -> str:
    """The same for runs on the same real images."""
    return key_of({key: value for key, value in run.settings.items() if key.startswith("dataset.")})


def _row(label: str, group: list[ReportedRun], figure: str, sign: int) -> Row:
    figures = [(run.seed, figure_of(run, figure)) for run in group] if figure else []
    measured = [(seed, value) for seed, value in figures if value is not None]
    qualities = [(run.seed, run.quality) for run in group if run.quality]
    floors = [quality.reals for _, quality in qualities if quality.reals is not None]

    def order(run: ReportedRun) -> float:
        value = figure_of(run, figure) if figure else None
        return math.inf if value is None else sign * value

    return Row(
        label=label,
        runs=group,
        shown=min((run for run in group if run.pictures), key=order, default=None),
        missing=len(figures) - len(measured),
        estimate=Estimate.of(measured),
        best=Estimate.of([(seed, quality.best) for seed, quality in qualities if quality.best is not None]),
        reals=fmean(floors) if floors else None,
    )


def _ranked(rows: Sequence[Row], sign: int) -> list[Row]:
    """Rows with ranks, best first; those without an estimate last."""
    placed = [row for row in rows if row.estimate]
    means = [sign * row.estimate.mean for row in placed if row.estimate]
    ranks = [1 + sum(other < mean for other in means) for mean in means]
    ranked = [replace(row, rank=rank) for row, rank in zip(placed, ranks, strict=True)]
    ranked.sort(key=lambda row: (row.rank or 0, natural(row.label)))
    return [*ranked, *sorted((row for row in rows if not row.estimate), key=lambda row: natural(row.label))]
