"""A run that trains in turns: a few steps now, more later. For what measures runs; it is never at its last step."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

import torch

from ganrun.config.build import Run
from ganrun.core.callbacks import Callback
from ganrun.core.context import Progress, UpdateResult
from ganrun.core.train import train

ENDLESS = 10**9


class _Enough(Exception):
    """Raised to pause a loop that goes on later: its last step is not the end of the run, which writes."""


class _Pause(Callback):
    """Pauses the loop after a number of steps. Comes after all other callbacks."""

    name = "pause"

    def __init__(self) -> None:
        self.until, self.now = 0, Progress()

    def after_step(self, now: Progress, results: Sequence[UpdateResult], *, last: bool) -> None:
        self.now = now
        if now.step >= self.until:
            raise _Enough


class Turns:
    """The loop of a run with these callbacks, which pauses after each turn."""

    def __init__(self, run: Run, callbacks: Sequence[Callback] = ()):
        self.run, self._pause = run, _Pause()
        self._callbacks = [*callbacks, self._pause]

    @property
    def now(self) -> Progress:
        """How far the run has come. To set it is to go on as if it had come elsewhere."""
        return self._pause.now

    @now.setter
    def now(self, now: Progress) -> None:
        self._pause.now = now

    def train(self, steps: int) -> None:
        """Train this number of steps more."""
        run = self.run
        self._pause.until = self.now.step + steps
        with suppress(_Enough):
            train(
                game=run.game,
                engine=run.engine,
                updates=run.updates,
                data=run.data,
                callbacks=self._callbacks,
                seed=run.settings["seed"],
                start=self.now,
                steps=ENDLESS,
            )

    def seconds(self, steps: int) -> float:
        """Train this number of steps more; returns the seconds that they took, the device's work included."""
        wait(self.run.device)
        began = time.perf_counter()
        self.train(steps)
        wait(self.run.device)
        return time.perf_counter() - began

    def work(self, steps: int) -> float:
        """The same in seconds of the processor, which other programs hardly change; on a GPU those of the clock."""
        if self.run.device.type != "cpu":
            return self.seconds(steps)
        began = time.process_time()
        self.train(steps)
        return time.process_time() - began


def wait(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
