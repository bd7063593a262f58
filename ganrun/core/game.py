"""Games: the players, their pairs and data streams, and what each player minimises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ganrun.core.context import (
    UNCONDITIONAL,
    Batches,
    BatchShape,
    Condition,
    Examples,
    Fakes,
    Metrics,
    Observed,
    Outcome,
    Progress,
    Role,
    Terms,
    Update,
)
from ganrun.core.pair import Pair
from ganrun.core.schedule import Scheduled
from ganrun.core.traits import Part, Traits
from ganrun.core.trick import Trick

Objective = Callable[[Update, Batches, Mapping[str, Fakes]], Outcome]


class PairPlan(NamedTuple):
    """The networks of one pair and its reals, by name. Pairs that name the same network share it."""

    generator: str = "generator"  # a key below `model`, or a name of its own for another network built as that role is
    discriminator: str = "discriminator"
    stream: str = "images"  # what the discriminator takes for real


class Game(nn.Module, ABC):
    """All state that a run must keep, apart from optimisers and data order, hangs below a game.

    A game declares its players, in the order of their updates, its pairs and its data streams: networks, optimisers,
    checks and updates follow from that.
    """

    players: ClassVar[Mapping[str, Role]] = {"discriminator": "discriminator", "generator": "generator"}
    plans: ClassVar[Mapping[str, PairPlan]] = {"main": PairPlan()}
    shares_fakes: ClassVar[bool] = False  # whether a generator's update can train on the fakes of a discriminator's
    needs_inputs: ClassVar[bool] = False  # whether reals must come with the images that they are to be made from

    traits: Traits = Traits()
    pairs: nn.ModuleDict  # name -> Pair
    objectives: Mapping[str, Objective]  # player -> what it minimises
    shape: BatchShape  # of an update, today; most games have only one
    classes: int = 0  # of the labels that fakes are made for; 0: fakes have none
    rows: int | None = None  # of the sample grid; None: about as many as columns
    rate: float = 1.0  # what every learning rate is multiplied by at this step
    anew: frozenset[str] = frozenset()  # the players whose optimisers forget, before this step, what they have learnt
    forgets: bool = False  # whether there are ever such players
    _scheduled: list[Scheduled] | None = None

    @classmethod
    def streams(cls) -> tuple[str, ...]:
        """The data streams that this game draws from."""
        return tuple(dict.fromkeys(plan.stream for plan in cls.plans.values()))

    @property
    def target(self) -> str:
        """The stream of the reals that samples are to look like: those of the first pair."""
        return next(iter(self.plans.values())).stream

    @property
    def shapes(self) -> tuple[BatchShape, ...]:
        """Every shape that updates have in the course of a run."""
        return (self.shape,)

    @property
    def moment(self) -> str:
        """Where the game is in its course, in a few words; empty where there is nothing to say."""
        return ""

    @abstractmethod
    def networks(self, player: str) -> Mapping[str, nn.Module]:
        """The networks whose parameters this player updates, by name."""

    @abstractmethod
    def bind(self, batches: Batches) -> None:
        """Show the game one batch of each stream, [B, C, H, W], so that its tricks can allocate their state."""

    @torch.no_grad()
    def on_data(self, examples: Mapping[str, Examples]) -> None:
        """Let tricks look at the data of their pair once, by stream."""
        for name, pair in self.named_pairs().items():
            pair.tricks.each(Trick.on_data, pair, examples[self.plans[name].stream])

    @abstractmethod
    def sample(self, condition: Condition = UNCONDITIONAL) -> Tensor:
        """Images for the grid, from the same noise every time. [N, C, H, W] in [-1, 1]

        A condition for N images replaces that of the grid.
        """

    def pictures(self) -> Mapping[str, Tensor]:
        """More pictures to keep beside the grid, by name. [rows, columns, C, H, W] in [-1, 1]"""
        return {}

    def condition_of(self, batches: Batches) -> Condition:
        """What samples that are compared with these reals, [B, C, H, W] of each stream, are made for or from."""
        return UNCONDITIONAL

    @abstractmethod
    def draw(self, count: int, condition: Condition = UNCONDITIONAL) -> Tensor:
        """New samples, from torch's generator in its present state. [count, C, H, W] in [-1, 1]

        Where fakes are made for a condition and none is given, it is drawn as in training.
        """

    @abstractmethod
    def wanted(self, update: Update) -> Mapping[str, BatchShape]:
        """The data that this update reads, by stream; empty when it reads none."""

    def outcome(self, update: Update, batches: Batches, fakes: Mapping[str, Fakes]) -> Outcome:
        """What this update's player minimises. `fakes` are those of the update that shares them, by pair."""
        return self.objectives[update.player](update, self.prepared(batches, update.shape), fakes)

    def prepared(self, batches: Batches, shape: BatchShape) -> Batches:
        """Real images as an update of this shape sees them: in most games as they are. [B, C, H, W]"""
        return batches

    def begin(self, now: Progress) -> None:
        """Turn every scheduled number to its value at this step, and let tricks prepare.

        `shape`, `rate` and `anew` are then those of this step.
        """
        if self._scheduled is None:  # found once; copies made by tricks follow the step too
            self._scheduled = [module for module in self.modules() if isinstance(module, Scheduled)]
        for number in self._scheduled:
            number.turn(*now)
        for pair in self.named_pairs().values():
            pair.tricks.each(Trick.begin, pair, now.step)

    @torch.no_grad()
    def before(self, update: Update) -> None:
        """Let tricks act on the gradients of the player that is about to be updated."""
        for pair in self.named_pairs().values():
            pair.tricks.each(Trick.before, pair, update.role)

    @torch.no_grad()
    def after(self, update: Update) -> Metrics:
        """Let tricks act on the player that was just updated; returns their metrics and the losses', each []."""
        metrics: dict[str, Metrics] = {}
        for name, pair in self.named_pairs().items():
            pair.tricks.each(Trick.after, pair, update.role)
            metrics[name] = pair.metrics() if update.role == "discriminator" else {}
        return self.qualified(metrics)

    def due(self, step: int) -> frozenset[str]:
        """The lazy tricks whose turn it is at this step."""
        return frozenset().union(*(pair.tricks.due(step) for pair in self.named_pairs().values()))

    def sits_out(self, step: int, player: str) -> bool:
        """Whether this player skips its updates in this step."""
        role = self.players[player]
        pairs = self.named_pairs().values()
        return any(method(step, role) for pair in pairs for _, method in pair.tricks.at(Trick.sits_out))

    @torch.no_grad()
    def log_metrics(self) -> dict[str, float]:
        """What tricks measure at each log, under tricks/<name>."""
        found = {
            name: {
                f"tricks/{trick}/{key}": value
                for trick, measure in pair.tricks.at(Trick.log_metrics)
                for key, value in measure(pair).items()
            }
            for name, pair in self.named_pairs().items()
        }
        return self.qualified(found)

    def watch(self, step: int, means: Mapping[str, float]) -> None:
        """Show tricks the means of the last window. A trick raises Stopped to end the run."""
        for pair in self.named_pairs().values():
            pair.tricks.each(Trick.watch, step, means)

    def parts(self, pair: Pair) -> dict[str, Part]:
        """Everything whose traits must agree before this pair can train, by its place in the configuration."""
        nets: dict[str, Any] = {"model.generator": pair.generator, "model.discriminator": pair.discriminator}
        tricks = {f"tricks.{name}": trick for name, trick in pair.tricks.items()}
        return nets | {"loss": pair.loss, "game": self} | tricks

    def named_pairs(self) -> dict[str, Pair]:
        """The pairs by name."""
        return dict(self.pairs.items())  # type: ignore[arg-type]

    def qualified(self, by_pair: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Metrics under names that tell the pairs apart where there are several: score/real -> score/<pair>/real."""
        if len(self.plans) == 1:
            return dict(next(iter(by_pair.values()), {}))
        return {_qualify(key, name): v for name, metrics in by_pair.items() for key, v in metrics.items()}

    def merged(self, outcomes: Mapping[str, Outcome], terms: Terms | None = None) -> Outcome:
        """The outcomes of several pairs as one, with terms [] of the game's own beside theirs."""
        own = {
            f"{name}/{key}" if len(self.plans) > 1 else key: value
            for name, outcome in outcomes.items()
            for key, value in outcome.terms.items()
        }
        seen: dict[str, Observed] = {
            name: observed for name, outcome in outcomes.items() for observed in outcome.observed.values()
        }
        metrics = self.qualified({name: outcome.metrics for name, outcome in outcomes.items()})
        fakes = dict(chain.from_iterable(outcome.fakes.items() for outcome in outcomes.values()))
        return Outcome(terms=own | (terms or {}), metrics=metrics, observed=seen, fakes=fakes)


def _qualify(key: str, pair: str) -> str:
    head, _, rest = key.partition("/")
    return f"{head}/{pair}/{rest}"
