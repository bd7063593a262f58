"""The whole state of a run as a checkpoint holds it, and putting it back."""

from __future__ import annotations

import inspect
import json
import logging
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ganrun.config.build import Run
from ganrun.core.callbacks import Callback
from ganrun.core.context import Progress
from ganrun.core.engine import Player
from ganrun.core.errors import ConfigError
from ganrun.core.game import Game
from ganrun.data.datasets.base import DataSets
from ganrun.record.stored import misfit

logger = logging.getLogger(__name__)

SHOWN = 5  # names of files in a message
FORM: Mapping[str, Any] = {  # of a state; what hangs below `game` and `optimizers` follows from the run
    "step": int,
    "images": int,
    "seen": dict[str, int],
    "game": Any,
    "optimizers": dict[str, Any],
    "callbacks": dict[str, Any],
    "data": str,
    "config": str,
}
OF_AN_OPTIMIZER: Mapping[str, Any] = {"state": dict[int, Any], "param_groups": list[dict[str, Any]]}


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


def restore(run: Run, state: Mapping[str, Any], where: str, files: Sequence[str] = ()) -> Progress:
    """Put a saved state back; returns how far the run had come. Raises ConfigError when it does not fit this run.

    `files` are the names of those that the run has learnt from; with `skip_bad`, some of them may be gone.

    All of it is compared before any of it is used: a fused optimiser reads past the end of a tensor that is too small.
    """
    if (found := unfit(run, state)) is not None:
        raise _misfit(where, found)
    if state["data"] != run.dataset.fingerprint():
        _check_data(run.dataset, files, where)
    _load_game(run.game, state, where)
    for name, player in run.engine.players.items():
        own = player.optimizer.state_dict()["param_groups"]  # the configuration says what it was, not the checkpoint
        player.load_optimizer({"state": state["optimizers"][name]["state"], "param_groups": own})
    run.engine.restored()
    run.data.seen = state["seen"]
    return Progress(state["step"], state["images"])


def _check_data(dataset: DataSets, files: Sequence[str], where: str) -> None:
    """Raises ConfigError for other data than a run has learnt from, unless files are gone and the user said so."""
    now = set(dataset.file_names())
    gone = [name for name in files if name not in now]
    if not gone or now - set(files):
        raise ConfigError("dataset", "the data are not those that this run was trained on", "the same files")
    found = f"{len(gone)} of {len(files)} files are gone or cannot be read: {', '.join(gone[:SHOWN])}"
    found += f" and {len(gone) - SHOWN} more" if len(gone) > SHOWN else ""
    if not dataset.may_lack:
        remedy = f"ganrun resume {shlex.quote(where)} dataset.skip_bad=true"
        raise ConfigError("dataset", found, "the same files", remedy)
    logger.warning("dataset: %s; the run goes on without them, in another order", found)


def restore_game(game: Game, state: Mapping[str, Any], where: str) -> None:
    """Put back networks, losses and tricks alone. Raises ConfigError when they are not those of the state."""
    if (found := unfit_game(game, state)) is not None:
        raise _misfit(where, found)
    _load_game(game, state, where)


def _load_game(game: Game, state: Mapping[str, Any], where: str) -> None:
    try:
        game.load_state_dict(state["game"])
    except (RuntimeError, ValueError, KeyError) as error:  # of a trick that reads its own state
        raise _misfit(where, str(error).splitlines()[0]) from error


def _misfit(where: str, found: str) -> ConfigError:
    return ConfigError(where, f"its checkpoint does not fit ({found})", "the networks of this run")


def unfit(run: Run, state: Mapping[str, Any], forms: Mapping[str, Any] | None = None) -> str | None:
    """Where this state is not one of this run, in a few words; None where it fits in names, shapes and kinds.

    `forms` are those of the callbacks' states, by name.
    """
    found = unfit_game(run.game, state)
    if found is None and state["seen"].keys() != run.data.seen.keys():
        found = f"seen: {', '.join(state['seen'])}"
    if found is None and (place := misfit(state["callbacks"], forms or {}, "callbacks")) is not None:
        found = place
    return found or next(_unfit_optimizers(run, state["optimizers"]), None)


