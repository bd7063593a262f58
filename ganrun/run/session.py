"""One run from start to end: build it, play it, and say what it left."""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from ganrun.config.build import Run, build
from ganrun.config.resume import WARNED, below
from ganrun.config.rules import said
from ganrun.core.errors import Refused
from ganrun.core.train import train
from ganrun.core.traits import Level
from ganrun.data.transforms.classes import told
from ganrun.machine import keep_big_blocks
from ganrun.record.atomic import write_atomically
from ganrun.record.best import Best
from ganrun.record.checkpoint import Checkpoints
from ganrun.record.folder import RunFolder
from ganrun.record.grid import grid, save_png
from ganrun.record.progress import Progress, shown, summary
from ganrun.record.recorder import Recorder
from ganrun.run.hyperparameters import hyperparameters
from ganrun.run.signals import Signals

logger = logging.getLogger("ganrun")

SEVERITY = {Level.ERROR: logging.WARNING, Level.WARNING: logging.WARNING, Level.NOTE: logging.INFO}


class Log:
    """Gives each window of steps its speed and its learning rates, and shows it."""

    def __init__(self, run: Run, recorder: Recorder, progress: Progress, first: int):
        self.run, self.recorder, self.progress = run, recorder, progress
        self.add, self.due = recorder.add, recorder.due
        self.step, self.since = first, time.monotonic()

    def flush(self, step: int) -> dict[str, float]:
        now = time.monotonic()
        speed = (step - self.step) * self.run.game.stage.images / max(now - self.since, 1e-9)
        rates = {f"learning_rate/{name}": player.rate(step - 1) for name, player in self.run.engine.players.items()}
        extra = {"speed/images_per_second": speed, "images": self.run.source.seen, **rates, **self.run.game.figures()}
        means = self.recorder.flush(step, extra)
        self.progress.update(step, means, speed)
        self.step, self.since = step, time.monotonic()
        return means


class Saver:
    """Writes grids and checkpoints when they are due."""

    def __init__(
        self,
        run: Run,
        folder: RunFolder,
        checkpoints: Checkpoints,
        recorder: Recorder,
        signals: Signals,
        best: Mapping[str, Any] | None = None,
    ):
        """`best` is what the checkpoint from which the run goes on says of the best one."""
        self.run, self.folder, self.checkpoints = run, folder, checkpoints
        self.recorder, self.signals = recorder, signals
        self.best = Best(run.settings["log"].get("best"), checkpoints, best)
        log = run.settings["log"]
        self.every, self.samples, self.seconds = log["checkpoint"], log["samples"], log["minutes"] * 60
        self.steps = run.settings["steps"]
        self.next_save = time.monotonic() + min(60.0, self.seconds)  # the first within a minute
        self.reals = run.source.examples(len(run.game.sample())).images
        self.last_grid: Path | None = None

    @property
    def interrupted(self) -> bool:
        return self.signals.received is not None

    def after(self, step: int) -> None:
        """Write what is due at the end of this step."""
        last = step == self.steps or self.interrupted
        if step % self.samples == 0 or last:
            self.grid(step)
        if step % self.every == 0 or last or time.monotonic() >= self.next_save:
            self.recorder.write()  # what a checkpoint holds has its points, or a resumed run would miss them
            best = self.best.consider(step, self.recorder.means)
            self.checkpoints.save(step, state(self.run, step) | best, spare=self.best.step)
            self.next_save = time.monotonic() + self.seconds

    def grid(self, step: int) -> None:
        """A picture from the same noise as every other; kept beside the earlier ones."""
        picture = grid(self.run.game.sample(), self.run.game.rows, reals=self.reals)
        self.last_grid = self.folder.samples / f"step_{step:08d}.png"
        save_png(self.last_grid, picture)
        self.recorder.image("samples", step, picture)
        for name, images in self.run.game.pictures().items():
            picture = grid(images.flatten(0, 1), len(images))
            save_png(self.folder.samples / f"{name}_{step:08d}.png", picture)
            self.recorder.image(name, step, picture)

    def start(self, step: int) -> None:
        """The picture of real images beside which the samples are to be judged."""
        picture = grid(self.reals)
        save_png(self.folder.samples / "reals.png", picture)
        self.recorder.image("reals", step, picture)


def say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def warn_on_screen() -> None:
    """Warnings of ours go to standard error as well as to run.log."""
    if not any(type(handler) is logging.StreamHandler for handler in logger.handlers):
        handler = logging.StreamHandler()
        handler.setLevel(logging.WARNING)
        handler.setFormatter(logging.Formatter("ganrun: %(levelname)s: %(message)s"))
        logger.addHandler(handler)


def state(run: Run, step: int) -> dict[str, Any]:
    """All that a run must keep to go on as if it had never stopped; randomness follows from the step."""
    return {
        "step": step,
        "images_seen": run.source.seen,
        "game": run.game.state_dict(),
        "optimizers": {name: player.optimizer.state_dict() for name, player in run.engine.players.items()},
        "data": run.dataset.fingerprint(),
        "config": json.dumps(run.settings),
    }


def restore(run: Run, state: Mapping[str, Any], where: str) -> int:
    """Put a saved state back; returns its step."""
    if state["data"] != run.dataset.fingerprint():
        raise Refused("dataset", "the data are not those that this run was trained on", "the same files")
    try:
        run.game.load_state_dict(state["game"])
        for name, player in run.engine.players.items():
            player.optimizer.load_state_dict(state["optimizers"][name])
    except (RuntimeError, ValueError, KeyError) as error:
        found = f"its checkpoint does not fit ({str(error).splitlines()[0]})"
        raise Refused(where, found, "the networks of this run") from error
    run.source.seen = state["images_seen"]
    return int(state["step"])


