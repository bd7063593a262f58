"""The loop, whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ganrun.core.callbacks import Callback, Data
from ganrun.core.context import Progress, Update, UpdateResult
from ganrun.core.engine import Eager, chain_of
from ganrun.core.game import Game
from ganrun.core.ranks import ALONE, Rank
from ganrun.core.seeding import reseed


def train(
    *,
    game: Game,
    engine: Eager,
    updates: Callable[[Game, int], list[Update]],
    data: Data,
    callbacks: Sequence[Callback],
    seed: int,
    start: Progress,
    steps: int,
    rank: Rank = ALONE,
    interrupted: Callable[[], bool] = lambda: False,
) -> Progress:
    """Train until `steps` steps are done, each a few updates; those of `start` were done before.

    Returns how far the run came: fewer than `steps` steps when it was interrupted, be it while it waited for data.
    Raises Stopped when a callback or a trick ends the run, and WaitInterrupted in the midst of a step. Several
    processes end together, for whatever reason one of them ends: ProcessLost in those that have none of their own.
    """
    waits = interrupted if rank.world == 1 else never  # an interruption is agreed on between steps
    now, stop = start, rank.any(interrupted())
    while now.step < steps and not stop and data.ready(waits):
        reseed(seed, "train", step=now.step)
        engine.begin(now)
        results: list[UpdateResult] = []
        for update in map(rank.share, updates(game, now.step)):
            results += engine.run(update, [data.draw(game.wanted(one)) for one in chain_of(update)])
        now = Progress(now.step + 1, now.images + game.shape.images)
        stop = rank.any(interrupted())  # asked once a step, so that the last step is the last to its callbacks too
        with rank.together():
            for callback in callbacks:
                callback.after_step(now, results, last=stop or now.step == steps)
    return now


def never() -> bool:
    """No interruption."""
    return False
