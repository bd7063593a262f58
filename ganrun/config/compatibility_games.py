"""Which tricks can be combined with which games, found by building each trick in each game's own experiment.

Nothing here knows a game by name: a game is tried in the first experiment that chooses it and needs no other run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ganrun.config.build import assemble, build
from ganrun.config.compatibility import NORMS, SEVERITY, TINY, CompatibilityChecker
from ganrun.config.compose import compose
from ganrun.config.instantiate import Maker
from ganrun.config.overlays import chosen, names, small, with_parts
from ganrun.config.validate import resolve
from ganrun.core.context import Batch
from ganrun.core.errors import ConfigError
from ganrun.core.traits import Diagnostic, IncompatibleParts, Level

USUAL = "latent"  # the game of every other table: noise to an image of one size


def experiments_of(game: str) -> list[str]:
    """The experiments that choose this game, by name."""
    return [name for name in names("experiment") if ("game", game) in chosen(name, "experiment")]


@dataclass(eq=False)
class GameChecker:
    """Checks each trick in one game: on small networks of its experiment, with images of that experiment's data."""

    game: str
    checker: CompatibilityChecker
    _cells: dict[str, list[Diagnostic]] = field(default_factory=dict)
    _asked: dict[tuple[str, ...], tuple[Diagnostic, ...]] = field(default_factory=dict)

    @cached_property
    def experiment(self) -> str:
        """The first experiment of this game that can start without a run that came before."""
        alone = [name for name in experiments_of(self.game) if not OmegaConf.is_missing(_tiny(name).game, "stage1")]
        return alone[0]

    @cached_property
    def _started(self) -> tuple[DictConfig, Mapping[str, Batch]]:
        """The experiment without its tricks, with what is measured of its data, and a batch of each of its streams."""
        whole, cfg = _tiny(self.experiment), _tiny(self.experiment, "tricks=[]")
        run = build(whole)
        examples = run.data.examples(run.game.shape.images)
        run.data.close()
        cfg.dataset = whole.dataset
        return cfg, examples

    @cached_property
    def losses(self) -> list[str]:
        """The losses that the experiment's networks accept, those that require no trick first."""
        pairs = self._pairs(self.checker.ordered())
        asked = [(loss, self._ask(loss, required, norm)) for loss, required in pairs for norm in NORMS]
        return list(dict.fromkeys(loss for loss, found in asked if not _errors(found)))

    def cell(self, trick: str) -> list[Diagnostic]:
        """The diagnostics that this game adds to the trick's own, with the loss and the norm that suit it best."""
        if trick not in self._cells:
            self._cells[trick] = self._cell(trick)
        return self._cells[trick]

    def _cell(self, trick: str) -> list[Diagnostic]:
        """The fewest and mildest that any loss leaves."""
        losses = [loss for loss in self.losses if not self.checker.refuses(trick, loss)]
        tried: list[list[Diagnostic]] = []
        for loss, required in self._pairs(losses or self.losses[:1]):
            tried.append(self._added(loss, required, trick))
            if not tried[-1] or (len(tried) > 1 and _errors(tried[-1]) & _errors(tried[-2])):
                break  # nothing to add, or what no other loss would mend
        return min(tried, key=_weight)

    def _pairs(self, losses: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Each loss with each of the tricks that it requires."""
        yield from ((loss, required) for loss in losses for required in self.checker.required(loss))

    def _added(self, loss: str, required: tuple[str, ...], trick: str) -> list[Diagnostic]:
        """What the trick adds to the game with this loss, with the norm in D that makes it least."""
        found, others = [], tuple(name for name in required if name != trick)
        for norm in NORMS:
            known = self.checker.own(trick) | {one.sentence for one in self._ask(loss, others, norm)}
            found.append([one for one in self._ask(loss, (*others, trick), norm)
                          if one.level is Level.ERROR or one.sentence not in known])  # fmt: skip
            if not found[-1]:
                break
        return min(found, key=_weight)

    def _ask(self, loss: str, tricks: tuple[str, ...], norm: str) -> tuple[Diagnostic, ...]:
        key = (loss, norm, *tricks)
        if key not in self._asked:
            self._asked[key] = self._built(self._settings(loss, tricks, norm))
        return self._asked[key]

    def _built(self, settings: dict[str, Any]) -> tuple[Diagnostic, ...]:
        """Build and bind; returns all diagnostics, errors too."""
        try:
            parts = assemble(settings, Maker())
            parts.game.bind(self._started[1])
        except IncompatibleParts as clash:
            return clash.diagnostics
        except ConfigError as refusal:  # by a part's own constructor, or while it is fitted to the networks
            return tuple(Diagnostic("", Level.ERROR, line) for line in refusal.lines)
        return tuple(dict.fromkeys(parts.diagnostics))

    def _settings(self, loss: str, tricks: Sequence[str], norm: str) -> dict[str, Any]:
        cfg = self._started[0].copy()
        assert isinstance(cfg, DictConfig)
        return resolve(with_parts(cfg, loss, tricks, norm))


def _tiny(experiment: str, *overrides: str) -> DictConfig:
    """The experiment with the smallest networks."""
    kept = [override for override in TINY if not override.startswith("dataset")]
    cfg = compose([f"experiment={experiment}", *overrides, *kept])
    OmegaConf.set_struct(cfg, False)
    return small(cfg)


def _weight(found: Sequence[Diagnostic]) -> tuple[int, int]:
    """How bad diagnostics are together, and how many."""
    return sum(SEVERITY[one.level] for one in found), len(found)


def _errors(found: Sequence[Diagnostic]) -> set[str]:
    return {one.sentence for one in found if one.level is Level.ERROR}
