"""What executes an update: gradients of one objective, one optimiser step, and what to log about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ganrun.core.across import sharing
from ganrun.core.collective import average
from ganrun.core.context import Batches, Fakes, Metrics, Outcome, Progress, Update, UpdateResult
from ganrun.core.game import Game
from ganrun.core.ranks import ALONE, Rank
from ganrun.core.schedule import Schedule, at


class Player:
    """A set of networks that are trained together, with their optimiser."""

    _rate_now: float | None

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        optimizer: torch.optim.Optimizer,
        rate: Schedule,
        numbers: Mapping[str, Any] = MappingProxyType({}),
    ):
        """`numbers` are other settings of the optimiser that follow the step, such as betas, by name.

        The learning rate of a fused optimiser becomes a tensor [], which a captured update reads anew each time.
        """
        self.networks, self.optimizer, self.rate, self.numbers = networks, optimizer, rate, numbers
        self._learning_rates = [_learning_rate(group) for group in optimizer.param_groups]
        self._restore_rates()
        several = len(networks) > 1  # their parameters need the network's name to be told apart
        named = [
            (f"{net}.{name}" if several else name, p)
            for net, network in networks.items()
            for name, p in network.named_parameters()
            if p.requires_grad
        ]
        self.names = [name for name, _ in named]
        self.parameters = [p for _, p in named]
        self.gradients: list[Tensor] = []  # of the update at hand

    def learns(self, learning: bool) -> None:
        """Open or close the parameters this player trains; those frozen on purpose stay frozen."""
        for parameter in self.parameters:
            parameter.requires_grad_(learning)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the step that was begun last."""
        return self.rate(0) if self._rate_now is None else self._rate_now

    def forget(self) -> None:
        """Put the optimiser's state back to zeros, where it lies: moments and counts, as before its first step."""
        for kept in self.optimizer.state.values():
            for key, value in kept.items():
                if isinstance(value, Tensor):
                    value.zero_()
                elif isinstance(value, int | float):
                    kept[key] = type(value)(0)

    def begin(self, now: Progress, factor: float = 1.0) -> None:
        """Set the learning rate, times a factor, and what else follows the step, to its value at this step."""
        rate = self.rate(*now) * factor
        numbers = {name: at(number, *now) for name, number in self.numbers.items()}
        for group in self.optimizer.param_groups:
            if not isinstance(group["lr"], Tensor):
                group["lr"] = rate
            elif rate != self._rate_now:
                group["lr"].fill_(rate)
            group.update(numbers)
        self._rate_now = rate

    @property
    def capturable(self) -> bool:
        """Whether a step of the optimiser can be recorded: no number but its rate follows the step."""
        groups = self.optimizer.param_groups
        return not self.numbers and all(group.get("capturable") or group.get("fused") for group in groups)

    def make_capturable(self) -> None:
        """Keep counts and rates in tensors, for updates that are recorded, where the optimiser knows how to."""
        if self.numbers or not all("capturable" in group for group in self.optimizer.param_groups):
            return
        for group in self.optimizer.param_groups:
            group["capturable"] = True
        self._learning_rates = [_as_tensor(group) for group in self.optimizer.param_groups]
        self._restore_rates()

    def load_optimizer(self, state: dict[str, Any]) -> None:
        """Put back the state of the optimiser. Raises ValueError when it is that of other parameters.

        The learning rates stay the tensors they are, at the addresses they have.
        """
        self.optimizer.load_state_dict(state)
        self._restore_rates()

    def _restore_rates(self) -> None:
        self._rate_now = None  # the rate that the tensors hold; None: not known
        for group, rate in zip(self.optimizer.param_groups, self._learning_rates, strict=True):
            group["lr"] = rate

    def clear(self, *, keep_addresses: bool) -> None:
        """Forget the gradients of the update before: fill them with zeros where they must stay where they are."""
        if keep_addresses and self.gradients:
            torch._foreach_zero_(self.gradients)
            return
        for parameter in self.parameters:
            parameter.grad = None

    def collect(self) -> None:
        """Note the gradients of this update. A parameter that has none gets zeros: optimisers then treat all alike."""
        gradients = []
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        self.gradients = gradients

    def layers(self, player: str) -> dict[str, list[str]]:
        """Layer -> the names, among `norms`, of its parameters; in depth order.

        What a reparametrised weight is made of belongs to the layer that has the weight.
        """
        layers: dict[str, list[str]] = {}
        for name in self.names:
            owner, made, _ = name.partition(".parametrizations.")
            layer = owner if made else name.rpartition(".")[0] or name
            layers.setdefault(layer, []).append(f"gradient/{player}/{name}")
        return layers

    def norms(self, player: str) -> Metrics:
        """The gradient norm of every parameter tensor, [] each, in one fused call."""
        norms = torch._foreach_norm(self.gradients)
        return {f"gradient/{player}/{name}": norm for name, norm in zip(self.names, norms, strict=True)}


