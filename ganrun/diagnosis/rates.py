"""Whether learning rates suit the weights: the update of each layer's weights as a fraction of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median

import torch
from torch import Tensor

from ganrun.diagnosis.finding import Finding

HIGH = 0.5  # of the weights in an update, the median over updates. The experiments here have 0.1 and less
LOW = 1e-8  # they have 8e-7 and more
WANTED = 0.01  # what most experiments here have at first


@torch.no_grad()
def update_ratios(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], first: Mapping[str, Tensor]
) -> dict[str, float]:
    """|after - before| / |first| of each weight matrix [N, M] or kernel [N, M, H, W], by name.

    In units of the weights at first, since those of too high a rate soon grow with it. Weights that began at 0, such as
    those of a gate, are left out; gains and biases begin at 0 or 1 and tell nothing.
    """
    sizes = {name: float(weight.norm()) for name, weight in first.items() if weight.dim() > 1}
    return {name: float((after[name] - before[name]).norm()) / size for name, size in sizes.items() if size}


def medians(updates: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The median over updates of each ratio."""
    found: dict[str, list[float]] = {}
    for one in updates:
        for name, ratio in one.items():
            found.setdefault(name, []).append(ratio)
    return {name: median(ratios) for name, ratios in found.items()}


def findings(ratios: Mapping[str, Mapping[str, float]], rates: Mapping[str, float | None]) -> list[Finding]:
    """What is wrong with the rates of these players, by the median ratio of each of their layers.

    `rates` are the learning rates as settings have them; None where one is no number.
    """
    found = []
    for player, layers in ratios.items():
        if not layers:
            continue
        layer, largest = max(layers.items(), key=lambda one: one[1])
        if largest > HIGH:
            meaning = f"An update of the {player} changes {layer} by {largest:.0%} of its size, so nothing is kept."
            found.append(_finding("rate_too_high", meaning, player, largest, rates))
        elif largest < LOW:
            meaning = f"The {player} stands still: an update changes no layer by a hundred-millionth of its weights."
            found.append(_finding("rate_too_low", meaning, player, largest, rates))
    return found


def _finding(name: str, meaning: str, player: str, ratio: float, rates: Mapping[str, float | None]) -> Finding:
    rate = rates.get(player)
    better = () if not rate or not ratio else (f"optim.{player}.lr={rate * WANTED / ratio:.1g}",)
    return Finding(name=name, meaning=meaning, failure=True, evidence={"update_per_weight": ratio}, remedies=better)


def described(ratios: Mapping[str, Mapping[str, float]], updates: int, steps: int) -> list[str]:
    """The ratios as lines for a reader."""
    lines = []
    for player, layers in ratios.items():
        if layers:
            low, high = min(layers.values()), max(layers.values())
            lines.append(
                f"an update of the {player} changes the weights of its layers by {low:.1g} to {high:.1g} of their size"
            )
    return lines + [
        f"rehearsed: {updates} updates in {steps} step{'s' * (steps != 1)}, of a copy that was thrown away"
    ] * bool(lines)
