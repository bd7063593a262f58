"""The callbacks of every run: recording, sample grids, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ganrun.config.build import Run
from ganrun.core.callbacks import Callback
from ganrun.core.context import Progress, UpdateResult
from ganrun.data.transforms.vocabulary import Vocabulary
from ganrun.metrics.comparison import falls_as_samples_get_better
from ganrun.record.atomic import environment, write_atomically
from ganrun.record.best import RECORD, Best
from ganrun.record.checkpoint import Checkpoints
from ganrun.record.folder import RunFolder
from ganrun.record.grid import captioned, grid, save_png
from ganrun.record.progress import Display
from ganrun.record.recorder import SPEED, STATE, Recorder
from ganrun.run.state import state_of

FIRST = 50  # grids that TensorBoard gets, before it gets ever fewer


class Record(Callback):
    """Keeps every update's metrics; at each log writes them with speed and learning rates, and shows them."""

    name = "record"
    form: Any = STATE

    def __init__(self, run: Run, recorder: Recorder, display: Display, start: Progress):
        self.run, self.recorder, self.display = run, recorder, display
        self.since, self.clock = start, time.monotonic()

    def after_step(self, now: Progress, results: Sequence[UpdateResult], *, last: bool) -> None:
        for result in results:
            self.recorder.add(now.step, result.update.player, result.names, result.values)
        if self.recorder.due(now.step) or now.step == self.run.settings["steps"]:
            self.run.game.watch(now.step, self.flush(now))  # the only point where the host waits for the device

    def state_dict(self) -> dict[str, Any]:
        """The window that is not written yet, so that a kill changes none of its means."""
        return self.recorder.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.recorder.load_state_dict(state)

    def flush(self, now: Progress) -> dict[str, float]:
        """Write the window that ends here; returns its means."""
        clock = time.monotonic()
        speed = (now.images - self.since.images) / max(clock - self.clock, 1e-9)  # images a second
        players = self.run.engine.players
        rates = {f"training/learning_rate/{name}": player.learning_rate for name, player in players.items()}
        seen = sum(self.run.data.seen.values())
        progress = {SPEED: speed, "training/images": seen}
        extra = progress | rates | self.run.game.log_metrics()
        means = self.recorder.flush(now.step, extra)
        self.display.update(now.step, means, speed, self.run.game.moment)
        self.since, self.clock = now, time.monotonic()
        return means


