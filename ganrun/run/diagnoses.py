"""What a run shows, from what it has recorded: finished, failed or live, and also one that was not watched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ganrun.core.errors import ConfigError
from ganrun.diagnosis.finding import Finding
from ganrun.diagnosis.history import History
from ganrun.diagnosis.rules.all import RULES
from ganrun.diagnosis.watch import Change, Watch
from ganrun.metrics.comparison import QUALITY
from ganrun.record.results import found_before, windows
from ganrun.record.stored import record
from ganrun.run.about import abouts
from ganrun.run.diagnosing import finding_of
from ganrun.run.load import untrained


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One finding of a run: from the step at which it appeared to that at which it was over, or to the end."""

    finding: Finding  # with remedies while it is not over
    pair: str  # of a game with several; else ""
    began: int
    ended: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosed:
    """A run's findings, in the order of their weight, and what it has logged."""

    path: Path
    settings: Mapping[str, Any]
    step: int  # of the last log
    history: History
    before: list[Finding]  # found before the first step
    findings: list[Shown]

    @property
    def failures(self) -> list[Finding]:
        """The failures that are not over, those of before the first step first."""
        now = [one.finding for one in self.findings if one.ended is None]
        return [finding for finding in [*self.before, *now] if finding.failure]


def diagnose(path: Path, plugins: Sequence[str] = ()) -> Diagnosed:
    """Read a run's log again. Opens no data. Raises ConfigError for a folder that is no run, or has logged nothing."""
    settings, game = untrained(path, plugins, torch.device("cpu"))
    log, begin = path / "metrics.jsonl", f"metrics/{QUALITY}_"
    quality = next((name for window in windows(log) for name in window if name.startswith(begin)), None)
    watch = Watch(RULES, abouts(game, settings, quality))
    changes = [change for window in windows(log) for change in watch.feed(window.step, window)]
    if not watch.history.steps:
        raise ConfigError(str(path), "no log in it yet", "a run that has logged something", "waiting for its first log")
    weight = {rule.name: number for number, rule in enumerate(RULES)}
    shown = list(_shown(changes, settings, record(path / "overrides.yaml") or []))
    shown.sort(key=lambda one: (one.ended is not None, weight[one.finding.name], one.began))
    before = [
        Finding(name=line["finding"], meaning=line["meaning"], failure=line["failure"], evidence=line["evidence"],
                remedies=tuple(line["remedies"])) for line in found_before(path)
    ]  # fmt: skip
    return Diagnosed(path=path, settings=settings, step=watch.history.steps[-1], history=watch.history, before=before,
                     findings=shown)  # fmt: skip


def _shown(changes: Sequence[Change], settings: Mapping[str, Any], typed: Sequence[str]) -> Iterator[Shown]:
    """Each finding with when it began and ended; those that are not over with what to try."""
    open_ones: dict[tuple[str, str], Change] = {}
    for change in changes:
        key = change.rule.name, change.pair
        if change.found:
            open_ones[key] = change
        elif key in open_ones:
            first = open_ones.pop(key)
            finding = finding_of(first._replace(found=False), settings, typed)  # over: nothing to try
            yield Shown(finding=finding, pair=first.pair, began=first.step, ended=change.step)
    for change in open_ones.values():
        yield Shown(finding=finding_of(change, settings, typed), pair=change.pair, began=change.step)
