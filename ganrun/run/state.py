"""The whole state of a run as a checkpoint holds it, and putting it back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ganrun.config.build import Run
from ganrun.core.callbacks import Callback
from ganrun.core.context import Progress
from ganrun.core.errors import ConfigError
from ganrun.core.game import Game


def state_of(run: Run, now: Progress, callbacks: Sequence[Callback] = ()) -> dict[str, Any]:
    """All that a run must keep to go on as if it had never stopped; randomness follows from the step."""
    return {
        "step": now.step,
        "images": now.images,
        "seen": run.data.seen,
        "game": run.game.state_dict(),
        "optimizers": {name: player.optimizer.state_dict() for name, player in run.engine.players.items()},
        "callbacks": {callback.name: callback.state_dict() for callback in callbacks},
        "data": run.dataset.fingerprint(),
        "config": json.dumps(run.settings),
    }


def restore(run: Run, state: Mapping[str, Any], where: str) -> Progress:
    """Put a saved state back; returns how far the run had come. Raises ConfigError when it does not fit this run."""
    if state["data"] != run.dataset.fingerprint():
        raise ConfigError("dataset", "the data are not those that this run was trained on", "the same files")
    restore_game(run.game, state, where)
    try:
        for name, player in run.engine.players.items():
            player.load_optimizer(state["optimizers"][name])
    except (RuntimeError, ValueError, KeyError) as error:
        raise _misfit(where, error) from error
    run.data.seen = state["seen"]
    return Progress(int(state["step"]), int(state["images"]))


def restore_game(game: Game, state: Mapping[str, Any], where: str) -> None:
    """Put back networks, losses and tricks alone. Raises ConfigError when they are not those of the state."""
    try:
        game.load_state_dict(state["game"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise _misfit(where, error) from error


def _misfit(where: str, error: Exception) -> ConfigError:
    found = f"its checkpoint does not fit ({str(error).splitlines()[0]})"
    return ConfigError(where, found, "the networks of this run")
