"""Which tricks and losses can be combined, found by building every combination on tiny networks, without data.

Nothing here knows a trick or a loss by name: the choices are the files of `conf`, and a base configuration (a model, a
norm in the discriminator, the tricks that a loss requires) is found by trying.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf

from ganrun.config.build import assemble
from ganrun.config.compose import compose
from ganrun.config.groups import CONF
from ganrun.config.instantiate import Maker
from ganrun.config.overlays import chosen, names, overlay, small, with_parts
from ganrun.config.validate import resolve
from ganrun.core.context import Batch, Condition
from ganrun.core.errors import ConfigError
from ganrun.core.traits import Diagnostic, IncompatibleParts, Level

NORMS = ("batch", "layer", "none")  # of the discriminator; in this order
# Model and resolution in pixels, tried in this order until one is accepted. The later ones are for parts that need
# labels, styles, or an auto-encoder: last, as it refuses the other losses.
MODELS = (("dcgan", 16), ("dcgan", 32), ("mlp", 16), ("acgan", 16), ("stylegan2", 16), ("ebgan", 16))
TINY = ("dataset=digits", "engine.device=cpu", "engine.precision=fp32", "engine.workers=0",
        "steps=6", "batch=4", "game.grid=4", "dataset.class_count=10")  # fmt: skip
SEVERITY = {Level.NOTE: 0, Level.WARNING: 1, Level.ERROR: 3}


class BaseConfiguration(NamedTuple):
    """The configuration in which a loss and tricks are combined."""

    model: str
    resolution: int  # pixels
    norm: str
    required: tuple[str, ...]  # tricks without which the loss is refused, such as one that bounds the slope


class Verdict(NamedTuple):
    """The checker's diagnostics for one combination."""

    base: BaseConfiguration
    diagnostics: tuple[Diagnostic, ...]

    @property
    def refused(self) -> bool:
        """Whether the combination is an error."""
        return any(diagnostic.level is Level.ERROR for diagnostic in self.diagnostics)

    @property
    def weight(self) -> int:
        """How bad the diagnostics are together; 0 without any."""
        return sum(SEVERITY[diagnostic.level] for diagnostic in self.diagnostics)


class _All(list[str]):
    """A value of `force` that contains every rule, so that errors are returned as diagnostics."""

    def __contains__(self, rule: object) -> bool:
        return True


def configuration(loss: str, tricks: Sequence[str], base: BaseConfiguration) -> DictConfig:
    """What `ganrun loss=... tricks=[...]` would compose on this base, without Hydra, which takes 1000 times as long."""
    cfg = _base(base.model).copy()
    assert isinstance(cfg, DictConfig)
    cfg.dataset.resolution = base.resolution
    cfg = with_parts(small(cfg), loss, tricks, base.norm)
    if cfg.dataset.classes is not None:  # counted, as it is when data are opened
        cfg.dataset.class_count = len(cfg.dataset.classes)
    return cfg


def settings_of(loss: str, tricks: Sequence[str], base: BaseConfiguration) -> dict[str, Any]:
    """The same as plain data. Tricks of code add only themselves, so the rest is resolved once."""
    rest = _resolved(loss, tuple(filter(_touches_others, tricks)), base)
    return rest | {"tricks": {name: rest["tricks"].get(name) or _node(name) for name in tricks}}


@cache
def _resolved(loss: str, settings: tuple[str, ...], base: BaseConfiguration) -> dict[str, Any]:
    return resolve(configuration(loss, settings, base))


@cache
def _node(trick: str) -> Any:
    return OmegaConf.to_container(overlay(trick).tricks[trick], resolve=False)


@cache
def _base(model: str) -> DictConfig:
    cfg = compose([f"model={model}", "tricks=[]", *TINY])
    OmegaConf.set_struct(cfg, False)
    return cfg


@cache
def _touches_others(trick: str) -> bool:
    """Whether this trick sets, chooses or reads what belongs to other parts."""
    return bool(set(overlay(trick)) != {"tricks"} or chosen(trick) or "${" in str(_node(trick)))


