"""Where tricks act. A trick overrides the hooks it needs; a pair calls every hook at its moment of the update."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterable, Mapping
from inspect import isfunction
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ganrun.core.context import BatchShape, Context, Examples, Latent, Metrics, PairView, Role, Targets, Terms
from ganrun.core.errors import ConfigError
from ganrun.core.traits import Diagnostic, Traits


class Trick(nn.Module, ABC):
    """A stabilisation trick: override the hooks you need; every other hook does nothing.

    Hooks between `latent` and `after` run inside an update, which may be compiled or captured:
    tensors in, tensors out, no host sync, no branch on a tensor, all state in buffers.
    Buffers are checkpointed because a trick is a submodule of its pair.
    """

    traits: Traits = Traits()
    differentiates: bool = False  # wants gradients with respect to context.real and context.fake
    paired: ClassVar[bool] = False  # wants context.on_real in the generator's update too
    every: int = 1  # add its terms only each n-th step, scaled by n
    neighbours: int = 1  # images in a row of a batch that it looks at together: several processes never part them
    replaces: bool = False  # its generator term replaces the adversarial one

    def __init__(self) -> None:
        """Takes nothing: without this, torch's own constructor would seem to take any setting."""
        super().__init__()

    # Once, while the game is built.
    def modify(self, net: nn.Module, role: Role) -> nn.Module:
        """Reparametrise or swap layers before optimisers exist. Never changes a tensor's shape."""
        return net

    def bind(self, pair: PairView, real: Tensor, fake: Tensor) -> None:
        """Allocate state whose shape depends on the networks or the data, from a batch of each. [B, C, H, W]"""

    def on_data(self, pair: PairView, examples: Examples) -> None:
        """Look at the data once, after `bind`: a few labelled images, or those that are held out of training."""

    # In every update.
    def latent(self, latent: Latent) -> Latent:
        """Change the generator's input, in both players' updates. [B, Z]"""
        return latent

    def replay(self, fake: Tensor) -> Tensor:
        """Choose the fakes that the discriminator trains on. [B, C, H, W]"""
        return fake

    def reals(self, images: Tensor) -> Tensor:
        """Transform reals only, e.g. dequantisation. [B, C, H, W]

        Never an augmentation: G would learn to make what only reals have. Augmentations are `view`s of both.
        """
        return images

    def view(self, images: Tensor) -> Tensor:
        """Transform every image on its way into the discriminator, differentiably, in both updates. [B, C, H, W]"""
        return images

    def targets(self, targets: Targets) -> Targets:
        """Change the targets of the discriminator's update: probabilities of being real, whatever `encode` does. [B]"""
        return targets

    def encode(self, targets: Targets) -> Targets:
        """Choose the number that stands for real, in both players' updates. Acts after every `targets`. [B]"""
        return targets

    def choose(self, score: Tensor) -> Tensor:
        """Choose the fakes' scores that the generator trains on. [B] -> [K]; K depends on shapes and the step alone."""
        return score

    def observe(self, context: Context) -> None:
        """Keep statistics of a discriminator's context, in place on buffers. Runs without gradients."""

    def discriminator_term(self, context: Context) -> Tensor:
        """A further term of the discriminator's loss. []"""
        raise NotImplementedError

    def generator_term(self, context: Context) -> Tensor:
        """A further term of the generator's loss. []"""
        raise NotImplementedError

    def before(self, pair: PairView, player: Role) -> None:
        """Change a player's gradients, in place, before its optimiser's step. Without gradients."""

    def after(self, pair: PairView, player: Role) -> None:
        """Project parameters or average them, in place, after the optimiser's step. Without gradients."""

    def metrics(self) -> Mapping[str, Tensor]:
        """Metrics to log after each discriminator update, as device tensors. Each []"""
        return {}

    # On the host, between updates.
    def begin(self, pair: PairView, step: int) -> None:
        """Prepare a step before its first update, e.g. put past weights in. Without gradients."""

    def sits_out(self, step: int, player: Role) -> bool:
        """Whether this player skips its updates in this step."""
        return False

    def sampler(self, net: nn.Module) -> nn.Module:
        """The generator to draw samples from, e.g. one with averaged weights."""
        return net

    def log_metrics(self, pair: PairView) -> Mapping[str, float]:
        """Metrics measured at each log, where the host waits anyway, e.g. the error on held-out images."""
        return {}

    def watch(self, step: int, means: Mapping[str, float]) -> None:
        """Read the means of the last log window. Raises Stopped to end the run."""

    def traversals(self, noise: Tensor) -> Mapping[str, Tensor]:
        """Latent traversals to draw beside the grid, from its noise [N, Z]: name -> [rows, columns, Z]."""
        return {}

    # Before anything starts.
    def diagnostics(self, shape: BatchShape) -> Iterable[Diagnostic]:
        """Errors, warnings and notes about this trick's own settings."""
        return ()


