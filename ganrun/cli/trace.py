"""Runs one update of each player and records its terms and layers. Trains nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ganrun.config.build import Run
from ganrun.core.context import Outcome, Progress, Update


@dataclass
class Layer:
    """One layer as it ran."""

    name: str
    kind: str
    shape: str  # of its output, without the batch
    parameters: int


@dataclass
class Trace:
    """The outcome of one update of each player, and the layers that ran."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    layers: dict[int, Layer] = field(default_factory=dict)  # by the module's id, in the order in which they ran


def trace(run: Run) -> Trace:
    """Run one update of each player on real data, without the optimiser's step, and record what ran."""
    traced = Trace()
    nets = [net for pair in run.game.named_pairs().values() for net in (pair.generator, pair.discriminator)]
    hooks = [
        module.register_forward_hook(_notice(traced, name, module)) for net in nets for name, module in leaves(net)
    ]
    run.engine.begin(Progress())
    for player, role in run.game.players.items():
        shape = run.updates.shape(run.game, role)
        update = Update(player=player, role=role, shape=shape, due=run.game.due(0))
        with torch.autocast(run.device.type, dtype=torch.bfloat16, enabled=run.engine.autocast):
            traced.outcomes[player] = run.game.outcome(update, run.data.draw(run.game.wanted(update)), {})
    for hook in hooks:
        hook.remove()
    return traced


def leaves(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers of a network: modules with parameters of their own, and modules without parts."""
    for name, module in net.named_modules():
        if "parametrizations" in name.split("."):
            continue  # how another layer's weight is made
        own = any(True for _ in module.parameters(recurse=False)) or hasattr(module, "parametrizations")
        if own or not any(True for _ in module.children()):
            yield name or type(module).__name__.lower(), module


def _notice(traced: Trace, name: str, module: nn.Module) -> Callable:
    def hook(_: nn.Module, given: Any, output: Any) -> None:
        if id(module) not in traced.layers:
            traced.layers[id(module)] = Layer(name, kind(module), shape(output), count(module))

    return hook


def kind(module: nn.Module) -> str:
    """The layer's class with kernel, stride and the like; a parametrised layer has the class it was made from."""
    base = type(module).__mro__[1] if hasattr(module, "parametrizations") else type(module)
    words = [base.__name__]
    if hasattr(module, "kernel_size"):
        words += [_size(module.kernel_size), f"stride {_size(module.stride)}"]
    words += [
        f"{key}={value:g}"
        for key in ("p", "negative_slope")
        if isinstance(value := getattr(module, key, 0), float) and value
    ]
    words += [f"{key}={value}" for key in ("num_groups",) if (value := getattr(module, key, 0))]
    for tensor, chain in getattr(module, "parametrizations", {}).items():
        words += [f"({tensor}: {', '.join(type(one).__name__.strip('_') for one in chain)})"]
    return " ".join(words)


def _size(value: Any) -> str:
    sizes = [str(number) for number in value] if isinstance(value, tuple) else [str(value)]
    return sizes[0] if len(set(sizes)) == 1 else "x".join(sizes)


def shape(output: Any) -> str:
    """The first tensor's shape without the batch, as 64 x 16 x 16; 1 for a number an image."""
    if isinstance(output, Tensor):
        return " x ".join(str(size) for size in output.shape[1:]) or "1"
    return shape(output[0]) if isinstance(output, tuple) and output else ""


def count(module: nn.Module) -> int:
    """Parameters of this layer itself, those of its parametrisations included."""
    own = [*module.parameters(recurse=False)]
    if hasattr(module, "parametrizations"):
        own += [*module.parametrizations.parameters()]  # type: ignore[union-attr]
    return sum(parameter.numel() for parameter in own)
