#!/usr/bin/env python3
"""Writes docs/tricks.md and docs/compatibility.md from docstrings, YAML, traits and the compatibility checker.

`scripts/docs` writes them; `scripts/docs --check` exits 1 when they are not what it would write. Adding a trick needs
no line here.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from ganrun.cli.catalog import SENTENCE, Entry, entries
from ganrun.cli.explain import HOOKS
from ganrun.config.compatibility import SEVERITY, CompatibilityChecker, mark, rule_number, settings_of
from ganrun.config.compatibility_games import USUAL, GameChecker
from ganrun.config.instantiate import Maker
from ganrun.config.overlays import names
from ganrun.config.rules import RULES
from ganrun.core.traits import Diagnostic, Level, Traits
from ganrun.core.trick import Setting, Trick

FOLDER = Path(__file__).parent.parent / "docs"
GENERATED = "<!-- Written by scripts/docs. Change the docstring, the YAML or the rule instead. -->"
LEVELS = {Level.ERROR: "Refused with", Level.WARNING: "A warning with", Level.NOTE: "A note with"}
USE = """Choose them with `ganrun 'tricks=[NAME,NAME]'`; `ganrun explain` shows what they do to a run. What may be
combined with what is in [compatibility.md](compatibility.md)."""
ABSENT = """## What is not here

`unrolled` (Metz et al. 2017). An unrolled generator step differentiates through several inner optimiser steps of D, so
a single update would need both players' gradients and optimiser state. Here an update is one optimiser step by one
player and a pure function of device state, and bending that for one trick would cost capture, exact resume and
composition for all the others."""
HEAD = """**E** is refused before any work is done, **W** trains and says so once, at the start and in the run's record,
**I** is a note. Every refusal, warning and note ends with the id of its rule.

| rule | level | | `force` |
|---|---|---|---|"""
FORCE = """
`force=[C1]` (a list of rules, on the command line) lets a combination start that these rules refuse, which an ablation
may need. Each diagnostic is then printed as a warning, and `forced` in the run's `environment.json` and `summary.json`
names the rules that were overruled. A rule without `yes` cannot be forced: there would be no run to make.

## The tables

Every combination was built on small networks, with the norm in D (batch, layer or none) that suits it best, with the
tricks that a loss requires, and every setting at its default. An empty cell means that the checker has no objection.
What a trick's diagnostics are in every combination is in [tricks.md](tricks.md), not here."""

GAMES = """\
Each game was built on small networks of the experiment beside its name, with the loss and the norm in D that suit
the trick best. An `E` without a rule: these networks do not have what the trick changes. In a pyramid every trick
that acts on images acts on all of their scales, and none on the largest alone."""


