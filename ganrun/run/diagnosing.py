"""The callback that watches a run while it trains: what is found is shown, written down, and may end the run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ganrun.config.build import Run
from ganrun.core.callbacks import Callback
from ganrun.core.context import Progress, UpdateResult
from ganrun.core.errors import Stopped, for_shell
from ganrun.diagnosis.finding import Finding
from ganrun.diagnosis.rules.all import RULES
from ganrun.diagnosis.watch import Change, Watch
from ganrun.record.atomic import environment
from ganrun.record.folder import RunFolder
from ganrun.record.progress import Display
from ganrun.record.recorder import Recorder, forget
from ganrun.run.about import abouts
from ganrun.run.remedies import accepted

PATIENCE = 500  # steps before which no finding ends a run


class Diagnosis(Callback):
    """Asks the rules at each log. Reads what the run records, and so changes nothing of it.

    Its state follows from `metrics.jsonl`: a resumed run reads the lines it has, and finds what it would have found.
    """

    name = "diagnosis"
    form: dict[str, Any] = {}  # noqa: RUF012

    def __init__(
        self,
        run: Run,
        folder: RunFolder,
        recorder: Recorder,
        display: Display,
        quality: str | None,
        overrides: Sequence[str] | None,
    ):
        """`quality` is the tag of the run's quality; `overrides` are what it was started with."""
        self.run, self.recorder, self.display, self.overrides = run, recorder, display, overrides
        self.settings, self.lines = run.settings["diagnosis"], folder.findings
        self.acts = self.settings["during"] and run.rank.writes
        about = abouts(run.game, run.updates, steps=run.settings["steps"], quality=quality)
        self.watch = Watch(RULES, about)

    def catch_up(self, metrics: Path, step: int) -> None:
        """Read what a resumed run has recorded up to this step, and drop what was found later."""
        if self.acts:
            forget(self.lines, step + 1)
            for at, means in logged(metrics):
                self.watch.feed(at, means)

    def after_step(self, now: Progress, results: Sequence[UpdateResult], *, last: bool) -> None:
        if self.acts and (self.recorder.due(now.step) or now.step == self.run.settings["steps"]):
            for change in self.watch.feed(now.step, self.recorder.means):
                self._tell(change)
            self._stop(now.step)

    def last_words(self, step: int) -> None:
        """Find what has ended the run in the midst of a log window."""
        if self.acts and self.recorder.means and step > max(self.watch.history.steps, default=0):
            for change in self.watch.feed(step, self.recorder.means):
                self._tell(change)

    def summary(self) -> list[str]:
        """The names of what is found at the end and not over, what explains most first."""
        return list(dict.fromkeys(rule.name for rule, _, _ in self.watch.found))

    def _tell(self, change: Change) -> None:
        """One line on screen and in run.log, one in findings.jsonl, and one in TensorBoard."""
        finding = self.finding(change)
        state = "found" if change.found else "over"
        line = {"step": change.step, "finding": finding.name, "state": state, "failure": change.rule.failure}
        line |= {"pair": change.pair} if change.pair else {}
        if change.found:
            evidence = {key: round(value, 6) for key, value in finding.evidence.items()}
            line |= {"meaning": finding.meaning, "evidence": evidence, "remedies": list(finding.remedies)}
        with environment(f"cannot write {self.lines}"), self.lines.open("a") as file:
            file.write(json.dumps(line) + "\n")
        text = sentence(finding, change.step) if change.found else f"step {change.step:,}: {finding.name} is over"
        self.recorder.told(change.step, f"findings/{finding.name}", float(change.found), text)
        if change.found or change.rule.failure:
            self.display.tell(text)

    def finding(self, change: Change) -> Finding:
        """What was found, with the remedies that this run's checker accepts."""
        remedies = accepted(change.rule.remedies, self.run.settings, self.overrides) if change.found else ()
        return Finding(name=change.rule.name, meaning=change.rule.meaning, evidence=change.evidence, remedies=remedies)

    def _stop(self, step: int) -> None:
        """Raises Stopped where the run is to end at a collapse."""
        if self.settings["on_collapse"] != "stop" or step < PATIENCE:
            return
        for rule, _, evidence in self.watch.found:
            if rule.ends:
                raise Stopped(f"step {step}: {rule.name} ({figures(evidence)}), and diagnosis.on_collapse=stop. "
                              "Try: ganrun diagnose with this run, which says what to change")  # fmt: skip


def sentence(finding: Finding, step: int) -> str:
    """A finding as one line: when, what, its figures, and the likeliest remedy as it is typed."""
    text = f"step {step:,}: {finding.name}: {finding.meaning} ({figures(finding.evidence)})"
    if not finding.remedies:
        return f"{text}."
    return f"{text}. Try: {' '.join(for_shell(word) for word in finding.remedies[0].split())}"


def figures(evidence: Mapping[str, float]) -> str:
    """The figures of a finding: `name value, name value`."""
    return ", ".join(f"{name} {value:.3g}" for name, value in evidence.items())


def logged(metrics: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines of a run's metrics.jsonl: the step and the means of each; those that are not whole are left out."""
    if not metrics.exists():
        return
    for line in metrics.read_text(errors="replace").splitlines():
        try:
            means = json.loads(line)
            step = means.pop("step")
        except (ValueError, KeyError, AttributeError, RecursionError):
            continue
        numbers = {key: value for key, value in means.items() if value is None or isinstance(value, (int, float))}
        if isinstance(step, int):
            yield step, numbers
