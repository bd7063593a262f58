"""What executes an update: gradients of one objective, one optimiser step, and what to log about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from ganrun.core.context import Batch, Update
from ganrun.core.game import Game
from ganrun.core.schedule import Schedule, at

Measures = dict[str, Tensor]  # each [] in float32, on the device


class Player:
    """A set of networks that learn together, with the optimiser that moves them.

    Every parameter gets its gradient tensor here, once: gradients keep their addresses, so an update can be captured.
    """

    def __init__(
        self,
        nets: list[nn.Module],
        optimizer: torch.optim.Optimizer,
        rate: Schedule,
        numbers: Mapping[str, Any] = MappingProxyType({}),
    ):
        """`numbers` are other settings of the optimiser that follow the step, such as betas, by name."""
        self.nets, self.optimizer, self.rate, self.numbers = nets, optimizer, rate, numbers
        named = [(name, p) for net in nets for name, p in net.named_parameters() if p.requires_grad]
        self.names = [name for name, _ in named]
        self.parameters = [p for _, p in named]
        for p in self.parameters:
            p.grad = torch.zeros_like(p)
        self.gradients = [p.grad for p in self.parameters if p.grad is not None]

    def learns(self, learning: bool) -> None:
        """Open or close the parameters this player learns; those frozen on purpose stay frozen."""
        for parameter in self.parameters:
            parameter.requires_grad_(learning)

    def begin(self, step: int) -> None:
        """Turn the learning rate, and what else follows the step, to its value at this step."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step)
            group.update({name: at(number, step) for name, number in self.numbers.items()})

    def layers(self, player: str) -> dict[str, list[str]]:
        """Layer -> the names, among `norms`, of its parameters; in depth order."""
        layers: dict[str, list[str]] = {}
        for name in self.names:
            layers.setdefault(name.rpartition(".")[0] or name, []).append(f"gradient/{player}/{name}")
        return layers

    def norms(self, player: str) -> Measures:
        """The gradient norm of every parameter tensor, in one fused call."""
        norms = torch._foreach_norm(self.gradients)
        return {f"gradient/{player}/{name}": norm for name, norm in zip(self.names, norms, strict=True)}


class Eager:
    """Plays updates one operation at a time. The reference that every other engine must match."""

    def __init__(self, game: Game, players: Mapping[str, Player], *, device: torch.device, autocast: bool):
        self.game, self.players, self.device, self.autocast = game, players, device, autocast

    def begin(self, step: int) -> None:
        """Turn every number that follows the step."""
        self.game.begin(step)
        for player in self.players.values():
            player.begin(step)

    def run(self, update: Update, batch: Batch | None) -> Measures:
        """One optimiser step. Nothing here waits for the device."""
        player = self.players[update.player]
        torch._foreach_zero_(player.gradients)  # in place: gradients keep their addresses
        with self._only(update):
            measures = self.learn(update, batch)
        measures |= player.norms(update.player)
        self.game.before(update)
        player.optimizer.step()
        return measures | self.game.after(update)

    def learn(self, update: Update, batch: Batch | None) -> Measures:
        """Add the gradients of this update's objective."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            outcome = self.game.play(update, batch)
        torch.stack(list(outcome.terms.values())).sum().backward()
        losses = {f"loss/{update.player}/{name}": term.detach() for name, term in outcome.terms.items()}
        return losses | outcome.measures

    @contextmanager
    def _only(self, update: Update) -> Iterator[None]:
        """Let gradients reach this player's parameters and no other's.

        An update that hands its fakes on leaves the others open: their graph serves the update that follows, and the
        discriminator's own side sees those fakes detached.
        """
        others = [] if update.hands_on else [p for name, p in self.players.items() if name != update.player]
        for other in others:
            other.learns(False)
        try:
            yield
        finally:
            for other in others:
                other.learns(True)
