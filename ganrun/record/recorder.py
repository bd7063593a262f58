"""Metrics of every update: kept on the device, written in batches to TensorBoard and metrics.jsonl."""

from __future__ import annotations

import json
import math
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ganrun.core.errors import NotFinite, Stopped
from ganrun.record.atomic import environment, write_atomically
from ganrun.record.columns import Columns, Table, Window, tagged
from ganrun.record.events import EventFile, NoEvents, layout
from ganrun.record.folder import RunFolder

STATE = {"window": dict[str, list[float]], "means": dict[str, float], "updates": dict[str, int]}  # the form of a state
Layers = Mapping[str, Mapping[str, list[str]]]  # player -> layer -> the keys of its gradient norms, in depth order
Networks = Mapping[str, Sequence[str]]  # player -> the names of its networks
SPEED = "training/images_per_second"  # the one metric that depends on the clock


class Pending(NamedTuple):
    """One update that was not written yet."""

    step: int
    wall_time: float  # seconds since 1970
    columns: Columns
    values: Tensor  # [K] on the device
    shown: bool  # whether it has a point of its own


class Recorder:
    """Keeps the metrics of every update on the device; one copy to the host for many steps.

    Each of a player's first `full` updates becomes one event at its step; later ones are folded into log windows, of
    which the event file holds the mean, the least and the largest. When a player has several updates in a step, the
    event file holds them all in order; TensorBoard's default reader shows the last, `--load_fast=false` shows each.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        every: int,
        layers: Layers,
        networks: Networks | None = None,
        full: float = math.inf,
        purge_step: int | None = None,
        writes: bool = True,
    ):
        """`purge_step` is the first step that will be recorded anew: earlier records from there on are dropped.

        `networks` tells the layers of a player's several networks apart, which begin with their names. Without
        `writes` only means are kept: of several processes one writes.
        """
        self.every, self.full, self._writes = every, full, writes
        self._layers = {player: tagged(player, own) for player, own in layers.items()}
        self._networks = networks or {}
        self._columns: dict[tuple[str, tuple[str, ...]], Columns] = {}
        self._pending: list[Pending] = []
        self._updates: dict[str, int] = {}  # of each player, so far
        self.means: dict[str, float] = {}  # as of the last flush
        self.step = 0  # of the last update
        self._window: dict[str, Window] = {}  # tag -> since the last flush
        self._laid_out = False
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
        self.step = step
        columns = self._columns.get((player, names))
        if columns is None:
            columns = self._columns[player, names] = Columns.of(player, names, self._layers.get(player, {}))
        count = self._updates[player] = self._updates.get(player, 0) + 1
        self._pending.append(Pending(step, time.time(), columns, values, count <= self.full))

    def measured(self, step: int, values: Mapping[str, float]) -> None:
        """Record what was measured of a step by tag: a point of its own, and part of the window that is open."""
        for tag, value in values.items():
            before, window = self._window.get(tag), Window(value, 1, value, value, 0)
            self._window[tag] = window if before is None else before.joined(window)
        with environment("cannot write what the run records"):
            self._events.scalars(step, list(values), values.values())
            self._events.flush()

    def flush(self, step: int, extra: Mapping[str, float]) -> dict[str, float]:
        """Write all that was kept; return the mean of each metric since the last flush, and `extra` with them.

        Raises Stopped for a value that is not finite, and EnvironmentFailed when nothing can be written.
        """
        try:
            self.write()
        finally:  # also when a value is not finite: what came before it is worth keeping
            window, self._window = self._window, {}
            self.means = {tag: one.mean for tag, one in window.items()} | dict(extra)
            folded = [one.points(tag) for tag, one in window.items() if one.hidden]
            points = {tag: value for some in (*folded, extra) for tag, value in some.items()}
            with environment("cannot write what the run records"):
                if points:
                    self._events.scalars(step, points, points.values())
                    self._events.flush()
                self._append({"step": step, "time": round(time.time(), 3)} | self.means)
        return self.means

    def end(self) -> None:
        """Write the window that is open when something ends the run, as far as it came."""
        if self._window:
            with suppress(Stopped):
                self.flush(self.step, {})

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
        """The window that is open, the means of the last one and the number of updates, as plain values.

        Without those that depend on the clock: equal runs have equal checkpoints.
        """
        return {
            "window": {tag: list(window) for tag, window in self._window.items()},
            "means": {tag: mean for tag, mean in self.means.items() if tag != SPEED},
            "updates": dict(self._updates),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue the window that was open."""
        self._window = {tag: Window(*values) for tag, values in state.get("window", {}).items()}
        self.means = dict(state.get("means", {}))
        self._updates = dict(state.get("updates", {}))

    def remark(self, step: int, tag: str, value: float, markdown: str) -> None:
        """Show a number at a step, and beside it a text that says why."""
        with environment("cannot write what the run records"):
            self._events.scalars(step, [tag], [value])
            self._events.text(tag, markdown)
            self._events.flush()

    def text(self, tag: str, markdown: str) -> None:
        """Show a text in Markdown."""
        with environment("cannot write what the run records"):
            self._events.text(tag, markdown)

    def image(self, tag: str, step: int, array: np.ndarray) -> None:
        """Show a picture, uint8 [H, W, C]."""
        with environment("cannot write what the run records"):
            self._events.image(step, tag, array)
            self._events.flush()

    def hparams(self, settings: Mapping[str, Any]) -> None:
        """Enter this run into the HParams page, whose metrics are the last points of the run's curves."""
        with environment("cannot write what the run records"):
            self._events.hparams(settings)
            self._events.flush()

    def close(self) -> None:
        """Close the event file."""
        with environment("cannot write what the run records"):
            self._events.close()

    def _tables(self, pending: list[Pending], rows: list[np.ndarray]) -> Tables:
        """For each kind of update, its tags and numbers."""
        grouped: dict[int, tuple[Columns, list[np.ndarray], list[bool]]] = OrderedDict()
        for update, row in zip(pending, rows, strict=True):
            _, values, shown = grouped.setdefault(id(update.columns), (update.columns, [], []))
            values.append(row)
            shown.append(update.shown)
        return {
            key: Table(columns.tags, columns.table(np.stack(values)), shown)
            for key, (columns, values, shown) in grouped.items()
        }

    def _accumulate(self, tables: Iterable[Table]) -> None:
        """Add to the window under each tag, over all updates that have it."""
        for table in tables:
            for tag, window in zip(table.tags, Window.over(table), strict=True):
                before = self._window.get(tag)
                self._window[tag] = window if before is None else before.joined(window)

    def _write(self, pending: list[Pending], tables: Tables) -> None:
        if tables and not self._laid_out:
            self._laid_out = True
            tags = dict.fromkeys(tag for table in tables.values() for tag in table.tags)
            self._events.layout(layout(tags, {name: list(own) for name, own in self._layers.items()}, self._networks))
        numbers = {key: iter(table.numbers.tolist()) for key, table in tables.items()}
        for update in pending:
            key = id(update.columns)
            row = next(numbers[key])
            if update.shown:
                self._events.scalars(update.step, update.columns.tags, row, update.wall_time)
        self._events.flush()

    def _append(self, line: Mapping[str, Any]) -> None:
        """One line of strict JSON, where a number that is not finite is null."""
        if not self._writes:
            return
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
        with self._lines.open("a") as file:
            file.write(json.dumps(clean, allow_nan=False) + "\n")


Tables = dict[int, Table]


def fetch(values: list[Tensor]) -> list[np.ndarray]:
    """Tensors [K] of one device as float64 arrays, by one copy to the host."""
    if not values:
        return []
    together = torch.cat(values).cpu().double().numpy()
    return np.split(together, np.cumsum([len(value) for value in values])[:-1])


def stop_if_not_finite(pending: list[Pending], rows: list[np.ndarray]) -> None:
    """Raises NotFinite at the first value that is not finite."""
    for update, row in zip(pending, rows, strict=True):
        bad = np.flatnonzero(~np.isfinite(row))
        if len(bad):
            key = update.columns.keys[bad[0]]
            raise NotFinite(
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
