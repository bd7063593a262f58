"""The sentences that samples and walks are asked for, as a run's networks read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ganrun.core.context import Condition
from ganrun.core.errors import ConfigError
from ganrun.data.datasets.captions import read_rows
from ganrun.run.load import LoadedRun

PLACE = "text"


@dataclass(frozen=True, slots=True)
class Sentences:
    """Sentences and what networks read of each: numbers of words [S, L], or rows of an encoder [S, E]."""

    lines: Sequence[str]
    rows: Tensor

    def condition(self, count: int) -> Condition:
        """The condition of this many samples, shared among the sentences, those of each in a row. [count, ...]"""
        chosen = self.rows[self._shares(count)]
        return Condition(embedding=chosen) if chosen.is_floating_point() else Condition(text=chosen)

    def listing(self, count: int) -> str:
        """A line for each of this many samples: its number and its sentence."""
        return "".join(f"{n}\t{self.lines[row]}\n" for n, row in enumerate(self._shares(count).tolist()))

    def _shares(self, count: int) -> Tensor:
        return torch.arange(count) * len(self.lines) // count


def sentences_of(run: LoadedRun, text: str | Sequence[str]) -> Sentences:
    """The sentences of `text`, one or several, or the rows of a FILE.npy where the run reads those.

    Raises ConfigError for a run that reads no sentences, and for words that its captions do not have.
    """
    lines = [text] if isinstance(text, str) else list(text)
    if run.vocabulary is not None:
        return Sentences(lines, run.vocabulary.read(lines, PLACE))
    size = run.settings["dataset"].get("text_size", 0)
    if not size:
        raise ConfigError(PLACE, "this run reads no sentences", "a run with game=text", "leaving text out")
    if len(lines) != 1 or not lines[0].endswith(".npy"):
        found = f"{lines[0]}, but this run reads what another network made of its captions"
        raise ConfigError(PLACE, found, f"a FILE.npy of rows [N, {size}]", "text=rows.npy")
    rows = read_rows(lines[0], PLACE)
    if rows.shape[1] != size:
        raise ConfigError(PLACE, f"{lines[0]} has rows of {rows.shape[1]} numbers", f"{size}, as in training")
    return Sentences([f"row {number} of {lines[0]}" for number in range(len(rows))], rows)
