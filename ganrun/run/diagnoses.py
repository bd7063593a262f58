"""What a run shows, from what it has recorded: finished, failed or live, and also one that was not watched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ganrun.config.build import assemble
from ganrun.config.instantiate import Maker
from ganrun.config.resume import reopen
from ganrun.config.validate import resolve
from ganrun.core.errors import ConfigError
from ganrun.diagnosis.history import History
from ganrun.diagnosis.rule import Evidence, Rule
from ganrun.diagnosis.rules.all import RULES
from ganrun.diagnosis.watch import Watch
from ganrun.metrics.comparison import QUALITY, tag
from ganrun.record.results import windows
from ganrun.run.about import abouts


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One finding of a run: from the step at which it appeared to that at which it was over, or to the end."""

    rule: Rule
    pair: str
    began: int
    ended: int | None
    evidence: Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosed:
    """A run's findings, in the order of their weight, and what it has logged."""

    path: Path
    settings: Mapping[str, Any]
    step: int  # of the last log
    history: History
    findings: list[Shown]


def diagnose(path: Path, plugins: list[str] | None = None) -> Diagnosed:
    """Read a run's log again. Opens no data. Raises ConfigError for a folder that is no run, or has logged nothing."""
    cfg, _ = reopen(path, [f"plugins=[{','.join(plugins)}]"] if plugins else [])
    settings = resolve(cfg)
    parts = assemble(settings, Maker(settings["plugins"]))
    measured = settings["metrics"]
    quality = tag(QUALITY, measured["samples"]) if measured["every"] else None
    watch = Watch(RULES, abouts(parts.game, parts.updates, steps=settings["steps"], quality=quality))
    shown: dict[tuple[Rule, str], Shown] = {}
    done: list[Shown] = []
    for window in windows(path / "metrics.jsonl"):
        for change in watch.feed(window.step, window):
            key = change.rule, change.pair
            if change.found:
                shown[key] = Shown(
                    rule=change.rule, pair=change.pair, began=change.step, ended=None, evidence=change.evidence
                )
            elif (before := shown.pop(key, None)) is not None:
                done.append(Shown(rule=before.rule, pair=before.pair, began=before.began, ended=change.step,
                                  evidence=before.evidence))  # fmt: skip
    if not watch.history.steps:
        raise ConfigError(str(path), "no log in it yet", "a run that has logged something", "waiting for its first log")
    weight = {rule: number for number, rule in enumerate(RULES)}
    found = sorted([*shown.values(), *done], key=lambda one: (one.ended is not None, weight[one.rule], one.began))
    return Diagnosed(path=path, settings=settings, step=watch.history.steps[-1], history=watch.history, findings=found)
