"""What one run's folder holds, read for the page: a file that no run has written is told of and left out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ganrun.core.errors import ConfigError, for_shell
from ganrun.record.folder import A_RUN, is_run, runs_below
from ganrun.record.results import Quality, findings, finite, starts, trained_minutes, whole
from ganrun.record.stored import record, text
from ganrun.report.curves import Curves
from ganrun.report.settings import Settings, read_settings

PICTURE = re.compile(r"step_(\d{8,18})\.png")
MESSAGE = 300  # characters of an error message

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ReportedRun:
    """One run as its folder shows it; `problems` are files that could not be used."""

    path: Path
    settings: Settings = field(default_factory=dict)  # every setting by its dotted name
    overrides: list[str] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    version: str = ""  # of ganrun
    minutes: float | None = None
    curves: Curves = field(default_factory=Curves)
    pictures: dict[int, Path] = field(default_factory=dict)  # step -> a grid from the same noise
    findings: list[str] = field(default_factory=list)  # failures that it has found and that are not over
    error: str = ""  # the last that the run printed, where a sweep kept it
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its path, as it was named on the command line."""
        return str(self.path)

    @property
    def seed(self) -> str:
        """The setting `seed`; a question mark where it is not known."""
        return str(self.settings.get("seed", "?"))

    @property
    def steps(self) -> int | None:
        """The steps that it is to have."""
        return whole(self.settings.get("steps"))

    @property
    def step(self) -> int | None:
        """The step of its summary; without one that of its last window."""
        found = whole(self.summary.get("step"))
        return self.curves.steps[-1] if found is None and self.curves.steps else found

    @property
    def done(self) -> bool:
        """Whether it came to its end."""
        return whole(self.summary.get("step")) is not None and self.step == self.steps

    @property
    def ended(self) -> str:
        """How it ended, in words."""
        reached = "before its first log" if self.step is None else f"at step {self.step:,}"
        if self.done:
            return "done"
        if whole(self.summary.get("step")) is not None:
            return f"stopped {reached}" + (f" of {self.steps:,}" if self.steps is not None else "")
        return f"unfinished: last seen {reached}; killed, failed, or still running"

    @property
    def going_on(self) -> str:
        """The command that resumes it, as it is typed into a shell; plug-ins are named again."""
        plugins = [for_shell(override) for override in self.overrides if override.startswith("plugins=")]
        return " ".join(["ganrun", "resume", shlex.quote(self.name), *plugins])

    @property
    def quality(self) -> Quality | None:
        """The quality of its samples."""
        return Quality.of(self.summary)

    @property
    def objective(self) -> float | None:
        """What its setting `objective` names."""
        return finite(self.summary.get("objective"))

    @property
    def diagnostics(self) -> list[tuple[str, str]]:
        """The level, E, W or I, and the sentence of what was found in its configuration."""
        found = self.summary.get("diagnostics")
        entries = [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
        return [(str(e.get("level", "")), f"{e.get('sentence', '')} (rule {e.get('rule', '?')})") for e in entries]

    @property
    def diagnosed(self) -> str:
        """The command that says what its findings mean, as it is typed into a shell."""
        return f"ganrun diagnose {shlex.quote(self.name)}"

    @property
    def best_step(self) -> int | None:
        """The step at which its samples were best, as far as that is known."""
        if (quality := self.quality) and quality.best_step is not None:
            return quality.best_step
        best = self.summary.get("best")
        return whole(best.get("step")) if isinstance(best, dict) else None

    @property
    def best_picture(self) -> int | None:
        """The step of the grid that is nearest to the best step; of the last grid where that is not known."""
        if not self.pictures or self.best_step is None:
            return max(self.pictures, default=None)
        wanted = self.best_step
        return min(self.pictures, key=lambda step: (abs(step - wanted), step))


def find_runs(folders: Sequence[str]) -> list[Path]:
    """The runs that these folders are or hold, each once, in the natural order of their names.

    Raises ConfigError for a folder without any.
    """
    found: dict[Path, Path] = {}
    for name in folders or ["."]:
        for path in _runs(Path(name)):
            found.setdefault(path.resolve(), path)
    return sorted(found.values(), key=lambda path: (natural(str(path)), str(path)))


def _runs(folder: Path) -> list[Path]:
    try:
        if not folder.is_dir():
            missing = "is no folder" if folder.exists() else "does not exist"
            raise ConfigError(str(folder), missing, f"{A_RUN}, or a folder that holds some", "ganrun report outputs")
        runs = [folder] if is_run(folder) else runs_below(folder)
    except OSError as error:
        found = f"cannot be read ({error.strerror})"
        raise ConfigError(str(folder), found, A_RUN, "ganrun report outputs") from error
    if not runs:
        expected = "the folder of a run, or one that holds runs at most 3 folders below it"
        raise ConfigError(str(folder), "holds no run", expected, "ganrun report outputs, or sweeps/DATE/TIME")
    return runs


def natural(name: str) -> list[tuple[int, int | str]]:
    """A key that sorts job 10 behind job 9."""
    parts = re.findall(r"[0-9]{1,18}|[^0-9]+|[0-9]+", name)
    return [(0, int(part)) if part.isascii() and part.isdecimal() else (1, part) for part in parts]


def read_run(path: Path) -> ReportedRun:
    """Everything of a run that the page shows."""
    problems: list[str] = []

    def tried(read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except ConfigError as error:
            problems.append(f"{_below(path, error.where)}: {error.found}")
            return otherwise

    environment: dict[str, Any] = tried(lambda: record(path / "environment.json") or {}, {})
    curves = tried(lambda: Curves.read(path / "metrics.jsonl"), Curves())
    if curves.damaged:
        problems.append(_skipped(curves.damaged))
    return ReportedRun(
        path=path,
        settings=tried(lambda: read_settings(path / "config.yaml"), {}),
        overrides=tried(lambda: record(path / "overrides.yaml") or [], []),
        summary=tried(lambda: record(path / "summary.json") or {}, {}),
        version=str(environment.get("ganrun", "")),
        minutes=trained_minutes(starts(environment), curves.times),
        curves=curves,
        pictures=grids(path / "samples"),
        findings=tried(lambda: findings(path), []),
        error=_last_message(tried(lambda: text(path / "stderr.log") or "", "")),
        problems=problems,
    )


def grids(folder: Path) -> dict[int, Path]:
    """The sample grids by their steps, in order."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:
        return {}
    found = [(PICTURE.fullmatch(name), name) for name in names]
    return dict(sorted((int(match[1]), folder / name) for match, name in found if match))


def _below(run: Path, where: str) -> str:
    return where.removeprefix(f"{run}/")


def _skipped(lines: Sequence[int]) -> str:
    shown = ", ".join(map(str, lines[:5])) + (", ..." if len(lines) > 5 else "")
    return f"metrics.jsonl: {len(lines)} damaged line{'s' * (len(lines) > 1)} skipped (line {shown})"


def _last_message(printed: str) -> str:
    """The last error message of the run, or the last line that it printed."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ganrun: error: ")]
    return (errors or lines or [""])[-1].removeprefix("ganrun: error: ")[:MESSAGE]
