"""One run from start to end: build it, train it, and report what it left."""

from __future__ import annotations

import json
import logging
import secrets
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from ganrun.config.build import Run, build
from ganrun.config.compose import name_suffix
from ganrun.config.resume import WARNED, below
from ganrun.config.rules import recorded
from ganrun.config.validate import value_of
from ganrun.core.context import Progress
from ganrun.core.errors import Stopped, WaitInterrupted
from ganrun.core.train import train
from ganrun.core.traits import Level
from ganrun.data.transforms.classes import recorded_classes
from ganrun.diagnosis.finding import Finding
from ganrun.machine import keep_big_blocks
from ganrun.record.atomic import environment, write_atomically
from ganrun.record.checkpoint import Checkpoints
from ganrun.record.folder import RunFolder
from ganrun.record.progress import Display, command, shown, summary
from ganrun.record.recorder import Recorder
from ganrun.record.stored import record, summarised
from ganrun.run.callbacks import Checkpointing, Grids, Record
from ganrun.run.check import before
from ganrun.run.diagnosing import Diagnosis
from ganrun.run.measuring import Measuring
from ganrun.run.processes import Others, others, rank_of
from ganrun.run.recording import recorder_of
from ganrun.run.rehearsal import check_metrics
from ganrun.run.rollback import with_rollback
from ganrun.run.signals import Interrupted, Signals
from ganrun.run.stages import begin_with_first_stage
from ganrun.run.state import restore, unfit
from ganrun.run.statistics import Statistics

logger = logging.getLogger("ganrun")

FORMS = {callback.name: callback.form for callback in (Measuring, Statistics, Record, Diagnosis, Grids, Checkpointing)}
LOG_LEVELS = {Level.ERROR: logging.WARNING, Level.WARNING: logging.WARNING, Level.NOTE: logging.INFO}


