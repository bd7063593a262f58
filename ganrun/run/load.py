"""A finished run, ready to draw samples from."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ganrun.config.build import Run, build
from ganrun.config.resume import reopen
from ganrun.core.errors import Refused
from ganrun.core.seeding import reseed
from ganrun.record.checkpoint import Checkpoints
from ganrun.run.session import restore


def load_run(path: Path, overrides: list[str] | None = None) -> tuple[Run, int]:
    """The run in this folder as its newest whole checkpoint left it, and the step it had reached."""
    run = build(reopen(path, overrides or [])[0])
    checkpoints = Checkpoints(path / "checkpoints", keep=run.settings["log"]["keep"])
    if checkpoints.latest() is None:
        raise Refused(str(path), "no checkpoint in it yet", "a run that has saved one", f"ganrun resume {path}")
    return run, restore(run, checkpoints.load(), str(path))


@torch.no_grad()
def draw(run: Run, count: int, *, seed: int, batch: int = 500, labels: Tensor | None = None) -> Tensor:
    """New samples, not those of the grid. [count, C, H, W] in [-1, 1] on the CPU

    `labels` [count] say of which classes, where the run has any; without them every class is as likely.
    """
    reseed(seed, "draw")
    pieces = []
    for done in range(0, count, batch):
        wanted = None if labels is None else labels[done : done + batch]
        pieces.append(run.game.draw(min(batch, count - done), wanted).cpu())
    return torch.cat(pieces)
