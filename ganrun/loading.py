"""A finished run, ready to draw samples from."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ganrun.build import Run, build
from ganrun.core.seeding import reseed
from ganrun.errors import Refused
from ganrun.record.checkpoint import Checkpoints
from ganrun.reopening import reopen
from ganrun.session import restore


def load_run(path: Path, overrides: list[str] | None = None) -> tuple[Run, int]:
    """The run in this folder as its newest whole checkpoint left it, and the step it had reached."""
    run = build(reopen(path, overrides or [])[0])
    checkpoints = Checkpoints(path / "checkpoints", keep=run.settings["log"]["keep"])
    if checkpoints.latest() is None:
        raise Refused(str(path), "no checkpoint in it yet", "a run that has saved one", f"ganrun resume {path}")
    return run, restore(run, checkpoints.load(), str(path))


@torch.no_grad()
def draw(run: Run, count: int, *, seed: int, batch: int = 500) -> Tensor:
    """New samples, not those of the grid. [count, C, H, W] in [-1, 1] on the CPU"""
    reseed(seed, "draw")
    pieces = [run.game.draw(min(batch, count - done)).cpu() for done in range(0, count, batch)]
    return torch.cat(pieces)
