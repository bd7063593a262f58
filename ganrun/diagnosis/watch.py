"""The watch over a run: rules are asked at each log, and a failure that lasts is found, until it is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ganrun.diagnosis.history import History
from ganrun.diagnosis.rule import EARLY, About, Evidence, Rule


class Change(NamedTuple):
    """A finding that appears, or is over."""

    step: int
    rule: Rule
    pair: str  # of a game with several; else ""
    found: bool  # or over
    evidence: Evidence


@dataclass
class State:
    """How long a rule has held, or not held."""

    since: int | None = None  # the step at which what it says now began
    rows: int = 0  # logs since then
    holds: bool = False  # what it said last
    found: bool = False
    evidence: Evidence = field(default_factory=dict)


class Watch:
    """Feeds logs to rules. Equal logs give equal findings: a resumed run reads its own again."""

    def __init__(self, rules: Sequence[Rule], abouts: Sequence[About]):
        """One `About` for each pair."""
        self.history = History()
        self._states = {(rule, about): State() for about in abouts for rule in rules}

    def feed(self, step: int, means: Mapping[str, float | None]) -> list[Change]:
        """Add the row of a log; returns what was found now, and what is over."""
        self.history.add(step, means)
        changes = []
        for (rule, about), state in self._states.items():
            if step <= max(EARLY, about.ready) and not rule.early:
                continue
            ask = rule.remains if state.found else rule.evidence
            excluded = rule.alone and self._fails(about)
            evidence = None if excluded else ask(self.history, about)
            at_once = excluded or (rule.measured and (evidence is None or step >= about.steps))
            if self._turned(rule, state, step, evidence, at_once):
                changes.append(Change(step, rule, about.pair, state.found, state.evidence))
        return changes

    @property
    def found(self) -> list[Change]:
        """What is found now and not over, with its latest figures, at the step of the last log."""
        step = self.history.steps[-1] if self.history.steps else 0
        return [
            Change(step, rule, about.pair, True, state.evidence)
            for (rule, about), state in self._states.items()
            if state.found
        ]

    def _fails(self, about: About) -> bool:
        """Whether a failure of this pair is found now."""
        return any(rule.failure and state.found for (rule, one), state in self._states.items() if one is about)

    @staticmethod
    def _turned(rule: Rule, state: State, step: int, evidence: Evidence | None, at_once: bool) -> bool:
        """Whether the rule has lasted long enough for its finding to appear, or to be over; `at_once`: any time is."""
        holds = evidence is not None
        if evidence is not None:
            state.evidence = evidence
        if holds != state.holds or state.since is None:
            state.holds, state.since, state.rows = holds, step, 0
        state.rows += 1
        lasts = step - state.since >= rule.lasting and state.rows >= rule.rows
        if (lasts or at_once) and state.found != holds:
            state.found = holds
            return True
        return False
