"""Refusal by two rules: every need is provided and not spoiled; a claim has one owner."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from ganrun.core.errors import Contradiction
from ganrun.core.facts import Fact


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a part states about itself. Parts may build it from how they were constructed."""

    provides: frozenset[Fact] = frozenset()  # facts this part makes true
    needs: frozenset[Fact] = frozenset()  # facts that must hold for this part to mean anything
    spoils: frozenset[Fact] = frozenset()  # facts this part makes false
    claims: frozenset[str] = frozenset()  # things only one part may set, e.g. "targets.real"
    prefers: frozenset[Fact] = frozenset()  # facts without which this part works, but not as it should


class Part(Protocol):
    @property
    def traits(self) -> Traits: ...


def facts(*names: Fact) -> frozenset[Fact]:
    return frozenset(names)


def claims(*names: str) -> frozenset[str]:
    return frozenset(names)


class Level(StrEnum):
    """How bad a finding is."""

    ERROR = "E"  # refused
    WARNING = "W"  # trains, and says so once
    NOTE = "I"  # worth knowing


class Finding(NamedTuple):
    """Something to say about a combination before it runs."""

    id: str  # of docs/compatibility.md, e.g. C1; what `force` takes
    level: Level
    sentence: str


class Clash(Contradiction):
    """Parts that cannot play together, by these findings."""

    def __init__(self, found: Iterable[Finding]):
        self.findings = tuple(found)
        super().__init__(f"{finding.sentence} (rule {finding.id})" for finding in self.findings)


def findings(parts: Mapping[str, Part]) -> list[Finding]:
    """What the traits of these parts say about each other: two rules that refuse and one that warns."""
    provided, spoiled = _owners(parts, "provides"), _owners(parts, "spoils")
    found = []
    for name, part in parts.items():
        for kind, level in (("needs", Level.ERROR), ("prefers", Level.WARNING)):
            for fact in sorted(getattr(part.traits, kind)):
                why = _missing(fact, provided, spoiled, parts)
                if why:
                    sentence = f"{_titled([name], parts)[0]}: {kind} {fact.sentence}; {why}. Try: {fact.remedy}"
                    found.append(Finding(fact.id, level, sentence))
    return [*found, *clashing(parts)]


def clashing(parts: Mapping[str, Part]) -> Iterable[Finding]:
    """What several of these parts claim at once."""
    for claim, owners in _owners(parts, "claims").items():
        if len(owners) > 1:
            yield Finding("C8", Level.ERROR, f"{_and(owners)}: each sets {claim}. Try: keeping one of them")


def contradictions(parts: Mapping[str, Part]) -> list[str]:
    """Every reason why these parts cannot play together, a sentence each; empty when they can."""
    return [finding.sentence for finding in findings(parts) if finding.level is Level.ERROR]


def _missing(
    fact: Fact, provided: Mapping[str, list[str]], spoiled: Mapping[str, list[str]], parts: Mapping[str, Part]
) -> str:
    """Why this fact does not hold; empty when it does."""
    if fact in spoiled:
        return f"{_and(_titled(spoiled[fact], parts))} takes that away"
    if fact in provided:
        return ""
    return f"{_titled([fact.giver], parts)[0]} is not one" if fact.giver in parts else "nothing here is that"


def _titled(names: Iterable[str], parts: Mapping[str, Part]) -> list[str]:
    """Parts as a user knows them: the name in the configuration, and what was chosen there."""
    kinds = {n: type(parts[n]) for n in names}
    chosen = {n: k.__module__.rpartition(".")[2] if n.startswith("model.") else k.__name__ for n, k in kinds.items()}
    chosen |= {n: parts[n].title for n in kinds if hasattr(parts[n], "title")}  # type: ignore[attr-defined]
    return [n if n.startswith("tricks.") else f"{n} ({chosen[n]})" for n in kinds]


def _owners(parts: Mapping[str, Part], kind: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, part in parts.items():
        for fact in sorted(getattr(part.traits, kind)):
            found.setdefault(fact, []).append(name)
    return found


def _and(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
