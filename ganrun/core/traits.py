"""What parts state about themselves, and diagnostics about them before a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from ganrun.core.errors import ConfigErrors, placed
from ganrun.core.facts import Fact


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a part states about itself. Parts may build it from how they were constructed."""

    provides: frozenset[Fact] = frozenset()  # facts this part makes true
    needs: frozenset[Fact] = frozenset()  # facts that must hold for this part to mean anything
    invalidates: frozenset[Fact] = frozenset()  # facts this part makes false
    sets: frozenset[str] = frozenset()  # things only one part may set, e.g. "the targets of reals"
    prefers: frozenset[Fact] = frozenset()  # facts without which this part works, but not as it should


class Part(Protocol):
    """Anything with traits: a network, a loss, a game, a trick."""

    @property
    def traits(self) -> Traits:
        """What this part states about itself."""


def facts(*names: Fact) -> frozenset[Fact]:
    """These facts, as `Traits` takes them."""
    return frozenset(names)


def keys(*names: str) -> frozenset[str]:
    """These names of what only one part may set, as `Traits` takes them."""
    return frozenset(names)


class Level(StrEnum):
    """How severe a diagnostic is."""

    ERROR = "E"  # refused
    WARNING = "W"  # trains, with a warning once
    NOTE = "I"  # worth knowing


class Diagnostic(NamedTuple):
    """One remark about a combination of parts before it runs."""

    id: str  # of docs/compatibility.md, e.g. C1; what `force` takes
    level: Level
    sentence: str

    def at(self, place: str) -> Diagnostic:
        """The same remark of a part at this place of the configuration, which the part does not know."""
        return self._replace(sentence=f"{place}: {placed(self.sentence, place)}")


class IncompatibleParts(ConfigErrors):
    """Parts that cannot be combined, with the diagnostics that say why."""

    def __init__(self, found: Iterable[Diagnostic]):
        self.diagnostics = tuple(found)
        super().__init__(f"{diagnostic.sentence} (rule {diagnostic.id})" for diagnostic in self.diagnostics)