class Session:
    """One run, new or resumed."""

    def __init__(self, *, signals: Signals, console: Console | None = None):
        self.signals = signals
        self.console = console or Console()
        self.objective: float | None = None

    def start(self, cfg: DictConfig, path: Path, *, overrides: list[str]) -> int:
        """Train from the first step in a new folder; returns the exit code."""
        keep_big_blocks()
        warn_on_screen()
        run = build(cfg)
        self.signals.defer()  # until here a signal leaves nothing; from here on it leaves a run that can be resumed
        with closing(run.source), closing(RunFolder.create(path)) as folder:
            folder.start_log()
            return self._play(run, folder, overrides, first=0)

    def resume(self, cfg: DictConfig, path: Path, *, overrides: list[str], changes: Mapping[str, str]) -> int:
        """Go on where the run in this folder stopped; returns the exit code."""
        keep_big_blocks()
        warn_on_screen()
        with closing(RunFolder.open(path)) as folder:
            folder.start_log()
            run = build(cfg)
            with closing(run.source):
                checkpoints = Checkpoints(folder.checkpoints, keep=run.settings["log"]["keep"])
                saved = checkpoints.load() if checkpoints.latest() else {}
                first = restore(run, saved, str(path)) if saved else 0
                if first >= run.settings["steps"]:
                    return self._already(path, first)
                self.signals.defer()
                self._tell(first, changes)
                return self._play(run, folder, overrides, first=first, best=saved.get("best"))

    def _already(self, path: Path, step: int) -> int:
        """There is nothing to do: say what would be."""
        more = f"ganrun resume {shown(path)} steps={2 * step}"
        say(self.console, f"{shown(path)} has all its steps already: it is at step {step:,}. To go on: {more}")
        return 0

    def _tell(self, first: int, changes: Mapping[str, str]) -> None:
        """What is other than before; aloud when it is not just how long or where."""
        say(self.console, f"resuming at step {first:,}")
        for key, change in changes.items():
            level = logging.WARNING if below(key, WARNED) else logging.INFO
            logger.log(level, "resumed at step %d with %s: %s", first, key, change)
            if level == logging.INFO:
                say(self.console, f"  {key}: {change}")

    def _play(
        self, run: Run, folder: RunFolder, overrides: list[str], *, first: int, best: Mapping[str, Any] | None = None
    ) -> int:
        settings, began = run.settings, time.monotonic()
        folder.describe(
            config=run.yaml,
            overrides=overrides,
            seed=settings["seed"],
            command=sys.argv,
            more=said(run.findings) | told(run.dataset.labels, run.dataset.classes, run.game.rows),
        )
        for finding in run.findings:
            forced = "forced: " if finding.level is Level.ERROR else ""
            logger.log(SEVERITY[finding.level], "%s%s (rule %s)", forced, finding.sentence, finding.id)
        checkpoints = Checkpoints(folder.checkpoints, keep=settings["log"]["keep"])
        with (
            closing(self._recorder(run, folder, first)) as recorder,
            Progress(steps=settings["steps"], console=self.console, start=first) as progress,
        ):
            log = Log(run, recorder, progress, first)
            saver = Saver(run, folder, checkpoints, recorder, self.signals, best)
            saver.start(first)
            reached = self._train(run, log, saver, first)
            if checkpoints.latest() is None:  # a signal came before the first step
                saver.after(reached)
            self._finish(run, folder, overrides, recorder, saver.best, reached)
        summary(
            self.console,
            folder=folder.path,
            step=reached,
            seconds=time.monotonic() - began,
            grid=saver.last_grid,
            checkpoint=checkpoints.latest(),
            best=saver.best.path,
        )
        if self.signals.received is None:
            return 0
        say(self.console, f"interrupted by {signal.Signals(self.signals.received).name} at step {reached:,}")
        return 128 + self.signals.received

    @staticmethod
    def _train(run: Run, log: Log, saver: Saver, first: int) -> int:
        return train(
            game=run.game,
            engine=run.engine,
            updates=run.updates,
            data=run.source,
            log=log,
            saver=saver,
            seed=run.settings["seed"],
            first=first,
            steps=run.settings["steps"],
        )

    @staticmethod
    def _recorder(run: Run, folder: RunFolder, first: int) -> Recorder:
        recorder = Recorder(
            folder,
            every=run.settings["log"]["every"],
            layers={name: player.layers(name) for name, player in run.engine.players.items()},
            purge_step=first + 1 if first else None,
        )
        recorder.text("configuration", f"```yaml\n{run.yaml}```")
        return recorder

    def _finish(
        self,
        run: Run,
        folder: RunFolder,
        overrides: list[str],
        recorder: Recorder,
        best: Best,
        reached: int,
    ) -> None:
        """The figures of the last window, for the HParams tab and for sweepers; and which checkpoint was best."""
        final = {key: value for key, value in recorder.means.items() if not key.startswith("gradient")}
        recorder.hparams(hyperparameters(run.settings, overrides), final)
        wanted = run.settings["objective"]
        self.objective = final.get(wanted)
        if wanted is not None and self.objective is None:
            logger.warning("objective %s is not among the figures of this run: %s", wanted, ", ".join(final))
        record = {"step": reached, "objective": self.objective, "final": final, **said(run.findings)}
        if best.measure is not None:
            record["best"] = best.record()
        write_atomically(folder.path / "summary.json", json.dumps(record, indent=2) + "\n")
