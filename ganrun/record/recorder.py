"""Metrics of every update: kept on the device, written in batches to TensorBoard and metrics.jsonl."""

from __future__ import annotations

import json
import math
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ganrun.core.errors import Stopped
from ganrun.record.atomic import environment, write_atomically
from ganrun.record.events import EventFile, NoEvents, layout, with_twins
from ganrun.record.folder import RunFolder

STATE = {"window": dict[str, list[float]], "means": dict[str, float], "several": list[str]}  # the form of a state
Layers = Mapping[str, Mapping[str, list[str]]]  # player -> layer -> the keys of its gradient norms, in depth order


class Pending(NamedTuple):
    """One update that was not written yet."""

    step: int
    wall_time: float  # seconds since 1970
    columns: Columns
    values: Tensor  # [K] on the device


@dataclass(frozen=True)
class Columns:
    """What the K values of an update mean. Updates of a player with the same keys share one."""

    player: str
    keys: tuple[str, ...]
    plain: list[int] = field(repr=False)  # the keys that are written as they are
    terms: list[int] = field(repr=False)  # the keys that add up to the player's loss
    members: np.ndarray = field(repr=False)  # [K, L] 1.0 where the norm at this key is of this layer
    tags: list[str] = field(repr=False)  # of the plain keys, then of the layers

    @classmethod
    def of(cls, player: str, keys: tuple[str, ...], layers: Mapping[str, list[str]]) -> Columns:
        """Columns for these keys; `layers` holds the keys of the gradient norms of each layer, by tag."""
        own = {tag: set(names) & set(keys) for tag, names in layers.items()}
        present = [tag for tag, names in own.items() if names]
        covered = set().union(*own.values())
        plain = [index for index, key in enumerate(keys) if key not in covered]
        terms = [index for index, key in enumerate(keys) if key.startswith(f"loss/{player}/")]
        members = np.array([[float(key in own[tag]) for tag in present] for key in keys]).reshape(len(keys), -1)
        return cls(player, keys, plain, terms, members, [keys[index] for index in plain] + present)

    @property
    def total(self) -> str:
        """The tag of the sum of the player's terms."""
        return f"loss/{self.player}/total"

    def table(self, values: np.ndarray, *, total: bool) -> tuple[list[str], np.ndarray]:
        """Tags [T] and what to write under them [N, T], from the values of N updates [N, K]."""
        # A layer's norm is that of all its parameters together. In float32, as every other value: float64 holds the sum
        # of a window of them exactly, so that its mean does not depend on where checkpoints have cut the window.
        norms = np.sqrt(values**2 @ self.members).astype(np.float32).astype(np.float64)
        parts = [values[:, self.plain], norms]
        if total and self.total not in self.keys:
            return [*self.tags, self.total], np.hstack([*parts, values[:, self.terms].sum(1, keepdims=True)])
        return self.tags, np.hstack(parts)