class Setting(Trick):
    """A trick that needs no code: its YAML file sets other parts' settings. Listed so that it is logged and refused.

    `sets` names the keys that its file sets; no two tricks of one run may set the same key.
    """

    def __init__(self, *, sets: list[str]):
        """Takes the keys that the YAML file sets, such as `optim.generator.lr`."""
        super().__init__()
        self.sets = list(sets)
        self.traits = Traits(sets=frozenset(sets))


class Tricks(nn.ModuleDict):
    """The tricks of one pair, in the order the configuration lists them. A hook is named by its method on `Trick`."""

    def __init__(self, tricks: Mapping[str, Trick]):
        super().__init__(tricks)
        hooks = {name: hook for name, hook in vars(Trick).items() if isfunction(hook)}
        self._acting = {  # hook -> the tricks that override it
            name: [(key, self._trick(key)) for key in tricks if getattr(type(tricks[key]), name) is not hook]
            for name, hook in hooks.items()
        }

    def fold(self, hook: Callable, value: Any, *args: Any) -> Any:
        """Thread a value through every trick at this hook. Raises ConfigError naming the trick that refused it."""
        for name, method in self.at(hook):
            try:
                value = method(value, *args)
            except ConfigError as error:
                raise error.at(f"tricks.{name}") from error
        return value

    def terms(self, hook: Callable, context: Context, due: frozenset[str]) -> Terms:
        """The named terms of every trick that is due at this hook, each [] and scaled by how rarely it is added."""
        active = [(name, method) for name, method in self.at(hook) if self._due(name, due)]
        return {name: method(context) * self._trick(name).every for name, method in active}

    @torch.no_grad()
    def each(self, hook: Callable, *args: Any) -> None:
        """Call every trick at this hook, without gradients. Raises ConfigError naming the trick that refused."""
        for name, method in self.at(hook):
            try:
                method(*args)
            except ConfigError as error:
                raise error.at(f"tricks.{name}") from error

    @torch.no_grad()
    def metrics(self) -> Metrics:
        """Every trick's metrics, under tricks/<name>. Each []"""
        return {f"tricks/{name}/{key}": v for name, measure in self.at(Trick.metrics) for key, v in measure().items()}

    def differentiate(self, due: frozenset[str]) -> bool:
        """Whether a due trick wants gradients with respect to images."""
        return any(self._trick(name).differentiates for name in self if self._due(name, due))

    def replaces(self) -> bool:
        """Whether a trick's generator term replaces the adversarial one."""
        return any(self._trick(name).replaces for name in self)

    def paired(self, due: frozenset[str]) -> bool:
        """Whether a due trick compares with reals in the generator's update."""
        return any(self._trick(name).paired for name in self if self._due(name, due))

    def due(self, step: int) -> frozenset[str]:
        """The lazy tricks whose turn it is at this step."""
        return frozenset(name for name in self if (n := self._trick(name).every) > 1 and step % n == 0)

    def at(self, hook: Callable) -> list[tuple[str, Callable]]:
        """The tricks that override this hook, with their methods."""
        name = hook.__name__
        return [(key, getattr(trick, name)) for key, trick in self._acting[name]]

    def _trick(self, name: str) -> Trick:
        trick = self[name]
        assert isinstance(trick, Trick)
        return trick

    def _due(self, name: str, due: frozenset[str]) -> bool:
        return self._trick(name).every == 1 or name in due
