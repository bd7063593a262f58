"""The loop, whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ganrun.core.context import Update
from ganrun.core.engine import Eager
from ganrun.core.game import Game
from ganrun.core.seeding import reseed


def train(
    *,
    game: Game,
    engine: Eager,
    updates: Callable[[Game, int], list[Update]],
    data: Any,  # draws batches of any stage
    log: Any,  # keeps every update's measures on the device; writes them when due
    saver: Any,  # writes grids and checkpoints when due; knows of signals
    seed: int,
    first: int,
    steps: int,
) -> int:
    """Play until `steps` steps are done, each a few updates; `first` were done before.

    Returns the step reached: fewer than `steps` when a signal asked the run to stop.
    """
    step = first
    while step < steps and not saver.interrupted:
        reseed(seed, "train", step=step)
        engine.begin(step)
        for update in updates(game, step):
            batch = data.draw(update.stage) if game.wants_reals(update) else None
            log.add(step + 1, update.player, engine.run(update, batch))
        step += 1
        if log.due(step) or step == steps:
            game.watch(step, log.flush(step))  # the only point where the host waits for the device
        saver.after(step)
    return step
