"""A rule: from what a run has logged to the figures that show a failure, or none."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ganrun.diagnosis.history import History
from ganrun.diagnosis.remedy import UNUSUAL, Remedy

EARLY = 100  # steps in which nothing is found: losses and gradients have not settled
Evidence = Mapping[str, float]  # figures by name, in the order in which they are read


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What rules need to know of a run beside what it logs."""

    steps: int  # of the whole run
    pair: str = ""  # whose tags are read, of a game with several; "" for the only one
    first: bool = True  # whether samples, and so what is measured of them, are this pair's
    chance: float | None = None  # D's loss at chance level; None where it has none
    quality: str | None = None  # the tag of quality; None for a run that measures none
    slopes: tuple[tuple[str, float], ...] = ()  # of each gradient penalty: the tag of D's slope, and its target
    unusual: tuple[tuple[str, float], ...] = ()  # settings far from those of published recipes: key and value
    averaged: bool = True  # whether samples are drawn with an average of G's weights
    ready: int = 0  # the last step of a declared warm-up or head start

    def tag(self, key: str) -> str:
        """The tag of a metric of this pair: score/real -> score/<pair>/real."""
        head, _, rest = key.partition("/")
        return f"{head}/{self.pair}/{rest}" if self.pair else key


class Rule(ABC):
    """One failure: what shows it, what it means, and what to try, the likeliest first."""

    name: ClassVar[str]
    meaning: ClassVar[str]  # one sentence
    remedies: ClassVar[Sequence[Remedy]] = ()  # of its own
    failure: ClassVar[bool] = True  # or a remark
    ends: ClassVar[bool] = False  # whether diagnosis.on_collapse=stop ends a run at it
    early: ClassVar[bool] = False  # whether it is asked in the first steps too
    lasting: ClassVar[int] = 150  # steps for which it must hold before it is found, and not hold before it is over
    rows: ClassVar[int] = 3  # logs likewise, at least
    measured: ClassVar[bool] = False  # reads what is measured seldom: over at once, and found at once at the last step
    alone: ClassVar[bool] = False  # whether it is over at once when a failure is found

    @property
    def tries(self) -> Sequence[Remedy]:
        """What to try: first a setting that is far from usual, which is the likeliest cause of whatever is wrong."""
        return (*UNUSUAL, *self.remedies)

    @abstractmethod
    def evidence(self, history: History, about: About) -> Evidence | None:
        """The figures that show the failure at the last row; None where they do not, or where they are missing."""

    def remains(self, history: History, about: About) -> Evidence | None:
        """The same once it is found: with wider bounds where a figure near its bound would come and go."""
        return self.evidence(history, about)