class Recorder:
    """Keeps the metrics of every update on the device; one copy to the host for many steps.

    Each update becomes one event at its step. When a player has several updates in a step, the event file holds
    them all in order; TensorBoard's default reader shows the last of them, `--load_fast=false` shows each.
    """

    def __init__(
        self, folder: RunFolder, *, every: int, layers: Layers, purge_step: int | None = None, writes: bool = True
    ):
        """`purge_step` is the first step that will be recorded anew: earlier records from there on are dropped.

        Without `writes` only means are kept: of several processes one writes.
        """
        self.every, self._writes = every, writes
        self._layers = {player: tagged(player, own) for player, own in layers.items()}
        self._columns: dict[tuple[str, tuple[str, ...]], Columns] = {}
        self._pending: list[Pending] = []
        self._several: set[str] = set()  # the players whose loss has more than one term
        self.means: dict[str, float] = {}  # as of the last flush
        self._window: dict[str, tuple[float, int]] = {}  # tag -> sum and count since the last flush
        self._laid_out = False
        self._step = 0
        self._lines = folder.metrics
        with environment(f"cannot write what the run records in {folder.path}"):
            if purge_step is not None and writes:
                forget(self._lines, purge_step)
            self._events = EventFile(folder.path, purge_step=purge_step) if writes else NoEvents()

    def due(self, step: int) -> bool:
        """Whether a log ends at this step."""
        return step % self.every == 0

    def add(self, step: int, player: str, names: tuple[str, ...], values: Tensor) -> None:
        """Keep the metrics of one update: K names, and values [K] on the device. Does not wait for the device."""
        columns = self._columns.get((player, names))
        if columns is None:
            columns = self._columns[player, names] = Columns.of(player, names, self._layers.get(player, {}))
        self._pending.append(Pending(step, time.time(), columns, values))

    def flush(self, step: int, extra: Mapping[str, float]) -> dict[str, float]:
        """Write all that was kept; return the mean of each metric since the last flush, and `extra` with them.

        Raises Stopped for a value that is not finite, and EnvironmentFailed when nothing can be written.
        """
        try:
            self.write()
        finally:  # also when a value is not finite: what came before it is worth keeping
            means = {tag: total / count for tag, (total, count) in self._window.items()} | dict(extra)
            self.means, self._window, self._step = means, {}, step
            with environment("cannot write what the run records"):
                if extra:
                    self._events.scalars(step, extra, extra.values())
                    self._events.flush()
                self._append({"step": step, "time": round(time.time(), 3)} | means)
        return means

    def write(self) -> None:
        """Write the events of the updates so far, by one copy to the host; the means go on.

        Call it before a checkpoint between two flushes, so that a run that is killed and resumed misses no update.
        Raises Stopped for a value that is not finite, and EnvironmentFailed when nothing can be written.
        """
        pending, self._pending = self._pending, []
        rows = fetch([update.values for update in pending])
        tables = self._tables(pending, rows)
        self._accumulate(tables.values())
        with environment("cannot write what the run records"):
            self._write(pending, tables)
        stop_if_not_finite(pending, rows)

    def state_dict(self) -> dict[str, Any]:
        """The sums of the window that is open, and the means of the last one, as plain values.

        Without those that depend on the clock: equal runs have equal checkpoints.
        """
        return {
            "window": {tag: list(sums) for tag, sums in self._window.items()},
            "means": {tag: mean for tag, mean in self.means.items() if not tag.startswith("speed/")},
            "several": sorted(self._several),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue the window that was open."""
        self._window = {tag: (float(total), int(count)) for tag, (total, count) in state.get("window", {}).items()}
        self.means = dict(state.get("means", {}))
        self._several = set(state.get("several", ()))

    def text(self, tag: str, markdown: str) -> None:
        """Show a text in Markdown."""
        with environment("cannot write what the run records"):
            self._events.text(tag, markdown)

    def image(self, tag: str, step: int, array: np.ndarray) -> None:
        """Show a picture, uint8 [H, W, C]."""
        with environment("cannot write what the run records"):
            self._events.image(step, tag, array)
            self._events.flush()

    def hparams(self, hparams: Mapping[str, Any], metrics: Mapping[str, float], *, step: int | None = None) -> None:
        """Enter this run into the HParams page. Runs that are to share columns must give the same names.

        Metrics are shown under `final/<name>`, apart from the curves of the same name.
        """
        final = {f"final/{name}": value for name, value in metrics.items()}
        with environment("cannot write what the run records"):
            self._events.hparams(self._step if step is None else step, hparams, final)
            self._events.flush()

    def close(self) -> None:
        """Close the event file."""
        with environment("cannot write what the run records"):
            self._events.close()

    def _tables(self, pending: list[Pending], rows: list[np.ndarray]) -> Tables:
        """For each kind of update, its tags and numbers."""
        grouped: dict[int, tuple[Columns, list[np.ndarray]]] = OrderedDict()
        for update, row in zip(pending, rows, strict=True):
            grouped.setdefault(id(update.columns), (update.columns, []))[1].append(row)
        self._several |= {columns.player for columns, _ in grouped.values() if len(columns.terms) > 1}
        return {
            key: columns.table(np.stack(values), total=columns.player in self._several)
            for key, (columns, values) in grouped.items()
        }

    def _accumulate(self, tables: Iterable[tuple[list[str], np.ndarray]]) -> None:
        """Add to the sums under each tag, over all updates that have it."""
        for tags, table in tables:
            for tag, column in zip(tags, table.sum(0).tolist(), strict=True):
                total, count = self._window.get(tag, (0.0, 0))
                self._window[tag] = (total + column, count + len(table))

    def _write(self, pending: list[Pending], tables: Tables) -> None:
        tables = {key: with_twins(*table) for key, table in tables.items()}
        if tables and not self._laid_out:
            self._laid_out = True
            tags = dict.fromkeys(tag for some, _ in tables.values() for tag in some)
            self._events.layout(layout(tags, {player: list(own) for player, own in self._layers.items()}))
        numbers = {key: iter(table.tolist()) for key, (_, table) in tables.items()}
        for update in pending:
            key = id(update.columns)
            self._events.scalars(update.step, tables[key][0], next(numbers[key]), update.wall_time)
        self._events.flush()

    def _append(self, line: Mapping[str, Any]) -> None:
        """One line of strict JSON, where a number that is not finite is null."""
        if not self._writes:
            return
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
        with self._lines.open("a") as file:
            file.write(json.dumps(clean, allow_nan=False) + "\n")


Tables = dict[int, tuple[list[str], np.ndarray]]


def tagged(player: str, layers: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """A player's layers by the tag they are shown under, numbered by depth so that they sort."""
    digits = max(2, len(str(len(layers) - 1)))
    return {f"gradient_{player}/{depth:0{digits}d}_{name}": keys for depth, (name, keys) in enumerate(layers.items())}


def fetch(values: list[Tensor]) -> list[np.ndarray]:
    """Tensors [K] of one device as float64 arrays, by one copy to the host."""
    if not values:
        return []
    together = torch.cat(values).cpu().double().numpy()
    return np.split(together, np.cumsum([len(value) for value in values])[:-1])


def stop_if_not_finite(pending: list[Pending], rows: list[np.ndarray]) -> None:
    """Raises Stopped at the first value that is not finite."""
    for update, row in zip(pending, rows, strict=True):
        bad = np.flatnonzero(~np.isfinite(row))
        if len(bad):
            key = update.columns.keys[bad[0]]
            raise Stopped(
                f"step {update.step}, {update.columns.player}: {key} is {row[bad[0]]}. "
                "Try: a lower learning rate, or engine.precision=fp32"
            )


def forget(lines: Path, purge_step: int) -> None:
    """Drop the lines of this step and later ones, and one that a killed process cut short."""
    if not lines.exists():
        return
    kept = [line for line in lines.read_text(errors="replace").split("\n") if _before(line, purge_step)]
    write_atomically(lines, "".join(line + "\n" for line in kept))


def _before(line: str, step: int) -> bool:
    try:
        return json.loads(line)["step"] < step
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
