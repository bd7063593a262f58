"""Who can play with whom: the checker itself is asked, on tiny networks, without data.

Nothing here knows a trick or a loss by name: the choices are the files of `conf`, and a host (a model, a norm in the
discriminator, what a loss cannot do without) is found by trying.
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
from ganrun.config.groups import CONF, Choices
from ganrun.config.instantiate import Maker
from ganrun.config.validate import resolve
from ganrun.core.context import Batch, Condition
from ganrun.core.errors import ConfigError
from ganrun.core.traits import Diagnostic, IncompatibleParts, Level

NORMS = ("batch", "layer", "none")  # of the discriminator; in this order
# Model and pixels; the next where all before refuse. The later ones are for parts that want labels, styles, or an
# auto-encoder: last, as it refuses the other losses.
STANDS = (("dcgan", 16), ("dcgan", 32), ("mlp", 16), ("acgan", 16), ("stylegan2", 16), ("ebgan", 16))
TINY = ("dataset=digits", "engine.device=cpu", "engine.precision=fp32", "engine.workers=0",
        "steps=6", "batch=4", "game.grid=4", "dataset.class_count=10")  # fmt: skip
SMALL = {"width": 4, "hidden": [8], "latent": 16}
SEVERITY = {Level.NOTE: 0, Level.WARNING: 1, Level.ERROR: 3}


class BaseConfiguration(NamedTuple):
    """What surrounds the parts in question."""

    model: str
    resolution: int  # pixels
    norm: str
    companions: tuple[str, ...]  # tricks without which the loss is refused, such as one that bounds the slope


class Verdict(NamedTuple):
    """What the checker says."""

    host: BaseConfiguration
    diagnostics: tuple[Diagnostic, ...]

    @property
    def refused(self) -> bool:
        return any(diagnostic.level is Level.ERROR for diagnostic in self.diagnostics)

    @property
    def weight(self) -> int:
        return sum(SEVERITY[diagnostic.level] for diagnostic in self.diagnostics)


class _All(Container[str]):
    """Every rule, forced: the checker then tells errors as findings."""

    def __contains__(self, rule: object) -> bool:
        return True


def names(group: str) -> list[str]:
    """The choices of a group, by name."""
    return Choices().options(group)


def configuration(loss: str, tricks: Sequence[str], host: BaseConfiguration) -> DictConfig:
    """What `ganrun loss=... tricks=[...]` would compose on this host, without Hydra: a thousand times as often."""
    cfg = _base(host.model).copy()
    assert isinstance(cfg, DictConfig)
    cfg.dataset.resolution = host.resolution
    for role in ("generator", "discriminator"):
        node = cfg.model[role]
        for key, value in SMALL.items():
            if key in node:
                node[key] = value
    if "norm" in cfg.model.discriminator:
        cfg.model.discriminator.norm = host.norm
    cfg.loss = OmegaConf.load(CONF / "loss" / f"{loss}.yaml")
    for group, choice in (pair for trick in tricks for pair in chosen(trick)):
        cfg[group] = OmegaConf.load(CONF / group / f"{choice}.yaml")
    for trick in tricks:
        cfg = OmegaConf.merge(cfg, overlay(trick))  # type: ignore[assignment]
    if cfg.dataset.classes is not None:  # counted, as it is when data are opened
        cfg.dataset.class_count = len(cfg.dataset.classes)
    return cfg


def settings_of(loss: str, tricks: Sequence[str], host: BaseConfiguration) -> dict[str, Any]:
    """The same as plain data. Tricks of code add nothing but themselves, so the rest is resolved once."""
    rest = _resolved(loss, tuple(filter(_touches_others, tricks)), host)
    return rest | {"tricks": {name: rest["tricks"].get(name) or _node(name) for name in tricks}}


@cache
def _resolved(loss: str, settings: tuple[str, ...], host: BaseConfiguration) -> dict[str, Any]:
    return resolve(configuration(loss, settings, host))


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


@cache
def overlay(trick: str) -> DictConfig:
    """What choosing a trick adds to a configuration."""
    path = CONF / "tricks" / f"{trick}.yaml"
    node = OmegaConf.load(path)
    assert isinstance(node, DictConfig)
    node.pop("defaults", None)
    return node if "@package _global_" in path.read_text() else OmegaConf.create({"tricks": node})


@cache
def chosen(trick: str) -> list[tuple[str, str]]:
    """The choices of other groups that a trick makes: `override /optim: sgd` in its defaults."""
    node = OmegaConf.to_container(OmegaConf.load(CONF / "tricks" / f"{trick}.yaml"))
    assert isinstance(node, dict)
    return [(key.split("/")[-1], str(choice)) for one in node.get("defaults", ()) for key, choice in one.items()]


def ask(loss: str, tricks: Sequence[str], host: BaseConfiguration) -> Verdict:
    """Build and bind everything but the data, and collect what the checker says; what it refuses too."""
    try:
        settings = settings_of(loss, tricks, host) | {"force": _All()}
        parts = assemble(settings, Maker())
        found = parts.diagnostics
        if any(diagnostic.level is Level.ERROR for diagnostic in found):
            return Verdict(host, tuple(dict.fromkeys(found)))  # training would go no further
        data = settings["dataset"]
        shape = settings["batch"], data["channels"], data["resolution"], data["resolution"]
        images = torch.randint(256, shape) / 127.5 - 1  # as pictures are
        labels = torch.zeros(len(images), dtype=torch.int64)
        parts.game.bind({name: Batch(images, Condition(labels=labels)) for name in parts.game.streams()})
    except IncompatibleParts as clash:
        return Verdict(host, clash.diagnostics)
    except ConfigError as refusal:  # by a part's own constructor, or while it is fitted to the networks
        return Verdict(host, tuple(Diagnostic("", Level.ERROR, line) for line in refusal.lines))
    except Exception as error:
        error.add_note(f"loss={loss} tricks={','.join(tricks)} on {host}: neither played nor refused")
        raise
    return Verdict(host, tuple(dict.fromkeys(found)))


@dataclass(eq=False)
class CompatibilityChecker:
    """Asks about singles and pairs, and remembers."""

    tricks: list[str] = field(default_factory=lambda: names("tricks"))
    losses: list[str] = field(default_factory=lambda: names("loss"))
    _singles: dict[tuple[str, str], Verdict] = field(default_factory=dict)
    _plain: dict[tuple[str, BaseConfiguration], Verdict] = field(default_factory=dict)

    def plain(self, loss: str, host: BaseConfiguration, tricks: Sequence[str] = ()) -> Verdict:
        """What is said on this host anyway, so that it is not blamed on those who join."""
        key = (",".join((loss, *tricks)), host)
        if key not in self._plain:
            self._plain[key] = ask(loss, [*host.companions, *tricks], host)
        return self._plain[key]

    def companions(self, loss: str) -> tuple[tuple[str, ...], ...]:
        """What this loss needs beside it: nothing, or each single trick that makes the checker accept it."""
        return self._at_home(loss)[1]

    def stands(self, loss: str) -> tuple[tuple[str, int], ...]:
        """Where this loss can be played, and what comes after."""
        return STANDS[self._at_home(loss)[0] :]

    @cache  # noqa: B019 - one Company lives as long as its command
    def _at_home(self, loss: str) -> tuple[int, tuple[tuple[str, ...], ...]]:
        """The first stand on which this loss is accepted, alone or with one trick; and with what."""
        for i, stand in enumerate(STANDS):
            if self._accepted(loss, (), stand):
                return i, ((),)
            found = tuple((trick,) for trick in self.tricks if self._accepted(loss, (trick,), stand))
            if found:
                return i, found
        raise AssertionError(f"no model and no trick makes loss={loss} playable")

    def _accepted(self, loss: str, tricks: tuple[str, ...], stand: tuple[str, int]) -> bool:
        return any(not ask(loss, tricks, BaseConfiguration(*stand, norm, ())).refused for norm in NORMS)

    def rounds(
        self, loss: str, tricks: Iterable[str], stands: Iterable[tuple[str, int]]
    ) -> Iterator[list[BaseConfiguration]]:
        """Hosts that differ in the norm alone; first without company, if one of these tricks is what the loss needs."""
        named, needed = set(tricks), self.companions(loss)
        alone = needed == ((),) or any({*companions} <= named for companions in needed)
        for model, resolution in stands:
            for companions in [()] * alone + [c for c in needed if c and not {*c} & named]:
                yield [BaseConfiguration(model, resolution, norm, companions) for norm in NORMS]

    def best(
        self,
        loss: str,
        tricks: Sequence[str],
        known: Container[str] = (),
        stands: Iterable[tuple[str, int]] | None = None,
    ) -> Verdict:
        """The verdict on the host that suits these tricks best. `known` are sentences that count for nothing."""
        least: Verdict | None = None
        for hosts in self.rounds(loss, tricks, stands or self.stands(loss)):
            verdicts = []
            for host in hosts:
                verdicts.append(ask(loss, [*host.companions, *tricks], host))
                if all(diagnostic.sentence in known for diagnostic in verdicts[-1].diagnostics):
                    return verdicts[-1]
            least = min([*([least] if least else []), *verdicts], key=lambda verdict: verdict.weight)
            if not least.refused or self._incurable(verdicts):
                return least
        assert least is not None
        return least

    @staticmethod
    def _incurable(verdicts: Sequence[Verdict]) -> bool:
        """Whether the same rule refuses with every norm, and neither the company nor another model cures it."""
        errors = [{f.sentence for f in v.diagnostics if f.id and f.level is Level.ERROR} for v in verdicts]
        companions = verdicts[0].host.companions
        cures = (*companions, "Try: model=")
        return any(not any(words in sentence for words in cures) for sentence in set.intersection(*errors))

    def with_loss(self, trick: str, loss: str) -> Verdict:
        """One trick with one loss."""
        if (trick, loss) not in self._singles:
            self._singles[trick, loss] = self.best(loss, [trick])
        return self._singles[trick, loss]

    def own(self, trick: str) -> set[str]:
        """What is said of this trick whatever the loss: that is no matter of company."""
        verdicts = [self.with_loss(trick, loss) for loss in self.losses]
        said = [{f.sentence for f in verdict.diagnostics if f.level is not Level.ERROR} for verdict in verdicts]
        return set.intersection(*said)

    def loss_cell(self, trick: str, loss: str) -> list[Diagnostic]:
        """What this loss adds to what is said of this trick."""
        verdict = self.with_loss(trick, loss)
        known = self.own(trick) | {f.sentence for f in self.plain(loss, verdict.host).diagnostics}
        return [diagnostic for diagnostic in verdict.diagnostics if diagnostic.sentence not in known]

    def pair_cell(self, one: str, other: str) -> list[Diagnostic]:
        """What these two tricks add to what is said of each, with the first loss that takes each of them."""
        both = [loss for loss in self._ordered() if not self.refuses(one, loss) and not self.refuses(other, loss)]
        either = [loss for loss in self._ordered() if not (self.refuses(one, loss) and self.refuses(other, loss))]
        loss = next(iter(both or either), self._ordered()[0])
        alone = self.own(one) | self.own(other)
        stands = [max((self.with_loss(trick, loss).host[:2] for trick in (one, other)), key=STANDS.index)]
        verdict = self.best(loss, [one, other], alone, stands)
        if all(diagnostic.sentence in alone for diagnostic in verdict.diagnostics):
            return []
        known = {f.sentence for trick in (one, other) for f in self.plain(loss, verdict.host, (trick,)).diagnostics}
        wrong = {
            f.sentence for f in verdict.diagnostics if f.level is Level.ERROR
        }  # even if one alone errs on this host
        return [f for f in verdict.diagnostics if f.sentence in wrong or f.sentence not in known or not both]

    def refuses(self, trick: str, loss: str) -> bool:
        return self.with_loss(trick, loss).refused

    def _ordered(self) -> list[str]:
        """The losses, those first that offer tricks most."""
        return sorted(self.losses, key=lambda loss: (self.companions(loss) != ((),), -self._offers(loss)))

    @cache  # noqa: B019
    def _offers(self, loss: str) -> int:
        return len(
            Maker()(OmegaConf.to_container(OmegaConf.load(CONF / "loss" / f"{loss}.yaml")), "loss").traits.provides
        )


def mark(found: Iterable[Diagnostic]) -> str:
    """A cell: the worst level and its rules, as `E C1`; empty when there is nothing to say."""
    listed = list(found)
    if not listed:
        return ""
    level = max((diagnostic.level for diagnostic in listed), key=SEVERITY.__getitem__)
    rules = {diagnostic.id: None for diagnostic in listed if diagnostic.level is level and diagnostic.id}
    return " ".join([level.value, *sorted(rules, key=rule_number)])


def rule_number(rule: str) -> int:
    return int(rule[1:]) if rule[1:].isdigit() else 0
