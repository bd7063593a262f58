"""Refusal by two rules: every need is provided and not spoiled; a claim has one owner."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ganrun.core.facts import Fact


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a part states about itself. Parts may build it from how they were constructed."""

    provides: frozenset[Fact] = frozenset()  # facts this part makes true
    needs: frozenset[Fact] = frozenset()  # facts that must hold for this part to mean anything
    spoils: frozenset[Fact] = frozenset()  # facts this part makes false
    claims: frozenset[str] = frozenset()  # things only one part may set, e.g. "targets.real"


class Part(Protocol):
    @property
    def traits(self) -> Traits: ...


def facts(*names: Fact) -> frozenset[Fact]:
    return frozenset(names)


def claims(*names: str) -> frozenset[str]:
    return frozenset(names)


def contradictions(parts: Mapping[str, Part]) -> list[str]:
    """Every reason why these parts cannot play together, a sentence each; empty when they can."""
    provided = _owners(parts, "provides")
    spoiled = _owners(parts, "spoils")
    reasons = []
    for name, part in parts.items():
        for fact in sorted(part.traits.needs):
            if fact in provided and fact not in spoiled:
                continue
            if fact in provided:
                why = f"{_and(_titled(spoiled[fact], parts))} takes that away"
            else:
                why = f"{_titled([fact.giver], parts)[0]} is not one" if fact.giver in parts else "nothing here is that"
            reasons.append(f"{_titled([name], parts)[0]}: needs {fact.sentence}; {why}. Try: {fact.remedy}")
    for claim, owners in _owners(parts, "claims").items():
        if len(owners) > 1:
            reasons.append(f"{_and(owners)}: each of them sets {claim}. Try: keeping one of them")
    return reasons


def _titled(names: Iterable[str], parts: Mapping[str, Part]) -> list[str]:
    """Parts as a user knows them: the name in the configuration, and what was chosen there."""
    kinds = {n: type(parts[n]) for n in names}
    chosen = {n: k.__module__.rpartition(".")[2] if n.startswith("model.") else k.__name__ for n, k in kinds.items()}
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
