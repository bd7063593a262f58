"""What the numbers of updates mean: their tags, the norms of layers, and log windows over many updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ganrun.record.events import network


class Table(NamedTuple):
    """What N updates of one kind show."""

    tags: list[str]  # [T]
    numbers: np.ndarray  # [N, T]
    shown: list[bool]  # [N] whether the update has a point of its own


class Window(NamedTuple):
    """What a log window says of one metric."""

    total: float
    updates: int
    least: float
    largest: float
    hidden: int  # the number of updates without a point of their own

    @property
    def mean(self) -> float:
        """Over its updates."""
        return self.total / self.updates

    @classmethod
    def over(cls, table: Table) -> list[Window]:
        """Of each column of a table."""
        numbers, hidden = table.numbers, table.shown.count(False)
        columns = zip(numbers.sum(0).tolist(), numbers.min(0).tolist(), numbers.max(0).tolist(), strict=True)
        return [cls(total, len(numbers), least, largest, hidden) for total, least, largest in columns]

    def joined(self, other: Window) -> Window:
        """Of both; a value that is not a number makes all but the counts so."""
        least, largest = float(np.minimum(self.least, other.least)), float(np.maximum(self.largest, other.largest))
        return Window(
            self.total + other.total, self.updates + other.updates, least, largest, self.hidden + other.hidden
        )

    def points(self, tag: str) -> dict[str, float]:
        """Its mean under the metric's own tag, and its bounds."""
        bounds = {f"window/least/{tag}": self.least, f"window/largest/{tag}": self.largest}
        return {tag: self.mean} | bounds


@dataclass(frozen=True)
class Columns:
    """What the K values of an update mean. Updates of a player with the same keys share one."""

    player: str
    keys: tuple[str, ...]
    plain: list[int] = field(repr=False)  # the keys that are written as they are
    terms: list[int] = field(repr=False)  # the keys that add up to the player's loss
    members: np.ndarray = field(repr=False)  # [K, L] 1.0 where the norm at this key is of this layer
    tags: list[str] = field(repr=False)  # of the plain keys, then of the layers, then of the total

    @classmethod
    def of(cls, player: str, keys: tuple[str, ...], layers: Mapping[str, list[str]]) -> Columns:
        """Columns for these keys; `layers` holds the keys of the gradient norms of each layer, by tag.

        Norms of no layer are not written.
        """
        own = {tag: set(names) & set(keys) for tag, names in layers.items()}
        present = [tag for tag, names in own.items() if names]
        plain = [index for index, key in enumerate(keys) if not key.startswith("gradient/")]
        terms = [index for index, key in enumerate(keys) if key.startswith(f"loss/{player}/")]
        members = np.array([[float(key in own[tag]) for tag in present] for key in keys]).reshape(len(keys), -1)
        total = [f"loss/{player}/total"] if terms else []
        return cls(player, keys, plain, terms, members, [keys[index] for index in plain] + present + total)

    def table(self, values: np.ndarray) -> np.ndarray:
        """What to write under the tags [N, T], from the values of N updates [N, K]."""
        # A layer's norm is that of all its parameters together. In float32, as every other value: float64 holds the sum
        # of a window of them exactly, so that its mean does not depend on where checkpoints have cut the window.
        norms = np.sqrt(self._per_layer(values**2)).astype(np.float32).astype(np.float64)
        total = [values[:, self.terms].sum(1, keepdims=True)] if self.terms else []
        return np.hstack([values[:, self.plain], norms, *total])

    def _per_layer(self, squares: np.ndarray) -> np.ndarray:
        """The sum of each layer's squares [N, L]; what is not finite in one layer is not in the sums of others."""
        if np.isfinite(squares).all():
            return squares @ self.members
        return np.where(self.members.T > 0, squares[:, None], 0.0).sum(2)


def tagged(player: str, layers: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """A player's layers by the tag they are shown under, numbered by depth so that they sort.

    TensorBoard opens on its groups in alphabetical order: these, the many, come behind what is read first.
    """
    digits = max(2, len(str(len(layers) - 1)))
    named = enumerate(layers.items())
    return {f"weight_gradient/{player}/{depth:0{digits}d}_{name}": keys for depth, (name, keys) in named}


def summed(layers: Mapping[str, list[str]], networks: Sequence[str], gradients: str) -> dict[str, list[str]]:
    """A player's layers as finely as norms are recorded: each, those of a network as one, or none of them."""
    if gradients == "layers":
        return dict(layers)
    found: dict[str, list[str]] = {}
    for layer, keys in layers.items() if gradients == "networks" else ():
        name = network(layer, networks) or networks[0]
        found.setdefault(name, []).extend(keys)
    return found
