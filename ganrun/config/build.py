"""Configuration becomes a run, or is refused, in this one place."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import nn

from ganrun.config.instantiate import Maker
from ganrun.config.rules import between, check_force
from ganrun.config.validate import check_values, resolve
from ganrun.core.context import Stage
from ganrun.core.engine import Eager, Player
from ganrun.core.errors import Refused
from ganrun.core.facts import Fact
from ganrun.core.game import Game
from ganrun.core.loss import Loss
from ganrun.core.pair import Pair
from ganrun.core.schedule import Constant, Product, Schedule, at, moves, schedule
from ganrun.core.seeding import reseed
from ganrun.core.traits import Clash, Finding, Level, Traits, clashing, facts, findings
from ganrun.core.trick import Trick
from ganrun.core.updates import Alternate
from ganrun.data.datasets.base import Dataset
from ganrun.data.sources.source import Source, open_source
from ganrun.data.transforms.classes import check_labels
from ganrun.machine import computes_in_bf16, find_device

PLAYERS = ("discriminator", "generator")
FAR = 10**12  # a step that no run reaches, where schedules have long ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything that a run is made of, ready to play."""

    settings: Mapping[str, Any]  # the resolved configuration, plain data
    yaml: str  # the same, as text
    device: torch.device
    dataset: Dataset
    source: Source
    game: Game
    engine: Eager
    updates: Alternate
    findings: list[Finding]  # warnings and notes, and what `force` let pass


def build(cfg: DictConfig) -> Run:
    """Assemble a run. Raises Refused, with every contradiction at once, before anything is written."""
    check_values(cfg)
    load_plugins(cfg.plugins)
    make = Maker(cfg.plugins)
    device = find_device(cfg.engine.device)
    dataset = _dataset(cfg, make)
    settings = resolve(cfg)
    _unselected(settings["tricks"])
    check_force(settings["force"])
    game, found = assemble(settings, make)
    _agree(game, dataset)
    source = _source(settings, dataset, device)
    autocast = computes_in_bf16(settings["engine"]["precision"], device, dataset.resolution)
    game.to(device=device)
    for net in (net for player in PLAYERS for net in game.nets(player)):
        net.to(memory_format=torch.channels_last)
    reseed(settings["seed"], "bind")
    game.bind(source.examples(settings["batch"]))
    game.study(source)
    engine = Eager(game, _players(settings, make, game), device=device, autocast=autocast)
    return Run(
        settings=settings,
        yaml=OmegaConf.to_yaml(OmegaConf.create(settings)),
        device=device,
        dataset=dataset,
        source=source,
        game=game,
        engine=engine,
        updates=make(settings["updates"], "updates"),
        findings=found,
    )


def load_plugins(plugins: list[str]) -> None:
    """Import the modules that the user named; they may live in the current folder."""
    if plugins and "" not in sys.path:
        sys.path.insert(0, "")
    for name in plugins:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise Refused(
                "plugins", f"{name} cannot be imported ({error})", "a module", f"PYTHONPATH=folder that holds {name}"
            ) from error


def _dataset(cfg: DictConfig, make: Maker) -> Dataset:
    """Open the data, and write what was measured of them into the configuration, for the networks to read."""
    node: Any = OmegaConf.to_container(cfg.dataset, resolve=True, throw_on_missing=True)
    told = node.pop("class_count", 0)
    dataset = make.a(Dataset, node, "dataset")  # type: ignore[type-abstract]
    check_labels(dataset.labels, len(dataset), dataset.classes)
    count = 0 if dataset.labels is None else len(dataset.classes)
    if told not in (0, count):
        found = f"{told}, but the data have {count} classes"
        raise Refused("dataset.class_count", found, "nothing: it is measured", "dataset.classes, which chooses some")
    cfg.dataset.channels, cfg.dataset.resolution = dataset.channels, dataset.resolution
    with open_dict(cfg.dataset):  # a run of before this key has none
        cfg.dataset.class_count = count
    return dataset


def _unselected(tricks: Mapping[str, Any]) -> None:
    stray = [name for name, node in tricks.items() if not isinstance(node, Mapping) or "_target_" not in node]
    if stray:
        chosen = ",".join([name for name in tricks if name not in stray] + stray)
        raise Refused(
            "tricks", f"settings for tricks that are not selected: {', '.join(stray)}", "", f"'tricks=[{chosen}]'"
        )


def assemble(settings: Mapping[str, Any], make: Maker) -> tuple[Game, list[Finding]]:
    """Networks, loss, tricks and game, checked against each other; with what is to be said about them."""
    reseed(settings["seed"], "build")
    tricks = {name: make.a(Trick, node, f"tricks.{name}") for name, node in settings["tricks"].items()}
    try:
        game, pair = _make_game(settings, make, tricks)
    except Refused as refusal:
        clashes = list(clashing({f"tricks.{name}": trick for name, trick in tricks.items()}))
        if clashes:  # two tricks that set one thing: what the networks make of both is no news
            raise Clash(clashes) from refusal
        raise
    return game, _findings(game, pair, settings)


def _make_game(settings: Mapping[str, Any], make: Maker, tricks: dict[str, Trick]) -> tuple[Game, Pair]:
    _settings_exist(settings, make, tricks)
    pair = Pair(
        generator=make.a(nn.Module, settings["model"]["generator"], "model.generator"),
        discriminator=make.a(nn.Module, settings["model"]["discriminator"], "model.discriminator"),
        loss=make.a(Loss, settings["loss"], "loss"),
        tricks=tricks,
    )
    stage = Stage(settings["batch"], settings["dataset"]["resolution"])
    return make.a(Game, settings["game"], "game", pair=pair, stage=stage), pair  # type: ignore[type-abstract]