class Grids(Callback):
    """Writes pictures from the same noise throughout, kept beside each other and beside one of real images."""

    name = "grids"

    def __init__(self, run: Run, folder: RunFolder, recorder: Recorder):
        self.run, self.folder, self.recorder = run, folder, recorder
        self.every = run.settings["log"]["samples"]
        examples = run.data.examples(len(run.game.sample()))
        self.reals = {stream: batch.images for stream, batch in examples.items()}
        self.last = max(folder.samples.glob("step_*.png"), default=None)  # the newest grid
        self._drawn: tuple[int, np.ndarray] | None = None  # the grid that was drawn last, and its step

    def after_step(self, now: Progress, results: Sequence[UpdateResult], *, last: bool) -> None:
        if now.step % self.every == 0 or last:
            self.write(now.step, shown=last or on_the_board(now.step // self.every))

    def write(self, step: int, *, shown: bool = True) -> None:
        """The grid of this step, and the further pictures of the game; of several processes one writes them.

        Those `shown` are in TensorBoard too: with all of them a long run's event file would be mostly pictures.
        """
        if not self.run.rank.writes:
            return
        self.last = self.folder.samples / f"step_{step:08d}.png"
        self._write(self.last, "samples", step, self.picture(step), shown)
        for name, images in self.run.game.pictures().items():
            picture = self._with_moment(grid(images.flatten(0, 1), len(images)))
            self._write(self.folder.samples / f"{name}_{step:08d}.png", name, step, picture, shown)

    def picture(self, step: int) -> np.ndarray:
        """The grid of this step, the one that the game is at: uint8 [H, W, 1 or 3]."""
        if self._drawn is None or self._drawn[0] != step:
            game = self.run.game
            picture = grid(game.sample(), game.rows, reals=self.reals[game.target])
            self._drawn = step, self._with_moment(picture)
        return self._drawn[1]

    def _with_moment(self, picture: np.ndarray) -> np.ndarray:
        """The picture above a line that says the moment of the game, where it has one."""
        moment = self.run.game.moment
        return captioned(picture, moment) if moment else picture

    def _write(self, path: Path, name: str, step: int, picture: np.ndarray, shown: bool) -> None:
        moment = self.run.game.moment
        save_png(path, picture, **({"moment": moment} if moment else {}))
        if shown:
            self.recorder.image(name, step, picture)

    def write_reals(self, step: int) -> None:
        """Pictures of real images to compare the samples with: reals.png, or one for each of several streams."""
        if not self.run.rank.writes:
            return
        for stream, images in self.reals.items():
            name = "reals" if len(self.reals) == 1 else f"reals_{stream}"
            picture = grid(images)
            self._write(self.folder.samples / f"{name}.png", name, step, picture, True)
        self._write_captions()

    def _write_captions(self) -> None:
        """The sentence of each row of the grid, captions.txt, where images are made for words."""
        data, text = self.run.settings["dataset"], getattr(self.run.game, "grid_text", None)
        if text is None or not data["word_count"]:
            return
        sentences = text[:: len(text) // (self.run.game.rows or 1)]
        each = Vocabulary(data["words"].split(), data["text_size"]).decode(sentences)
        lines = "".join(f"row {number}: {words}\n" for number, words in enumerate(each, 1))
        with environment(f"cannot write into {self.folder.samples}"):
            write_atomically(self.folder.samples / "captions.txt", lines)


def on_the_board(number: int) -> bool:
    """Whether TensorBoard gets the grid of this number: the first 50, then 25 more each time their number doubles."""
    spacing = 1 << (max(number - 1, 0) // FIRST).bit_length()
    return number % spacing == 0


class Checkpointing(Callback):
    """Writes checkpoints, with the state of all callbacks. Comes after them."""

    name = "checkpoints"
    form: Any = {"best": (type(None), RECORD)}  # noqa: RUF012

    def __init__(
        self,
        run: Run,
        checkpoints: Checkpoints,
        recorder: Recorder,
        callbacks: Sequence[Callback],
        best: str | None = None,
        picture: Callable[[int], np.ndarray] | None = None,
    ):
        """`callbacks` are the others, whose states are saved too; `best` is the tag of the metric of the best one.

        `picture` draws the grid of the step that the game is at, uint8 [H, W, 1 or 3], to lie beside the best one.
        """
        self.picture = picture
        self.run, self.checkpoints, self.recorder = run, checkpoints, recorder
        self.callbacks = [*callbacks, self]
        log = run.settings["log"]
        highest = {"lowest": False, "highest": True}.get(
            log.get("best_is"), not falls_as_samples_get_better(best or "")
        )
        self.best = Best(best, checkpoints, highest=highest)
        self.every, self.seconds = log["checkpoint"], log["minutes"] * 60
        self.saved: int | None = None  # the step of the newest checkpoint
        self.next_save = time.monotonic() + min(60.0, self.seconds)  # the first within a minute

    def after_step(self, now: Progress, results: Sequence[UpdateResult], *, last: bool) -> None:
        if now.step % self.every == 0 or last or time.monotonic() >= self.next_save:
            self.save(now)

    def save(self, now: Progress) -> None:
        """Save this step's state; of several processes one writes it."""
        if not self.run.rank.writes:
            return
        self.recorder.write()  # what a checkpoint holds has its points, or a resumed run would miss them
        if now.step % self.every == 0 or now.step == self.run.settings["steps"]:
            self.best.consider(now.step, self.recorder.means)  # a choice that no signal and no clock changes
        self.checkpoints.save(now.step, state_of(self.run, now, self.callbacks), spare=self.best.step)
        self._show(now.step)
        self.saved, self.next_save = now.step, time.monotonic() + self.seconds

    def resumed(self, step: int) -> None:
        """Go on from the checkpoint of this step: what a kill left of the best one is brought up to date."""
        self.saved = step
        if self.run.rank.writes:
            self._show(step)

    def _show(self, step: int) -> None:
        if self.picture is not None:
            self.best.show(step, self.picture)

    def state_dict(self) -> dict[str, Any]:
        """Which checkpoint is the best so far."""
        return {"best": self.best.record()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best.restore(state.get("best"))