class Docs:
    """The pages, from checking every combination once."""

    def __init__(self, checker: CompatibilityChecker | None = None):
        self.checker = checker or CompatibilityChecker()
        listed = {entry.name: entry for entry in entries("tricks")}
        self.entries = [listed[name] for name in self.checker.tricks]
        self.games = [GameChecker(game, self.checker) for game in names("game") if game != USUAL]
        self.pairs: dict[tuple[str, str], list[Diagnostic]] = {}

    def ask(self) -> None:
        """Check every pair of tricks, once."""
        for one, other in combinations(self.checker.tricks, 2):
            self.pairs[one, other] = self.pairs[other, one] = self.checker.pair_cell(one, other)

    def pages(self) -> dict[str, str]:
        self.ask()
        return {"tricks.md": self.tricks(), "compatibility.md": self.compatibility()}

    # docs/tricks.md

    def tricks(self) -> str:
        lines = ["# Tricks", "", GENERATED, "", USE, ""]
        for heading, members in self._families():
            lines += [f"## {heading}", ""]
            for entry in members:
                lines += [*self.trick(entry), ""]
        return "\n".join([*lines, ABSENT]) + "\n"

    def _families(self) -> Iterator[tuple[str, list[Entry]]]:
        """The tricks by the file that their class is in, under that file's first line; settings last."""
        families: dict[str, list[Entry]] = {}
        for entry in self.entries:
            families.setdefault(_heading(self.part(entry)), []).append(entry)
        for heading in sorted(families, key=lambda heading: (heading == _heading(Setting(sets=[])), heading)):
            yield heading, families[heading]

    def part(self, entry: Entry) -> Trick:
        """The trick as its YAML sets it."""
        loss = min(self.checker.losses, key=lambda loss: self.checker.refuses(entry.name, loss))
        settings = settings_of(loss, [entry.name], self.checker.with_loss(entry.name, loss).base)
        return Maker()(settings["tricks"][entry.name], f"tricks.{entry.name}")

    def trick(self, entry: Entry) -> list[str]:
        """One trick: what, when, formula, source, defaults, hooks, traits, what it can be combined with."""
        trick = self.part(entry)
        text = inspect.getdoc(type(trick)) if not isinstance(trick, Setting) else ""
        lines = [f"### {entry.name}", "", escaped(entry.what)]
        lines += ["", *escaped(text).splitlines()] if text else []
        lines += ["", *bullets(self._facts(entry, trick))]
        return [*lines, "", "```yaml", *body(entry), "```"]

    def _facts(self, entry: Entry, trick: Trick) -> Iterator[tuple[str, str]]:
        yield "When to try it", escaped(entry.when)
        yield "Source", escaped(entry.source)
        yield from self._traits(trick)
        for name, meaning in hooks(trick):
            yield f"At the hook `{name}`", escaped(meaning)
        if isinstance(trick, Setting):
            yield "Sets", ", ".join(f"`{key}`" for key in trick.sets)
        yield "Diagnostics in every combination", escaped(" ".join(sorted(self.checker.own(entry.name))))
        yield from self._combinations(entry.name)

    @staticmethod
    def _traits(trick: Trick) -> Iterator[tuple[str, str]]:
        traits: Traits = trick.traits
        for title, kind in (("Needs", "needs"), ("Works best with", "prefers"), ("Provides", "provides"),
                            ("Takes away", "invalidates")):  # fmt: skip
            yield title, "; ".join(f"{fact.sentence} ({link(fact.id)})" for fact in sorted(getattr(traits, kind)))
        if traits.sets and not isinstance(trick, Setting):
            yield "Alone sets", ", ".join(sorted(traits.sets))
        if trick.replaces:
            yield "Replaces", "the adversarial term of the generator"
        if trick.every > 1:
            yield "Lazy", f"every {trick.every} steps, its terms times {trick.every}"

    def _combinations(self, name: str) -> Iterator[tuple[str, str]]:
        cells = {f"`loss={loss}`": self.checker.loss_cell(name, loss) for loss in self.checker.losses}
        cells |= {f"`{other}`": self.pairs[name, other] for other in self.checker.tricks if other != name}
        for level, title in LEVELS.items():
            shown = {other: rules_of(cell, level) for other, cell in cells.items() if worst(cell) is level}
            yield (
                title,
                ", ".join(f"{other} ({', '.join(map(link, rules)) or 'no rule'})" for other, rules in shown.items()),
            )

    # docs/compatibility.md

    def compatibility(self) -> str:
        tables = [
            *self._losses(),
            "",
            *self._games(),
            "",
            "## Tricks with tricks",
            "",
            *self._matrix(),
            "",
            "## Why",
            "",
            *self._sentences(),
        ]
        return (
            "\n".join(["# What may be combined with what", "", GENERATED, "", *self._rules(), "", *tables]).rstrip()
            + "\n"
        )

    @staticmethod
    def _rules() -> Iterator[str]:
        yield HEAD
        for name, rule in sorted(RULES.items(), key=lambda item: rule_number(item[0])):
            tick = "yes" if rule.forcible and "E" in rule.levels else ""
            yield f'| <a id="{name.lower()}"></a>{name} | {rule.levels} | {escaped(rule.sentence)} | {tick} |'
        yield FORCE

    def _losses(self) -> Iterator[str]:
        yield from ("", "## Tricks with losses", "")
        yield from table(["", *self.checker.losses],
                         [[name, *(mark(self.checker.loss_cell(name, loss)) for loss in self.checker.losses)]
                          for name in self.checker.tricks])  # fmt: skip

    def _games(self) -> Iterator[str]:
        """Every trick in every game but the usual one, whose diagnostics are in all other tables."""
        yield from ("## Tricks with games", "", GAMES, "")
        rows = [[trick, *(mark(one.cell(trick)) for one in self.games)] for trick in self.checker.tricks]
        yield from table(["", *(f"{one.game}, `{one.experiment}`" for one in self.games)], rows)

    def _matrix(self) -> Iterator[str]:
        names = self.checker.tricks
        yield from table(["", "", *(str(i + 1) for i in range(len(names)))],
                         [[str(i + 1), one, *("·" if one == other else mark(self.pairs[one, other]) for other in names)]
                          for i, one in enumerate(names)])  # fmt: skip

    def _sentences(self) -> Iterator[str]:
        """The diagnostics of each combination, once."""
        for name in self.checker.tricks:
            for loss in self.checker.losses:
                yield from _explained(f"`{name}`, `loss={loss}`", self.checker.loss_cell(name, loss))
            for game in self.games:
                yield from _explained(f"`{name}`, `game={game.game}`", game.cell(name))
        for one, other in combinations(self.checker.tricks, 2):
            yield from _explained(f"`{one}`, `{other}`", self.pairs[one, other])