def _findings(game: Game, pair: Pair, settings: Mapping[str, Any]) -> list[Finding]:
    """What the parts say about each other and about themselves. Errors that `force` does not name are refused."""
    parts = game.parts(pair) | {"optim.discriminator": Momentum(settings["optim"]["discriminator"])}
    found = [*findings(parts), *between(pair, settings)]
    for module in pair.modules():
        found += getattr(module, "remarks", lambda stage: ())(game.stage)
    force = settings["force"]
    refused = [f for f in found if f.level is Level.ERROR and f.id not in force]
    if refused:
        raise Clash(refused)
    return found


class Momentum:
    """Whether D's optimiser carries momentum, as its settings say."""

    def __init__(self, settings: Mapping[str, Any]):
        self.title = str(settings["_target_"]).rpartition(".")[2]  # what messages call it
        beta = settings["betas"][0] if "betas" in settings else settings.get("momentum", 0)
        self.traits = Traits(provides=facts(*[Fact.NO_MOMENTUM] * (beta == 0)))


def _settings_exist(settings: Mapping[str, Any], make: Maker, tricks: Mapping[str, Trick]) -> None:
    """A setting-trick sets only what the chosen parts have: a plain network has no kernels to enlarge."""
    for name, trick in tricks.items():
        for key in getattr(trick, "sets", ()):
            place, _, last = key.rpartition(".")
            node: Any = settings
            for word in place.split("."):
                node = node[word]
            part = make.part(node["_target_"], place) if "_target_" in node else None
            if part and last not in inspect.signature(part).parameters:
                raise Refused(f"tricks.{name}", f"sets {key}, which {part.__module__.split('.')[-1]} does not have",
                              "a model that has it", "model=dcgan")  # fmt: skip


def _agree(game: Game, dataset: Dataset) -> None:
    """The generator makes what the data are: channels, resolution, range; batch norm has a batch."""
    span = dataset.span()
    for pair in game.pairs.values():
        for role in PLAYERS:
            net = getattr(pair, role)
            for key in ("channels", "resolution"):
                if getattr(net, key) != getattr(dataset, key):
                    found = f"{getattr(net, key)}, but the data have {getattr(dataset, key)}"
                    raise Refused(f"model.{role}.{key}", found, "the same", f"dataset.{key}={getattr(net, key)}")
            known = getattr(net, "classes", 0)
            if known and (dataset.labels is None or known != len(dataset.classes)):
                has = "no labels" if dataset.labels is None else f"{len(dataset.classes)} classes"
                raise Refused(f"model.{role}.classes", f"{known}, but the data have {has} (rule C24)", "the same",
                              f"model.{role}.classes=${{dataset.class_count}}")  # fmt: skip
            if game.stage.images == 1 and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in net.modules()):
                raise Refused("batch", f"1 image, and batch norm in model.{role}", "2 or more", "batch=2")
        low, high = pair.generator.range  # type: ignore[union-attr, misc]
        if span.low < low - 1e-3 or span.high > high + 1e-3:
            found = f"values from {span.low:.3g} to {span.high:.3g} (mean {span.mean:.3g})"
            expected = f"what the generator can make, {low:g} to {high:g}"
            raise Refused("dataset", found, expected, "model.generator.output=linear")


def _source(settings: Mapping[str, Any], dataset: Dataset, device: torch.device) -> Source:
    engine = settings["engine"]
    return open_source(
        dataset, seed=settings["seed"], device=device, workers=engine["workers"], memory=engine["memory"]
    )


def _players(settings: Mapping[str, Any], make: Maker, game: Game) -> dict[str, Player]:
    optim = settings["optim"]
    decay = schedule(make(optim["decay"], "optim.decay"))
    return {player: _player(optim[player], f"optim.{player}", make, game, player, decay) for player in PLAYERS}


def _plays_once(kind: Any, where: str) -> None:
    """Refuse an optimiser such as LBFGS, whose every step needs the loss many times."""
    closure = inspect.signature(kind.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        found = f"{kind.__name__}, which asks for the loss many times in a step"
        raise Refused(where, found, "an optimiser that needs its gradient once", f"{where}._target_=torch.optim.Adam")


def _player(node: Mapping[str, Any], where: str, make: Maker, game: Game, player: str, decay: Schedule) -> Player:
    """An optimiser over all that a player learns; fused where it can be. Its rate is a number times `decay`.

    Any other number of the optimiser may be a schedule too, such as one of Adam's betas.
    """
    given = make(node["lr"], f"{where}.lr")
    rate = Constant(value=given) if isinstance(given, (int, float)) else given
    if not isinstance(rate, Schedule) or rate(FAR) < 0:
        raise Refused(f"{where}.lr", str(node["lr"]), "a number from 0 up, or a schedule that stays there")
    rate = Product(rate, decay)
    parameters = [p for net in game.nets(player) for p in net.parameters()]
    extra: dict[str, Any] = {"params": parameters}
    kind = make.part(node["_target_"], where)
    if "fused" in inspect.signature(kind).parameters and "fused" not in node:
        extra["fused"] = True
    _plays_once(kind, where)
    settings = {key: make(value, f"{where}.{key}") for key, value in node.items() if key not in ("_target_", "lr")}
    numbers = {key: value for key, value in settings.items() if moves(value)}
    first = {key: at(value, 0) for key, value in numbers.items()}
    optimizer = make.a(torch.optim.Optimizer, {**node, **first, "lr": rate(0)}, where, **extra)
    return Player(game.nets(player), optimizer, rate, numbers)
