"""What a sweep comes to: each job with its overrides, how it ended and what it reached, as a table, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ganrun.core.errors import CONFIG_ERROR, ConfigError
from ganrun.record.atomic import environment, write_atomically
from ganrun.record.progress import command, shown
from ganrun.record.results import Quality, findings, finite, minutes
from ganrun.record.stored import record
from ganrun.run.sweep import JobOutcome, split_overrides

WIDE = 160  # columns of a table that no terminal shows
TABLE = ("job", "ended", "exit_code", "quality", "quality_metric", "quality_best", "quality_best_step", "quality_reals",
         "objective_value", "minutes", "warnings", "findings", "folder", "message")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Reached:
    """What a job's run has left: None where it has none, as a job that was refused."""

    quality: Quality | None = None
    objective: float | None = None
    minutes: float | None = None
    warnings: int | None = None
    findings: str = ""  # the failures that were found and are not over, separated by spaces

    @classmethod
    def by(cls, outcome: JobOutcome) -> Reached:
        """Of this job; of a job that failed as far as it came."""
        folder = Path(outcome.job.folder)
        try:
            summary = record(folder / "summary.json") if outcome.code == 0 else None
            summary, trained, failures = summary or {}, minutes(folder), findings(folder)
        except ConfigError:
            return cls()
        found = summary.get("diagnostics")
        levels = [one.get("level") for one in found if isinstance(one, dict)] if isinstance(found, list) else None
        return cls(
            quality=Quality.of(summary),
            objective=finite(summary.get("objective")),
            minutes=trained,
            warnings=None if levels is None else sum(level in ("E", "W") for level in levels),
            findings=" ".join(failures),
        )


def print_table(outcomes: Sequence[JobOutcome], console: Console | None = None) -> int:
    """Print how every job ended, and write it into the sweep's folder; returns how many are not done.

    Raises EnvironmentFailed when the files cannot be written.
    """
    console = console or Console(width=None if sys.stdout.isatty() else WIDE)
    reached = [Reached.by(outcome) for outcome in outcomes]
    common, names = split_overrides([outcome.job for outcome in outcomes])
    console.print()
    console.print(_table(outcomes, reached, names, console.width))
    folder = os.path.commonpath([os.path.dirname(outcome.job.folder) or "." for outcome in outcomes])
    lines = [
        *([f"every job: {common}"] if common else []),
        _counts(outcomes),
    ]
    made = Path(folder).is_dir()
    lines[-1] += f"; their folders are in {folder}" if made else ""
    if _unfinished(outcomes):
        lines.append(f"to go on: the same command with hydra.sweep.dir={shlex.quote(folder)}")
    if made and any(one.minutes is not None for one in reached):
        lines.append(f"to compare: {command('ganrun')} report {shown(Path(folder))}")
    console.print("\n" + "\n".join(lines), highlight=False, markup=False, soft_wrap=True)
    if made:
        write(Path(folder), outcomes, reached)
    return sum(outcome.code != 0 for outcome in outcomes)


def _counts(outcomes: Sequence[JobOutcome]) -> str:
    """How many jobs are done, failed and, where a sweep was ended early, not started."""
    done, waiting = (sum(outcome.code == code for outcome in outcomes) for code in (0, None))
    line = f"{done} of {len(outcomes)} jobs done, {len(outcomes) - done - waiting} failed"
    return f"{line}, {waiting} not started" if waiting else line


def _unfinished(outcomes: Sequence[JobOutcome]) -> bool:
    """Whether the same command, given again, would find something to do."""
    return any(outcome.code not in (0, CONFIG_ERROR) for outcome in outcomes) and len(outcomes) > 1


def _table(outcomes: Sequence[JobOutcome], reached: Sequence[Reached], names: dict[int, str], width: int) -> Table:
    """A row for each job; a column of figures only where a job has one."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("job", justify="right")
    table.add_column("ended", overflow="fold", max_width=width // 3)
    figures = {title: cells for title, cells in _figures(reached).items() if any(cells)}
    for title in figures:
        table.add_column(title, justify="left" if title == "findings" else "right")
    table.add_column("overrides, and why it failed", overflow="fold")
    for place, outcome in enumerate(outcomes):
        cell = [names[outcome.job.number], *(f"  {line}" for line in outcome.message.splitlines())]
        own = (cells[place] for cells in figures.values())
        table.add_row(str(outcome.job.number), Text(outcome.ended), *own, Text("\n".join(cell)))
    return table


def _figures(reached: Sequence[Reached]) -> dict[str, list[str]]:
    """The cells of each column of figures, empty where a job has none."""
    qualities = [one.quality.last if one.quality else None for one in reached]
    return {
        "quality": ["" if value is None else f"{value:.4g}" for value in qualities],
        "objective": ["" if one.objective is None else f"{one.objective:.4g}" for one in reached],
        "minutes": ["" if one.minutes is None else f"{one.minutes:.1f}" for one in reached],
        "warnings": [str(one.warnings or "") for one in reached],
        "findings": [one.findings.replace(" ", "\n") for one in reached],
    }


def write(folder: Path, outcomes: Sequence[JobOutcome], reached: Sequence[Reached]) -> None:
    """Write sweep.csv, with a column for each key that was overridden, and sweep.json, with the overrides as typed.

    Raises EnvironmentFailed when a file cannot be written.
    """
    rows = [_row(outcome, one) for outcome, one in zip(outcomes, reached, strict=True)]
    typed = [dict(_pair(override) for override in outcome.job.overrides) for outcome in outcomes]
    keys = list(dict.fromkeys(key for own in typed for key in own))
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*TABLE[:-2], *keys, *TABLE[-2:]])
    for row, own in zip(rows, typed, strict=True):
        cells = [row[name] for name in TABLE]
        table.writerow([*cells[:-2], *(own.get(key) for key in keys), *cells[-2:]])
    listed = [row | {"overrides": outcome.job.overrides} for row, outcome in zip(rows, outcomes, strict=True)]
    with environment(f"cannot write the table of the sweep in {folder}", "the jobs' own folders are whole"):
        write_atomically(folder / "sweep.csv", text.getvalue().encode(errors="surrogateescape"))
        write_atomically(folder / "sweep.json", json.dumps(listed, indent=2) + "\n")


def _row(outcome: JobOutcome, reached: Reached) -> dict[str, Any]:
    quality = reached.quality
    return {
        "job": outcome.job.number,
        "ended": outcome.ended,
        "exit_code": outcome.code,
        "quality": quality and quality.last,
        "quality_metric": quality and quality.metric,
        "quality_best": quality and quality.best,
        "quality_best_step": quality and quality.best_step,
        "quality_reals": quality and quality.reals,
        "objective_value": reached.objective,
        "minutes": None if reached.minutes is None else round(reached.minutes, 3),
        "warnings": reached.warnings,
        "findings": reached.findings,
        "folder": outcome.job.folder,
        "message": outcome.message,
    }


def _pair(override: str) -> tuple[str, str]:
    """Key and value of an override; that of a part that is taken out, such as ~tricks.ema, has none."""
    key, _, value = override.partition("=")
    return key, value
