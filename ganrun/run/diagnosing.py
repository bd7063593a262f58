"""The callback that watches a run while it trains: what is found is shown, written down, and may end the run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ganrun.config.accepted import accepted
from ganrun.config.build import Run
from ganrun.config.recipe import recipe
from ganrun.core.callbacks import Callback
from ganrun.core.context import Progress, UpdateResult
from ganrun.core.errors import Stopped
from ganrun.diagnosis.finding import Finding
from ganrun.diagnosis.remedy import unusual_in
from ganrun.diagnosis.rules.all import RULES
from ganrun.diagnosis.watch import Change, Watch
from ganrun.record.atomic import environment
from ganrun.record.folder import RunFolder
from ganrun.record.progress import Display
from ganrun.record.recorder import Recorder, forget
from ganrun.record.results import found_before, windows
from ganrun.run.about import abouts

REMEDIES = 3  # that are named with a finding
PATIENCE = 500  # steps before which no finding ends a run


class Diagnosis(Callback):
    """Asks the rules at each log. Reads what the run records, and so changes nothing of it.

    Its state follows from `metrics.jsonl`: a resumed run reads the lines it has, and finds what it would have found.
    """

    name = "diagnosis"
    form: dict[str, Any] = {}  # noqa: RUF012

    def __init__(
        self, run: Run, folder: RunFolder, recorder: Recorder, display: Display, quality: str | None,
        overrides: Sequence[str],
    ):  # fmt: skip
        """`quality` is the tag of the run's quality; None for a run that measures none. `overrides` as typed."""
        self.run, self.recorder, self.display = run, recorder, display
        self.typed = overrides
        self.settings, self.lines = run.settings["diagnosis"], folder.findings
        self.acts = self.settings["during"] and run.rank.writes
        self.watch = Watch(RULES, abouts(run.game, run.settings, quality) if self.acts else [])
        self.before: list[str] = []  # failures that were found before the first step: nothing in training ends them

    def catch_up(self, metrics: Path, step: int) -> None:
        """Read what a resumed run has recorded up to this step, and drop what was found later."""
        if self.acts:
            forget(self.lines, step + 1)
            self.before = [line["finding"] for line in found_before(self.lines.parent) if line["failure"]]
            for window in windows(metrics):
                self.watch.feed(window.step, window)

    def begin(self, found: Sequence[Finding]) -> None:
        """Write down what was found before the first step."""
        self.before += [finding.name for finding in found if finding.failure]
        for finding in found:
            self._write(0, finding)

    def after_step(self, now: Progress, results: Sequence[UpdateResult], *, last: bool) -> None:
        if self.acts and (self.recorder.due(now.step) or now.step == self.run.settings["steps"]):
            self._feed(now.step)
            self._stop(now.step)

    def last_words(self) -> None:
        """Find what has ended the run, in a window that no callback came to see."""
        self.recorder.end()
        if self.acts and self.recorder.step > max(self.watch.history.steps, default=0):
            self._feed(self.recorder.step)

    def summary(self) -> list[str]:
        """The names of what is found and not over, what explains most first."""
        return list(dict.fromkeys([*self.before, *(change.rule.name for change in self.watch.found)]))

    def _feed(self, step: int) -> None:
        for change in self.watch.feed(step, self.recorder.means):
            self._tell(change)

    def _tell(self, change: Change) -> None:
        """One line on screen and in run.log, one in findings.jsonl, and a point with a text in TensorBoard."""
        rule = change.rule
        finding = finding_of(change, self.run.settings, self.typed)
        self._write(change.step, finding, change.pair, over=not change.found)
        text = f"step {change.step:,}: {finding.line if change.found else f'{rule.name} is over'}"
        self.recorder.remark(change.step, f"findings/{rule.name}", float(change.found), text)
        if change.found or rule.failure:
            self.display.tell(text)

    def _write(self, step: int, finding: Finding, pair: str = "", *, over: bool = False) -> None:
        """One line of findings.jsonl."""
        line: dict[str, Any] = {"step": step, "finding": finding.name, "pair": pair, "failure": finding.failure}
        line |= {"state": "over"} if over else {"state": "found", **finding.plain}
        with environment(f"cannot write {self.lines}"), self.lines.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _stop(self, step: int) -> None:
        """Raises Stopped where the run is to end at a collapse."""
        if self.settings["on_collapse"] != "stop" or step < PATIENCE:
            return
        for change in self.watch.found:
            if change.rule.ends:
                told = finding_of(change, self.run.settings, self.typed).line
                raise Stopped(f"step {step}: {told} (diagnosis.on_collapse=stop)")


def finding_of(change: Change, settings: Mapping[str, Any], typed: Sequence[str]) -> Finding:
    """What a rule has found, with the first remedies that a run with these settings accepts; none of what is over.

    `typed` are the overrides of the run: a setting that is far from usual goes back to what it is without them.
    """
    rule, words = change.rule, {}
    if change.found:
        usual = recipe(typed, unusual_in(settings, rule.tries))
        words = dict.fromkeys(remedy.words(settings, usual) for remedy in rule.tries)
    return Finding(
        name=rule.name, meaning=rule.meaning, failure=rule.failure, evidence=change.evidence,
        remedies=accepted(settings, filter(None, words), most=REMEDIES),
    )  # fmt: skip
