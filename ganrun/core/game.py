"""Who plays, and what each player minimises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ganrun.core.context import Batch, Examples, Outcome, Stage, Update
from ganrun.core.pair import Pair
from ganrun.core.schedule import Scheduled
from ganrun.core.traits import Part, Traits
from ganrun.core.trick import Trick

Objective = Callable[[Update, Batch | None], Outcome]


class Game(nn.Module, ABC):
    """All state that a run must keep, apart from optimisers and data order, hangs below a game."""

    traits: Traits = Traits()
    pairs: nn.ModuleDict  # name -> Pair
    objectives: Mapping[str, Objective]  # player -> what it minimises
    stage: Stage  # today's static shapes; most games have only one
    classes: int = 0  # of the labels that fakes are made for; 0: fakes have none
    rows: int | None = None  # of the sample grid; None: about as many as columns

    @abstractmethod
    def nets(self, player: str) -> list[nn.Module]:
        """The networks whose parameters this player updates."""

    @abstractmethod
    def bind(self, batch: Batch) -> None:
        """Show the game one batch so that its tricks can allocate their state."""

    @torch.no_grad()
    def study(self, examples: Examples) -> None:
        """Let tricks look at the data once."""
        for pair in self._pairs():
            pair.tricks.each(Trick.study, pair, examples)

    @abstractmethod
    def sample(self) -> Tensor:
        """Images for the grid, from the same noise every time. [N, C, H, W] in [-1, 1]"""

    def pictures(self) -> Mapping[str, Tensor]:
        """More pictures to keep beside the grid, by name. [rows, columns, C, H, W] in [-1, 1]"""
        return {}

    @abstractmethod
    def draw(self, count: int, labels: Tensor | None = None) -> Tensor:
        """New samples, from torch's generator as it stands. [count, C, H, W] in [-1, 1]

        `labels` [count] say of which classes, where fakes have any; without them every class is as likely.
        """

    @abstractmethod
    def wants_reals(self, update: Update) -> bool:
        """Whether this update reads real images; when not, none are drawn."""

    def play(self, update: Update, batch: Batch | None) -> Outcome:
        """What this update's player minimises."""
        return self.objectives[update.player](update, batch)

    def begin(self, step: int) -> None:
        """Turn every scheduled number to its value at this step, and let tricks prepare."""
        for module in self.modules():  # all of them: copies made by tricks follow the step too
            if isinstance(module, Scheduled):
                module.turn(step)
        for pair in self._pairs():
            pair.tricks.each(Trick.begin, pair, step)

    @torch.no_grad()
    def before(self, update: Update) -> None:
        """Let tricks act on the gradients of the player that is about to move."""
        for pair in self._pairs():
            pair.tricks.each(Trick.before, pair, update.player)

    @torch.no_grad()
    def after(self, update: Update) -> dict[str, Tensor]:
        """Let tricks act on the player that just moved; returns gauges worth logging."""
        gauges: dict[str, Tensor] = {}
        for pair in self._pairs():
            pair.tricks.each(Trick.after, pair, update.player)
            if update.player == "discriminator":
                gauges |= pair.gauges()
        return gauges

    def due(self, step: int) -> frozenset[str]:
        return frozenset().union(*(pair.tricks.due(step) for pair in self._pairs()))

    def sits_out(self, step: int, player: str) -> bool:
        return any(method(step, player) for pair in self._pairs() for _, method in pair.tricks.at(Trick.sits_out))

    @torch.no_grad()
    def figures(self) -> dict[str, float]:
        """What tricks measure at each log, under the trick's name."""
        return {
            f"{name}/{key}": value
            for pair in self._pairs()
            for name, measure in pair.tricks.at(Trick.figures)
            for key, value in measure(pair).items()
        }

    def watch(self, step: int, means: Mapping[str, float]) -> None:
        for pair in self._pairs():
            pair.tricks.each(Trick.watch, step, means)

    def parts(self, pair: Pair) -> dict[str, Part]:
        """Everything whose traits must agree before this pair can start, by the name a user knows it by."""
        nets: dict[str, Any] = {"model.generator": pair.generator, "model.discriminator": pair.discriminator}
        tricks = {f"tricks.{name}": trick for name, trick in pair.tricks.items()}
        return nets | {"loss": pair.loss, "game": self} | tricks

    def _pairs(self) -> list[Pair]:
        return list(self.pairs.values())  # type: ignore[arg-type]
