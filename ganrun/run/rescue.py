"""Starting a run that fails again with the remedies of its findings, one after the other, until one helps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ganrun.config.overrides import replacing
from ganrun.core.errors import ConfigError
from ganrun.record.results import Quality, findings
from ganrun.record.stored import record
from ganrun.run.diagnoses import diagnose
from ganrun.run.sweep import Job, JobOutcome, run_jobs

PLAINLY = 0.1  # of coverage, more than chance gives a hundred samples
STOP = "diagnosis.on_collapse=stop"  # a try that collapses is not waited for


@dataclass(frozen=True, kw_only=True)
class Rescue:
    """What was tried, and what helped."""

    failures: list[str]  # of the run, what explains most first
    remedies: list[str]  # words, one for each outcome
    outcomes: list[JobOutcome]
    rescued_by: str | None  # the words of the last one, where it helped


def rescue(path: Path, *, tries: int, out: Path, plugins: Sequence[str] = ()) -> Rescue:
    """Start the run again with one remedy at a time, each in a folder of `out`, until one shows no failure.

    Its quality or its coverage must be better too, where both runs measure it. Finished tries in `out` are kept.
    Raises ConfigError for a run without a failure, or without a remedy.
    """
    found = diagnose(path, plugins)
    failures = list(dict.fromkeys(finding.name for finding in found.failures))
    if not failures:
        raise ConfigError(str(path), "shows no failure", "a run that fails", f"ganrun diagnose {path}")
    remedies = list(dict.fromkeys(words for finding in found.failures for words in finding.remedies))[:tries]
    if not remedies:
        none = f"no remedy is known for {', '.join(failures)}"
        raise ConfigError(str(path), none, "one that is", f"ganrun diagnose {path}")
    typed: list[str] = record(path / "overrides.yaml") or []
    outcomes: list[JobOutcome] = []
    for number, words in enumerate(remedies):
        job = Job(number=number, overrides=[*replacing(typed, words.split()), STOP], folder=str(out / str(number)))
        outcomes += run_jobs([job], [], at_once=1)
        if outcomes[-1].code == 0 and not findings(Path(job.folder)) and is_better(Path(job.folder), path):
            return Rescue(failures=failures, remedies=remedies, outcomes=outcomes, rescued_by=words)
        if outcomes[-1].code is not None and outcomes[-1].code > 128:  # interrupted
            break
    return Rescue(failures=failures, remedies=remedies, outcomes=outcomes, rescued_by=None)


def quality_of(run: Path) -> float | None:
    """The last quality of a run; None for one that was ended, or measures none."""
    found = Quality.of(record(run / "summary.json") or {})
    return None if found is None else found.last


def is_better(run: Path, than: Path) -> bool:
    """Whether a run ended with lower quality, or covers plainly more of the reals; also where one measures neither.

    Quality is the worst of several views, and one of them may be as bad in a run that all others say is healed.
    """
    own, other = quality_of(run), quality_of(than)
    if own is None or other is None or own < other:
        return True
    return coverage_of(run) > coverage_of(than) + PLAINLY


def coverage_of(run: Path) -> float:
    """The last coverage that a run has measured beside quality; NaN where it has none."""
    summary = record(run / "summary.json") or {}
    found = Quality.of(summary)
    last = None if found is None else summary.get("final", {}).get(found.metric.replace("quality", "coverage"))
    return float(last) if isinstance(last, (int, float)) else math.nan