def say(console: Console, line: str) -> None:
    """Print one line as it is."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def warn_on_screen() -> None:
    """Warnings of ganrun go to standard error as well as to run.log."""
    if not any(type(handler) is logging.StreamHandler for handler in logger.handlers):
        handler = logging.StreamHandler()
        handler.setLevel(logging.WARNING)
        handler.setFormatter(logging.Formatter("ganrun: %(levelname)s: %(message)s"))
        logger.addHandler(handler)


class Session:
    """One run, new or resumed."""

    def __init__(self, *, signals: Signals, console: Console | None = None):
        self.signals = signals
        self.console = console or Console()
        self.objective: float | None = None
        self.others: Others | None = None  # the processes that train beside this one

    def start(self, cfg: DictConfig, path: Path, *, overrides: list[str]) -> int:
        """Train from the first step in a new folder; returns the exit code. Raises ConfigError before any work."""
        with self._among(cfg, path):
            return with_rollback(self, path, lambda: self._start(cfg, path, overrides))

    def resume(self, cfg: DictConfig, path: Path, *, overrides: list[str], changes: Mapping[str, str]) -> int:
        """Go on where the run in this folder stopped; returns the exit code. Raises ConfigError before any work."""
        with self._among(cfg, path):
            return with_rollback(self, path, lambda: self.resume_once(cfg, path, overrides=overrides, changes=changes))

    @contextmanager
    def _among(self, cfg: DictConfig, path: Path) -> Iterator[None]:
        with others(value_of(cfg, "engine.ranks"), path) as self.others:
            yield

    def tell(self, line: str) -> None:
        """Print a line, and log it."""
        logger.info(line)
        say(self.console, line)

    def _start(self, cfg: DictConfig, path: Path, overrides: list[str]) -> int:
        keep_big_blocks()
        warn_on_screen()
        run = build(cfg, rank_of(self.others))
        with closing(run.data):
            check_metrics(run)
            begin_with_first_stage(run)
            self.signals.defer()  # until here a signal leaves nothing; from here on it leaves a run that can be resumed
            with closing(RunFolder.create(path)) as folder:
                folder.start_log()
                checkpoints = Checkpoints(folder.checkpoints, keep=run.settings["log"]["keep"])
                return self._train(run, folder, checkpoints, overrides, Progress(), None)

    def resume_once(self, cfg: DictConfig, path: Path, *, overrides: list[str], changes: Mapping[str, str]) -> int:
        """Go on where the run in this folder stopped, to its end or a failure; returns the exit code."""
        keep_big_blocks()
        warn_on_screen()
        with closing(RunFolder.open(path)) as folder:
            folder.start_log()
            run = build(cfg, rank_of(self.others))
            with closing(run.data):
                check_metrics(run)
                checkpoints = Checkpoints(folder.checkpoints, keep=run.settings["log"]["keep"])
                saved = checkpoints.load(unfit=partial(unfit, run, forms=FORMS)) if checkpoints.latest() else {}
                files = record(folder.path / "data_files.json") or []
                start = restore(run, saved, str(path), files) if saved else Progress()
                if not saved:
                    begin_with_first_stage(run)
                if start.step >= run.settings["steps"] and summarised(folder.summary) == start.step:
                    return self._already(path, start.step)
                self.signals.defer()
                self._report_changes(start.step, changes)
                return self._train(run, folder, checkpoints, overrides, start, saved.get("callbacks", {}))

    def _already(self, path: Path, step: int) -> int:
        """There is nothing to do: say what would be."""
        more = f"{command('ganrun')} resume {shown(path)} steps={2 * step}"
        say(self.console, f"{shown(path)} has all its steps already: it is at step {step:,}. To go on: {more}")
        return 0

    def _report_changes(self, first: int, changes: Mapping[str, str]) -> None:
        """What differs from before; as a warning when it is more than how long or where."""
        say(self.console, f"resuming at step {first:,}")
        for key, change in changes.items():
            level = logging.WARNING if below(key, WARNED) else logging.INFO
            logger.log(level, "resumed at step %d with %s: %s", first, key, change)
            if level == logging.INFO:
                say(self.console, f"  {key}: {change}")

    def _train(
        self,
        run: Run,
        folder: RunFolder,
        checkpoints: Checkpoints,
        overrides: list[str],
        start: Progress,
        states: Mapping[str, Any] | None,
    ) -> int:
        """Train from here on; `states` are those of the callbacks, of a run that is resumed."""
        began = time.monotonic()
        self._describe(run, folder, overrides)
        self._print_notes(run)
        first = self._before(run, overrides) if states is None else []
        with (
            closing(recorder_of(run, folder, None if states is None else start.step, overrides)) as recorder,
            Display(steps=run.settings["steps"], console=self.console, start=start.step) as display,
        ):
            recording, grids = Record(run, recorder, display, start), Grids(run, folder, recorder)
            measuring = Measuring(run, recorder)  # first, so that what it finds is in the line of its step
            statistics = Statistics(run, recorder)
            best = measuring.tag_of(run.settings["log"].get("best"))
            diagnosis = Diagnosis(run, folder, recorder, display, measuring.quality, overrides)
            others = [measuring, statistics, recording, diagnosis, grids]
            saving = Checkpointing(run, checkpoints, recorder, others, best, grids.picture)
            for callback in saving.callbacks:
                callback.load_state_dict((states or {}).get(callback.name, {}))
            diagnosis.catch_up(folder.metrics, start.step)
            diagnosis.begin(first)
            if states:
                saving.resumed(start.step)
            grids.write_reals(start.step)
            if self.others is not None:
                self.others.send(run, start)
            try:
                now = self._loop(run, saving.callbacks, start)
            except Stopped:
                diagnosis.last_words()
                raise
            if now is None:
                return self._exit_code(saving.saved)
            if saving.saved != now.step:  # a signal came before the first step, or while it waited for data
                grids.write(now.step)
                saving.save(now)
            quality = self._finish(run, folder, recorder, measuring, diagnosis, saving, now.step)
        summary(
            self.console, folder=folder.path, step=now.step, seconds=time.monotonic() - began, grid=grids.last,
            checkpoint=checkpoints.latest(), best=saving.best.path, quality=quality,
            findings=diagnosis.summary(),
        )  # fmt: skip
        return self._exit_code(now.step)

    def _print_notes(self, run: Run) -> None:
        """What was found in the data, done to them and left out, and what takes long: on screen and in run.log."""
        for note in (*(f"data: {note}" for note in run.dataset.notes), *run.engine.notes):
            logger.info("%s", note)
            say(self.console, note)

    def _before(self, run: Run, overrides: list[str]) -> list[Finding]:
        """What is wrong with data and networks before the first step, on screen and in run.log too."""
        found = before(run, overrides) if run.rank.writes else []
        for finding in found:
            logger.info("finding: %s", finding.line)
            say(self.console, f"finding: {finding.line}")
        return found

    def _loop(self, run: Run, callbacks: list[Any], start: Progress) -> Progress | None:
        """Train; None when a signal came in the midst of a step: what was saved last is what there is."""
        with suppress(WaitInterrupted):
            return self._steps(run, callbacks, start)
        return None

    def _steps(self, run: Run, callbacks: list[Any], start: Progress) -> Progress:
        return train(
            game=run.game,
            engine=run.engine,
            updates=run.updates,
            data=run.data,
            callbacks=callbacks,
            seed=run.settings["seed"],
            start=start,
            steps=run.settings["steps"],
            rank=run.rank,
            interrupted=lambda: self.signals.received is not None,
        )

    def _exit_code(self, step: int | None) -> int:
        if self.signals.received is None:
            return 0
        where = "before the first step" if step is None else f"at step {step:,}"
        say(self.console, f"interrupted by {signal.Signals(self.signals.received).name} {where}")
        return 128 + self.signals.received

    @staticmethod
    def _describe(run: Run, folder: RunFolder, overrides: list[str]) -> None:
        """Write down what the run is, and log the diagnostics of its parts."""
        rows = run.game.rows if run.game.classes else None  # of classes, not of sentences
        folder.describe(
            config=run.yaml,
            overrides=overrides,
            seed=run.settings["seed"],
            command=sys.argv,
            more=recorded(run.diagnostics) | recorded_classes(run.dataset.labels, run.dataset.classes, rows),
        )
        folder.list_data(run.dataset.file_names())
        for diagnostic in run.diagnostics:
            forced = "forced: " if diagnostic.level is Level.ERROR else ""
            logger.log(LOG_LEVELS[diagnostic.level], "%s%s (rule %s)", forced, diagnostic.sentence, diagnostic.id)

    def _finish(
        self,
        run: Run,
        folder: RunFolder,
        recorder: Recorder,
        measuring: Measuring,
        diagnosis: Diagnosis,
        saving: Checkpointing,
        step: int,
    ) -> dict[str, Any] | None:
        """Write the metrics of the last window, for sweepers too, and the best checkpoint; returns the quality."""
        final = {key: value for key, value in recorder.means.items() if not key.startswith("weight_gradient/")}
        self.objective = final.get(measuring.tag_of(run.settings["objective"]) or "")
        summarised = {"step": step, "objective": self.objective, "final": final, **recorded(run.diagnostics)}
        if saving.best.metric is not None:
            summarised["best"] = saving.best.record()
        if diagnosis.acts:
            summarised["findings"] = diagnosis.summary()
        quality = measuring.summary()
        if quality is not None:
            summarised["quality"] = quality
        with environment(f"cannot write {folder.summary}"):
            write_atomically(folder.summary, json.dumps(summarised, indent=2) + "\n")
        return quality


def train_in(cfg: DictConfig, folder: Path | None) -> Path:
    """Train in this folder, or in a new one below `outputs/`; returns it. For callers that are programs.

    Raises ConfigError before any work, Stopped, EnvironmentFailed, and KeyboardInterrupt once the run is saved.
    """
    path = folder or Path("outputs") / f"{datetime.now():%Y-%m-%d/%H-%M-%S}-{secrets.token_hex(2)}{name_suffix(cfg)}"
    with Signals().installed() as signals:
        try:
            Session(signals=signals).start(cfg, path, overrides=[])
        except Interrupted as interruption:
            raise KeyboardInterrupt from interruption
    if signals.received is not None:
        raise KeyboardInterrupt
    return path