def _learning_rate(group: dict[str, Any]) -> float | Tensor:
    """The learning rate of a group as it is kept: a tensor [] where the optimiser is fused."""
    return _as_tensor(group) if group.get("fused") else group["lr"]


def _as_tensor(group: dict[str, Any]) -> Tensor:
    """The learning rate of a group as a tensor []: a kernel reads float32 on a GPU, and a double on a CPU."""
    device = group["params"][0].device
    dtype = torch.float64 if device.type == "cpu" else torch.float32
    return torch.tensor(float(group["lr"]), dtype=dtype, device=device)


class Eager:
    """Runs updates one operation at a time. The reference that every other engine must match."""

    notes: ClassVar[tuple[str, ...]] = ()  # what to tell before the first step
    keep_addresses: bool  # of gradients, as an engine that captures updates needs

    def __init__(
        self,
        game: Game,
        players: Mapping[str, Player],
        *,
        device: torch.device,
        autocast: bool,
        rank: Rank = ALONE,
        norms: bool = False,
    ):
        """With several processes, `norms` says whether batch norm takes the statistics of the whole batch."""
        self.game, self.players, self.device, self.autocast = game, players, device, autocast
        self.rank, self.norms = rank, norms
        self.keep_addresses = False

    def begin(self, now: Progress) -> None:
        """Set every number that follows the step."""
        self.game.begin(now)
        for name, player in self.players.items():
            if name in self.game.anew:
                player.forget()
            player.begin(now, self.game.rate)

    def restored(self) -> None:
        """To be called when another state was put in the place of the players' own: tensors may have moved."""

    def run(self, update: Update, batches: Sequence[Batches]) -> list[UpdateResult]:
        """One optimiser step, or those of a joint update, each on its own batches. Nothing here waits for the device.

        What updates share lives in here, never longer.
        """
        results: list[UpdateResult] = []
        fakes: Mapping[str, Fakes] = {}
        for one, own in zip(chain_of(update), batches, strict=True):
            result, fakes = self._one(one, own, fakes)
            results.append(result)
        return results

    def _one(
        self, update: Update, batches: Batches, fakes: Mapping[str, Fakes]
    ) -> tuple[UpdateResult, Mapping[str, Fakes]]:
        player = self.players[update.player]
        player.clear(keep_addresses=self.keep_addresses)
        with self._only(update):
            outcome = self.learn(update, batches, fakes)
        player.collect()
        losses = {f"loss/{update.player}/{name}": term for name, term in outcome.terms.items()}
        metrics = self._averaged(player.gradients, losses | outcome.metrics) | player.norms(update.player)
        self.game.before(update)
        self._step(player)
        metrics |= self.game.after(update)
        values = torch.stack(tuple(metrics.values()))  # now: some are buffers that later updates change
        return UpdateResult(
            update=update, names=tuple(metrics), values=values, observed=outcome.observed
        ), outcome.fakes

    def _step(self, player: Player) -> None:
        player.optimizer.step()

    def learn(self, update: Update, batches: Batches, fakes: Mapping[str, Fakes] = MappingProxyType({})) -> Outcome:
        """Add the gradients of this update's objective, whose terms are returned without theirs."""
        shared = sharing(self.rank, update.shape.images, norms=self.norms)
        with shared, torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            outcome = self.game.outcome(update, batches, fakes)
        torch.stack(list(outcome.terms.values())).sum().backward()
        return outcome.detached()

    def _averaged(self, gradients: list[Tensor], metrics: Metrics) -> Metrics:
        """Gradients and metrics of the whole batch: the mean of those that each process has of its share."""
        if self.rank.world == 1:
            return metrics
        found = torch.stack([value.float() for value in metrics.values()])
        average([gradients, [found]], self.rank.world)
        return dict(zip(metrics, found.unbind(), strict=True))

    @contextmanager
    def _only(self, update: Update) -> Iterator[None]:
        """Let gradients reach this player's parameters and no other's.

        An update that shares its fakes leaves open the player that trains on them next: their graph serves that
        update, and the discriminator's own side sees those fakes detached.
        """
        trained = {update.player} | ({update.then.player} if update.then else set())
        others = [player for name, player in self.players.items() if name not in trained]
        for other in others:
            other.learns(False)
        try:
            yield
        finally:
            for other in others:
                other.learns(True)


def chain_of(update: Update) -> Iterator[Update]:
    """The updates of a joint update, in order; a plain update alone."""
    one: Update | None = update
    while one is not None:
        yield one
        one = one.then