def ask(loss: str, tricks: Sequence[str], base: BaseConfiguration) -> Verdict:
    """Build and bind everything but the data; returns all diagnostics, errors too. Raises what is a bug in a part."""
    try:
        settings = settings_of(loss, tricks, base) | {"force": _All()}
        parts = assemble(settings, Maker())
        found = parts.diagnostics
        if any(diagnostic.level is Level.ERROR for diagnostic in found):
            return Verdict(base, tuple(dict.fromkeys(found)))  # training would not start
        data = settings["dataset"]
        shape = settings["batch"], data["channels"], data["resolution"], data["resolution"]
        images = torch.randint(256, shape) / 127.5 - 1  # as pictures are
        batch = Batch(images, Condition(labels=torch.zeros(len(images), dtype=torch.int64)))
        parts.game.bind(dict.fromkeys(parts.game.streams(), batch))
    except IncompatibleParts as clash:
        return Verdict(base, clash.diagnostics)
    except ConfigError as refusal:  # by a part's own constructor, or while it is fitted to the networks
        return Verdict(base, tuple(Diagnostic("", Level.ERROR, line) for line in refusal.lines))
    except Exception as error:
        error.add_note(f"loss={loss} tricks={','.join(tricks)} on {base}: neither built nor refused")
        raise
    return Verdict(base, tuple(dict.fromkeys(found)))