def _explained(title: str, cell: Sequence[Diagnostic]) -> Iterator[str]:
    for diagnostic in cell:
        rule = f" ({link(diagnostic.id)})" if diagnostic.id else ""
        yield f"* {title}: **{diagnostic.level.value}** {escaped(diagnostic.sentence)}{rule}"


def body(entry: Entry) -> list[str]:
    """The file below its first comments."""
    lines = entry.path.read_text().splitlines()
    return lines[next(i for i, line in enumerate(lines) if not line.startswith("#")) :]


def hooks(trick: Trick) -> Iterator[tuple[str, str]]:
    """Name and meaning of each hook that this trick overrides, in the order in which a run passes them."""
    for listed in HOOKS.values():
        for hook, _ in listed:
            if getattr(type(trick), hook.__name__) is not hook and hook is not Trick.metrics:
                yield hook.__name__, (hook.__doc__ or "").split("\n")[0]


def bullets(facts: Iterable[tuple[str, str]]) -> list[str]:
    return [f"* {title}: {text}" for title, text in facts if text]


def worst(cell: Sequence[Diagnostic]) -> Level | None:
    return max((diagnostic.level for diagnostic in cell), key=SEVERITY.__getitem__, default=None)


def rules_of(cell: Sequence[Diagnostic], level: Level) -> list[str]:
    return sorted({f.id for f in cell if f.level is level and f.id}, key=rule_number)


def link(rule: str) -> str:
    return f"[{rule}](compatibility.md#{rule.lower()})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def escaped(text: str) -> str:
    """Plain text for Markdown: nothing outside `code` has a second meaning."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(p if i % 2 else re.sub(r"([*_|<>\\\[\]])", r"\\\1", p) for i, p in enumerate(pieces))


def _heading(trick: Any) -> str:
    if isinstance(trick, Setting):
        return "Settings: tricks that need no code, only YAML"
    text = " ".join((inspect.getdoc(sys.modules[type(trick).__module__]) or "").split())
    return SENTENCE.split(text)[0].rstrip(".")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the pages are stale")
    check = parser.parse_args(argv).check
    torch.set_num_threads(1)
    pages = Docs().pages()
    old = stale(pages, FOLDER)
    if old and not check:
        write(pages, FOLDER)
    verb = "stale, run scripts/docs:" if check else "written:"
    print(f"{verb} {', '.join(f'docs/{name}' for name in old)}" if old else "docs: nothing to change")
    return int(check and bool(old))


def stale(pages: Mapping[str, str], folder: Path) -> list[str]:
    """The pages that are missing from the folder, or differ."""
    paths = {name: folder / name for name in pages}
    return [name for name, path in paths.items() if not path.is_file() or path.read_text() != pages[name]]


def write(pages: Mapping[str, str], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in pages.items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    raise SystemExit(main())