def unfit_game(game: Game, state: Mapping[str, Any]) -> str | None:
    """As `unfit`, of what is needed to draw samples."""
    if (place := misfit(dict(state), FORM)) is not None:
        return place or "not a state"
    if not all(0 <= number < 2**53 for number in (state["step"], state["images"], *state["seen"].values())):
        return "a step or a position that no run reaches"
    return next(differences(game.state_dict(), state["game"], "game"), None)


def _unfit_optimizers(run: Run, saved: Mapping[str, Any]) -> Iterator[str]:
    players = run.engine.players
    if saved.keys() != players.keys():
        yield f"optimizers: {', '.join(saved)}"
        return
    for name, player in players.items():
        place = f"optimizers.{name}"
        if (odd := misfit(saved[name], OF_AN_OPTIMIZER, place)) is not None:
            yield odd
            return
        own = [group["params"] for group in player.optimizer.state_dict()["param_groups"]]
        if [group.get("params") for group in saved[name]["param_groups"]] != own:
            yield f"{place}.param_groups: other parameters"
        yield from _unfit_moments(player, saved[name]["state"], f"{place}.state")


def _unfit_moments(player: Player, saved: Mapping[int, Any], place: str) -> Iterator[str]:
    """What an optimiser keeps of each parameter, compared with what it would keep after a step. None yet is right."""
    parameters = [p for group in player.optimizer.param_groups for p in group["params"]]
    moments_of = _moments(player.optimizer)
    for index, kept in saved.items():
        if not 0 <= index < len(parameters):
            yield f"{place}.{index}: there are {len(parameters)} parameters"
            return
        yield from differences(moments_of(parameters[index]), kept, f"{place}.{index}")


def _moments(optimizer: torch.optim.Optimizer) -> Callable[[Tensor], dict[str, Any]]:
    """What an optimiser of this kind keeps of a parameter, found out by a step of another on zeros of its shape."""
    kind, known = type(optimizer), {}
    group = {k: v for k, v in optimizer.param_groups[0].items() if k in inspect.signature(kind).parameters}
    group = {k: float(v) if isinstance(v, Tensor) else v for k, v in group.items() if k != "params"}

    def moments(parameter: Tensor) -> dict[str, Any]:
        key = (parameter.shape, parameter.dtype)
        if key not in known:
            zeros = torch.zeros_like(parameter, device="cpu", requires_grad=True)
            zeros.grad = torch.zeros_like(zeros)
            trial = kind([zeros], **group)
            trial.step()
            known[key] = trial.state_dict()["state"].get(0, {})
        return known[key]

    return moments


def differences(expected: Any, saved: Any, place: str) -> Iterator[str]:
    """Where a saved state differs from one of this run in names, shapes or kinds."""
    if isinstance(expected, Tensor):
        if _kind(expected) != _kind(saved):
            yield f"{place}: {_kind(saved)}, not {_kind(expected)}"
    elif isinstance(expected, Mapping):
        if not isinstance(saved, Mapping):
            yield f"{place}: {_kind(saved)}"
        elif expected.keys() != saved.keys():
            odd = sorted(map(str, expected.keys() ^ saved.keys()))
            yield f"{place}: {'no ' if odd[0] in map(str, expected) else ''}{odd[0]}"
        else:
            for key, value in expected.items():
                yield from differences(value, saved[key], f"{place}.{key}")
    elif isinstance(expected, (list, tuple)):
        if not isinstance(saved, (list, tuple)) or len(saved) != len(expected):
            yield f"{place}: {_kind(saved)}"
        else:
            for index, value in enumerate(expected):
                yield from differences(value, saved[index], f"{place}[{index}]")
    elif _kind(expected) != _kind(saved):
        yield f"{place}: {_kind(saved)}, not {_kind(expected)}"


def _kind(value: Any) -> str:
    """What a value is: a tensor by its shape and type, a number, or another by its class."""
    if isinstance(value, Tensor):
        layout = "" if value.layout == torch.strided else f" {value.layout}"
        return f"{list(value.shape)} {str(value.dtype).removeprefix('torch.')}{layout}"
    return "a number" if type(value) in (int, float) else type(value).__name__
