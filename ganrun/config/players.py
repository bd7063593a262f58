"""The players of a game with their optimisers, from the settings of `optim`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from ganrun.config.instantiate import Maker
from ganrun.core.engine import Player
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.game import Game
from ganrun.core.schedule import Constant, Product, Schedule, at, is_scheduled
from ganrun.core.traits import Traits, facts
from ganrun.machine import spare_compiler


class Momentum:
    """Whether D's optimiser carries momentum, as its settings say."""

    def __init__(self, settings: Mapping[str, Any]):
        self.title = str(settings["_target_"]).rpartition(".")[2]  # what messages call it
        betas = settings.get("betas")
        beta = betas[0] if isinstance(betas, list) and betas else settings.get("momentum", 0)
        self.traits = Traits(provides=facts(*[Fact.NO_MOMENTUM] * (beta == 0)))


def make_players(settings: Mapping[str, Any], make: Maker, game: Game) -> dict[str, Player]:
    """Every player of the game. It has its own settings below `optim`, or those of its role."""
    optim = settings["optim"]
    decay = _rate(optim["decay"], "optim.decay", make)
    places = {player: player if player in optim else role for player, role in game.players.items()}
    return {
        player: _player(optim[place], f"optim.{place}", make, game, player, decay) for player, place in places.items()
    }


def _player(node: Mapping[str, Any], where: str, make: Maker, game: Game, player: str, decay: Schedule) -> Player:
    """An optimiser over all that a player trains; fused where it can be. Its rate is a number times `decay`.

    Any other number of the optimiser may be a schedule too, such as one of Adam's betas.
    """
    rate = Product(_rate(node["lr"], f"{where}.lr", make), decay)
    networks = game.networks(player)
    extra: dict[str, Any] = {"params": [p for net in networks.values() for p in net.parameters()]}
    kind = make.kind(torch.optim.Optimizer, node, where)
    if "fused" in inspect.signature(kind).parameters and "fused" not in node:
        extra["fused"] = True
    _check_steps_once(kind, where)
    settings = {
        key: make(value, f"{where}.{key}", (Schedule,)) for key, value in node.items() if key not in ("_target_", "lr")
    }
    numbers = {key: value for key, value in settings.items() if is_scheduled(value)}
    spare_compiler(kind)
    first = {key: at(value, 0) for key, value in numbers.items()}
    made = partial(make.a, torch.optim.Optimizer, {**node, **first, "lr": rate(0)}, where)
    optimizer = made(**extra)
    if game.forgets:
        _check_begins_at_zero(partial(made, **extra), kind.__name__, where)
    return Player(networks, optimizer, rate, numbers)


def _check_begins_at_zero(made: Callable[..., torch.optim.Optimizer], name: str, where: str) -> None:
    """Refuse an optimiser whose state begins at other numbers than 0, which it shows after a step without a slope."""
    still = torch.nn.Parameter(torch.zeros(1))
    still.grad = torch.zeros(1)
    optimizer = made(params=[still])
    optimizer.step()
    kept = [value for key, value in optimizer.state[still].items() if key != "step" and isinstance(value, torch.Tensor)]
    if any(bool(value.any()) for value in kept):
        found = f"{name}, whose state begins at other numbers than 0, in a game with .reset"
        raise ConfigError(where, found, "one that can start anew", "game.reset=false")


def _rate(value: Any, where: str, make: Maker) -> Schedule:
    """The schedule that a number or a node stands for. Raises ConfigError for what falls below 0, or is neither."""
    given = make(value, where, (Schedule,))
    is_number = isinstance(given, (int, float)) and not isinstance(given, bool)
    rate = Constant(value=given) if is_number else given
    if not isinstance(rate, Schedule) or rate.final < 0:
        raise ConfigError(where, str(value), "a number from 0 up, or a schedule that stays there")
    return rate


def _check_steps_once(kind: Any, where: str) -> None:
    """Refuse an optimiser such as LBFGS, whose every step needs the loss many times."""
    closure = inspect.signature(kind.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        found = f"{kind.__name__}, which asks for the loss many times in a step"
        raise ConfigError(
            where, found, "an optimiser that needs its gradient once", f"{where}._target_=torch.optim.Adam"
        )
