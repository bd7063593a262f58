"""Which checkpoint is the best by a measure that the run logs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ganrun.record.checkpoint import Checkpoints

logger = logging.getLogger("ganrun")


class Best:
    """The checkpoint at which a measure was lowest: its mean over the log window that ended last.

    Every checkpoint says which one was best when it was saved, itself included, so that a resumed run knows. One that
    is gone, or was best by another measure, counts for nothing.
    """

    def __init__(self, measure: str | None, checkpoints: Checkpoints, said: Mapping[str, Any] | None = None):
        """`said` is what the checkpoint said from which the run goes on."""
        self.measure, self.checkpoints = measure, checkpoints
        self.step: int | None = None
        self.value = float("inf")
        if said and said["measure"] == measure and checkpoints.at(said["step"]):
            self.step, self.value = said["step"], said["value"]

    def consider(self, step: int, means: Mapping[str, float]) -> dict[str, Any]:
        """Compare a checkpoint that is about to be saved at this step; returns what it is to say of the best."""
        if self.measure is None:
            return {}
        value = means.get(self.measure)
        if value is not None and value < self.value:
            self.step, self.value = step, value
        elif means and value is None:
            logger.warning("log.best: %s is not among the figures of this run: %s", self.measure, ", ".join(means))
            self.measure = None  # said once
        return {} if self.step is None else {"best": self.record()}

    @property
    def path(self) -> Path | None:
        """Its file."""
        return None if self.step is None else self.checkpoints.at(self.step)

    def record(self) -> dict[str, Any] | None:
        """The best so far, as plain data; None when there is none."""
        if self.step is None:
            return None
        return {"measure": self.measure, "step": self.step, "value": self.value}