@dataclass(eq=False)
class CompatibilityChecker:
    """Checks each trick with each loss and each pair of tricks, and keeps the verdicts."""

    tricks: list[str] = field(default_factory=lambda: names("tricks"))
    losses: list[str] = field(default_factory=lambda: names("loss"))
    _singles: dict[tuple[str, str], Verdict] = field(default_factory=dict)
    _plain: dict[tuple[str, BaseConfiguration], Verdict] = field(default_factory=dict)

    def plain(self, loss: str, base: BaseConfiguration, tricks: Sequence[str] = ()) -> Verdict:
        """The verdict on a base with a loss and these tricks alone: what others add to it is then their doing."""
        key = (",".join((loss, *tricks)), base)
        if key not in self._plain:
            self._plain[key] = ask(loss, [*base.required, *tricks], base)
        return self._plain[key]

    def required(self, loss: str) -> tuple[tuple[str, ...], ...]:
        """The tricks that this loss requires: none, or each single trick that makes the checker accept it."""
        return self._first_accepted(loss)[1]

    def models(self, loss: str) -> tuple[tuple[str, int], ...]:
        """The models from the first on with which this loss is accepted, each with its resolution."""
        return MODELS[self._first_accepted(loss)[0] :]

    @cache  # noqa: B019 - one checker lives as long as its command
    def _first_accepted(self, loss: str) -> tuple[int, tuple[tuple[str, ...], ...]]:
        """The position of the first model with which this loss is accepted, and the tricks that it then requires."""
        for i, model in enumerate(MODELS):
            if self._accepted(loss, (), model):
                return i, ((),)
            found = tuple((trick,) for trick in self.tricks if self._accepted(loss, (trick,), model))
            if found:
                return i, found
        raise AssertionError(f"loss={loss} is refused with every model and every trick")

    def _accepted(self, loss: str, tricks: tuple[str, ...], model: tuple[str, int]) -> bool:
        return any(not ask(loss, tricks, BaseConfiguration(*model, norm, ())).refused for norm in NORMS)

    def rounds(
        self, loss: str, tricks: Iterable[str], models: Iterable[tuple[str, int]]
    ) -> Iterator[list[BaseConfiguration]]:
        """Base configurations that differ in the norm alone.

        First without a required trick, where the loss requires none or one of these tricks is what it requires.
        """
        named, needed = set(tricks), self.required(loss)
        alone = needed == ((),) or any({*required} <= named for required in needed)
        for model, resolution in models:
            for required in [()] * alone + [some for some in needed if some and not {*some} & named]:
                yield [BaseConfiguration(model, resolution, norm, required) for norm in NORMS]

    def best(
        self, loss: str, tricks: Sequence[str], known: Container[str] = (), models: Iterable[tuple[str, int]] = ()
    ) -> Verdict:
        """The verdict on the base that suits these tricks best. `known` are sentences that do not count."""
        least: Verdict | None = None
        for bases in self.rounds(loss, tricks, models or self.models(loss)):
            verdicts = []
            for base in bases:
                verdicts.append(ask(loss, [*base.required, *tricks], base))
                if all(diagnostic.sentence in known for diagnostic in verdicts[-1].diagnostics):
                    return verdicts[-1]
            least = min([*([least] if least else []), *verdicts], key=lambda verdict: verdict.weight)
            if not least.refused or self._incurable(verdicts):
                return least
        assert least is not None
        return least

    @staticmethod
    def _incurable(verdicts: Sequence[Verdict]) -> bool:
        """Whether the same rule refuses with every norm, and neither a required trick nor another model cures it."""
        errors = [{f.sentence for f in v.diagnostics if f.id and f.level is Level.ERROR} for v in verdicts]
        cures = (*verdicts[0].base.required, "Try: model=")
        return any(not any(words in sentence for words in cures) for sentence in set.intersection(*errors))

    def with_loss(self, trick: str, loss: str) -> Verdict:
        """One trick with one loss."""
        if (trick, loss) not in self._singles:
            self._singles[trick, loss] = self.best(loss, [trick])
        return self._singles[trick, loss]

    def own(self, trick: str) -> set[str]:
        """The warnings and notes that this trick has with every loss: they are its own, not the loss's."""
        verdicts = [self.with_loss(trick, loss) for loss in self.losses]
        sentences = [{f.sentence for f in verdict.diagnostics if f.level is not Level.ERROR} for verdict in verdicts]
        return set.intersection(*sentences)

    def loss_cell(self, trick: str, loss: str) -> list[Diagnostic]:
        """The diagnostics that this loss adds to the trick's own."""
        verdict = self.with_loss(trick, loss)
        known = self.own(trick) | {f.sentence for f in self.plain(loss, verdict.base).diagnostics}
        return [diagnostic for diagnostic in verdict.diagnostics if diagnostic.sentence not in known]

    def pair_cell(self, one: str, other: str) -> list[Diagnostic]:
        """The diagnostics that two tricks have only together, with the first loss that accepts each of them."""
        losses = self.ordered()
        both = [loss for loss in losses if not (self.refuses(one, loss) or self.refuses(other, loss))]
        either = [loss for loss in losses if not (self.refuses(one, loss) and self.refuses(other, loss))]
        loss = (both or either or losses)[0]
        alone = self.own(one) | self.own(other)
        models = [max((self.with_loss(trick, loss).base[:2] for trick in (one, other)), key=MODELS.index)]
        verdict = self.best(loss, [one, other], alone, models)
        if all(diagnostic.sentence in alone for diagnostic in verdict.diagnostics):
            return []
        known = {f.sentence for trick in (one, other) for f in self.plain(loss, verdict.base, (trick,)).diagnostics}
        # Errors even if one of the two alone is an error on this base.
        wrong = {f.sentence for f in verdict.diagnostics if f.level is Level.ERROR}
        return [f for f in verdict.diagnostics if f.sentence in wrong or f.sentence not in known or not both]

    def refuses(self, trick: str, loss: str) -> bool:
        """Whether this trick cannot be combined with this loss."""
        return self.with_loss(trick, loss).refused

    def ordered(self) -> list[str]:
        """The losses: first those that require no trick, and among them those that provide most."""
        return sorted(self.losses, key=lambda loss: (self.required(loss) != ((),), -self._offers(loss)))

    @cache  # noqa: B019
    def _offers(self, loss: str) -> int:
        node = OmegaConf.to_container(OmegaConf.load(CONF / "loss" / f"{loss}.yaml"))
        return len(Maker()(node, "loss").traits.provides)


def mark(found: Iterable[Diagnostic]) -> str:
    """A cell of a table: the worst level and its rules, as `E C1`; empty without diagnostics."""
    if not (listed := list(found)):
        return ""
    level = max((diagnostic.level for diagnostic in listed), key=SEVERITY.__getitem__)
    rules = {diagnostic.id: None for diagnostic in listed if diagnostic.level is level and diagnostic.id}
    return " ".join([level.value, *sorted(rules, key=rule_number)])


def rule_number(rule: str) -> int:
    """12 for C12, to sort by."""
    return int(rule[1:]) if rule[1:].isdigit() else 0
