"""The best checkpoint by a metric that the run logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ganrun.record.atomic import environment, link_atomically
from ganrun.record.checkpoint import Checkpoints
from ganrun.record.grid import save_png, text_of

LINK, PICTURE = "best.pt", "best.png"  # in the folder of checkpoints
RECORD = {"metric": str, "step": int, "value": float}  # the form of a record


class Best:
    """The checkpoint at which a metric was lowest, or highest: its mean over the log window that ended last.

    Every checkpoint holds a record of the best one at the time it was saved, itself included, for a resumed run. A
    record of a file that is gone, or by another metric, is ignored.
    """

    def __init__(self, metric: str | None, checkpoints: Checkpoints, *, highest: bool = False):
        self.metric, self.checkpoints, self.highest = metric, checkpoints, highest
        self.step: int | None = None
        self.value: float | None = None

    def restore(self, record: Mapping[str, Any] | None) -> None:
        """Continue from the record in the checkpoint that a run resumes from."""
        if record and record["metric"] == self.metric and self.checkpoints.at(record["step"]):
            self.step, self.value = record["step"], record["value"]

    def consider(self, step: int, means: Mapping[str, float]) -> None:
        """Compare a checkpoint that is about to be saved at this step."""
        if self.metric is None:
            return
        value = means.get(self.metric)
        if value is not None and (self.value is None or (value > self.value if self.highest else value < self.value)):
            self.step, self.value = step, value

    @property
    def path(self) -> Path | None:
        """The file of the best checkpoint; None when there is none."""
        return None if self.step is None else self.checkpoints.at(self.step)

    def show(self, step: int, draw: Callable[[int], np.ndarray]) -> None:
        """Bring best.pt, a link to the best checkpoint, and best.png, its samples, up to date with what is known.

        `draw` draws the samples of this step. The picture names its checkpoint in its header; one of another
        checkpoint, as a kill may leave it, is removed. Raises EnvironmentFailed when it cannot be written or removed.
        """
        picture, name = self.checkpoints.folder / PICTURE, None if self.path is None else self.path.name
        link_atomically(self.checkpoints.folder / LINK, name)
        if text_of(picture, "checkpoint") == name:
            return
        if name is not None and self.step == step:
            save_png(picture, draw(step), checkpoint=name)
            return
        with environment(f"cannot delete {picture}"):
            picture.unlink(missing_ok=True)

    def record(self) -> dict[str, Any] | None:
        """The best so far, as plain data; None when there is none."""
        if self.step is None:
            return None
        return {"metric": self.metric, "step": self.step, "value": self.value}
