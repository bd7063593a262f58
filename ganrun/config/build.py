"""Plain settings become a run: `assemble` makes its parts without data, `open_data` the data, `build` both."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from ganrun.config.agreement import check_agreement, check_memory, check_sizes, check_streams
from ganrun.config.combination import between, diagnostics, set_twice
from ganrun.config.engines import check_engine, engine_of
from ganrun.config.framing import framed, opened, take_framing
from ganrun.config.held_out import without_held_out
from ganrun.config.instantiate import Maker
from ganrun.config.nested import share_shape
from ganrun.config.players import Momentum, make_players
from ganrun.config.processes import check_processes, local_statistics
from ganrun.config.rules import check_force
from ganrun.config.setting_tricks import check_sets, naming_tricks
from ganrun.config.stages import add_first_stage
from ganrun.config.text import measure_text, take_text
from ganrun.config.validate import check_settings, resolve, unresolved, value_of
from ganrun.core.context import BatchShape, Role
from ganrun.core.engine import Eager
from ganrun.core.errors import ConfigError, beyond_memory
from ganrun.core.game import Game, PairPlan
from ganrun.core.loss import Loss
from ganrun.core.pair import Pair
from ganrun.core.ranks import ALONE, Rank
from ganrun.core.seeding import reseed
from ganrun.core.traits import Diagnostic, IncompatibleParts, Level
from ganrun.core.trick import Trick
from ganrun.core.updates import Alternate
from ganrun.data.datasets.base import DataSets
from ganrun.data.sources.open import open_streams
from ganrun.data.sources.source import Source
from ganrun.data.sources.streams import Streams
from ganrun.data.transforms.classes import check_labels
from ganrun.machine import computes_in_bf16, find_device

ROLES: tuple[Role, Role] = ("generator", "discriminator")  # in the order in which networks are made


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a run is made of, without data: networks, losses and tricks in their game, and diagnostics of them."""

    game: Game
    updates: Alternate
    diagnostics: list[Diagnostic]  # warnings and notes, and errors that `force` overruled


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything that a run is made of, ready to train."""

    settings: Mapping[str, Any]  # the resolved configuration, plain data
    yaml: str  # the same, as text
    device: torch.device
    dataset: DataSets
    data: Streams
    game: Game
    engine: Eager
    updates: Alternate
    diagnostics: list[Diagnostic]
    rank: Rank = ALONE

    @property
    def source(self) -> Source:
        """The first stream's source of batches; most games have only one."""
        return next(iter(self.data.sources.values()))


def build(cfg: DictConfig, rank: Rank = ALONE) -> Run:
    """Build a run. Raises ConfigError, with every contradiction at once, before anything is written.

    What is measured of the data is written into the configuration before it is resolved, once, for the networks to
    read.
    """
    try:
        return _build(cfg, rank)
    except OmegaConfBaseException as error:
        raise unresolved(error) from error
    except (MemoryError, RuntimeError, OverflowError) as error:
        if (refusal := beyond_memory(error)) is None:
            raise
        raise refusal from error


def _build(cfg: DictConfig, rank: Rank) -> Run:
    plugins = value_of(cfg, "plugins")
    load_plugins(plugins)
    make = Maker(plugins)
    device = find_device(value_of(cfg, "engine.device"))
    dataset = open_data(cfg, make)
    settings = resolve(cfg)
    check_settings(settings)
    add_first_stage(settings)
    check_force(settings["force"])
    check_sizes(settings["model"], dataset)
    parts = assemble(settings, make)
    check_processes(parts, settings, rank)
    check_engine(parts, settings, rank, device)
    check_streams(parts.game, dataset)
    check_agreement(parts.game, dataset)
    check_memory(max(parts.game.shapes), dataset)
    data = _streams(settings, dataset, device, rank)
    game = placed_on(parts.game, device)
    reseed(settings["seed"], "bind")
    game.bind(data.examples(game.shape.images))
    game.on_data(data.sources)
    autocast = computes_in_bf16(settings["engine"]["precision"], device, dataset.resolution)
    return Run(
        settings=settings,
        yaml=OmegaConf.to_yaml(OmegaConf.create(settings)),
        device=device,
        dataset=dataset,
        data=data,
        game=game,
        engine=engine_of(settings, rank, device)(
            game,
            make_players(settings, make, game),
            device=device,
            autocast=autocast,
            rank=rank,
            norms=settings["engine"]["sync_batch_norm"],
        ),
        updates=parts.updates,
        diagnostics=[*parts.diagnostics, *local_statistics(game, settings, rank)],
        rank=rank,
    )


def load_plugins(plugins: list[str]) -> None:
    """Import the modules that the user named; they may live in the current folder. Raises ConfigError."""
    if plugins and "" not in sys.path:
        sys.path.append("")  # last: a file that lies there takes the place of no other module
    for name in plugins:
        if not all(word.isidentifier() for word in name.split(".")):
            raise ConfigError("plugins", repr(name), "the dotted name of a module", "'plugins=[my_module]'")
        try:
            importlib.import_module(name)
        except (ImportError, SyntaxError) as error:
            found = f"{name} cannot be imported ({error})"
            raise ConfigError("plugins", found, "a module", f"PYTHONPATH=folder that holds {name}") from error


def open_data(cfg: DictConfig, make: Maker) -> DataSets:
    """Open the data, and write what was measured of them into the configuration. Raises ConfigError.

    Channels, resolution, the number of classes and what captions hold are measured; the networks read them there.
    """
    share_shape(cfg.dataset, channels=cfg.dataset.channels, resolution=cfg.dataset.resolution)
    node: Any = OmegaConf.to_container(cfg.dataset, resolve=True, throw_on_missing=True)
    stated, share = node.pop("class_count", 0), node.pop("held_out", 0)  # a run of before these keys has none
    text, measured = take_text(node)
    framing = take_framing(node)
    whole = opened(lambda: make.a(DataSets, node, "dataset"), framing)  # type: ignore[type-abstract]
    for one in whole.streams.values():
        check_labels(one.labels, len(one), one.classes)
    measured = measure_text(whole, text, measured)
    dataset = framed(without_held_out(whole, share), framing)
    count = 0 if dataset.labels is None else len(dataset.classes)
    if stated not in (0, count):
        found = f"{stated}, but the data have {count} classes"
        raise ConfigError(
            "dataset.class_count", found, "nothing: it is measured", "dataset.classes, which selects some"
        )
    cfg.dataset.channels, cfg.dataset.resolution = dataset.channels, dataset.resolution
    with open_dict(cfg.dataset):  # a run of before this key has none
        cfg.dataset.update({"class_count": count} | measured)
    return dataset


def assemble(settings: Mapping[str, Any], make: Maker) -> Parts:
    """Networks, losses, tricks and game, checked against each other, from recorded shapes: needs no data.

    Raises ConfigError for a part that refuses its settings and IncompatibleParts for parts that do not go together.
    """
    _check_selected(settings["tricks"])
    updates = make.a(Alternate, settings["updates"], "updates")
    reseed(settings["seed"], "build")
    plans = make.kind(Game, settings["game"], "game").plans  # type: ignore[type-abstract]
    tricks = {pair: _tricks(settings, make) for pair in plans}
    try:
        game = _make_game(settings, make, tricks)
    except ConfigError as error:
        clashes = list(set_twice({f"tricks.{name}": trick for name, trick in next(iter(tricks.values())).items()}))
        if clashes:  # the conflict itself, not what the networks make of two tricks that set one thing
            raise IncompatibleParts(clashes) from error
        raise
    return Parts(game=game, updates=updates, diagnostics=_diagnostics(game, settings))


def placed_on(game: Game, device: torch.device) -> Game:
    """The game on this device, its networks in the memory format that convolutions are quickest in."""
    game.to(device=device)
    for net in (net for player in game.players for net in game.networks(player).values()):
        net.to(memory_format=torch.channels_last)
    return game


def _tricks(settings: Mapping[str, Any], make: Maker) -> dict[str, Trick]:
    return {name: make.a(Trick, node, f"tricks.{name}") for name, node in settings["tricks"].items()}


def _check_selected(tricks: Mapping[str, Any]) -> None:
    stray = [name for name, node in tricks.items() if not isinstance(node, Mapping) or "_target_" not in node]
    if stray:
        chosen = ",".join([name for name in tricks if name not in stray] + stray)
        found = f"settings for tricks that are not selected: {', '.join(stray)}"
        raise ConfigError("tricks", found, "tricks of the list", f"'tricks=[{chosen}]'")


def _make_game(settings: Mapping[str, Any], make: Maker, tricks: Mapping[str, dict[str, Trick]]) -> Game:
    check_sets(settings, make, next(iter(tricks.values())))
    plans = make.kind(Game, settings["game"], "game").plans  # type: ignore[type-abstract]
    networks: dict[str, nn.Module] = {}
    pairs = {name: _pair(settings, make, plan, tricks[name], networks) for name, plan in plans.items()}
    shape = BatchShape(settings["batch"], settings["dataset"]["resolution"])
    return make.a(Game, settings["game"], "game", pairs=pairs, shape=shape)  # type: ignore[type-abstract]


def _pair(
    settings: Mapping[str, Any],
    make: Maker,
    plan: PairPlan,
    tricks: dict[str, Trick],
    networks: dict[str, nn.Module],
) -> Pair:
    """One pair as its game plans it. A network that an earlier pair has is shared; the others are added."""
    names: dict[Role, str] = {"generator": plan.generator, "discriminator": plan.discriminator}
    shared = frozenset(role for role in ROLES if names[role] in networks)
    for role, name in names.items():
        if name not in networks:
            place = name if name in settings["model"] else role
            with naming_tricks(tricks):
                networks[name] = make.a(nn.Module, settings["model"][place], f"model.{place}")
    loss = make.a(Loss, settings["loss"], "loss")  # type: ignore[type-abstract]
    pair = Pair(
        generator=networks[plan.generator],
        discriminator=networks[plan.discriminator],
        loss=loss,
        tricks=tricks,
        shared=shared,
    )
    networks.update({name: getattr(pair, role) for role, name in names.items()})  # as tricks have modified them
    return pair


def _diagnostics(game: Game, settings: Mapping[str, Any]) -> list[Diagnostic]:
    """What the parts say about each other and about themselves. Errors that `force` does not name are refused."""
    found: list[Diagnostic] = []
    for pair in game.named_pairs().values():
        parts = game.parts(pair) | {"optim.discriminator": Momentum(settings["optim"]["discriminator"])}
        found += [*diagnostics(parts), *between(pair, settings), *_own(pair, game.shapes)]
    found = list(dict.fromkeys(found))  # pairs with the same tricks say the same
    refused = [f for f in found if f.level is Level.ERROR and f.id not in settings["force"]]
    if refused:
        raise IncompatibleParts(refused)
    return found


def _own(pair: Pair, shapes: Sequence[BatchShape]) -> Iterator[Diagnostic]:
    """What networks, their layers and tricks say about themselves, with their places in the configuration."""
    for shape, (name, module) in product(shapes, pair.named_modules()):
        for diagnostic in getattr(module, "diagnostics", lambda shape: ())(shape):
            yield diagnostic.at(_place(name))


def _place(module: str) -> str:
    """Where a module of a pair is configured: discriminator.head.epilogue -> model.discriminator.epilogue."""
    first, *rest = module.split(".")
    if first in ROLES:
        return ".".join(["model", first, *rest[-1:]])
    return ".".join([first, *rest[:1]])


def _streams(settings: Mapping[str, Any], dataset: DataSets, device: torch.device, rank: Rank) -> Streams:
    engine, seed = settings["engine"], settings["seed"]
    options = {"workers": engine["workers"], "memory": engine["memory"], "timeout": engine["data_timeout"]}
    return open_streams(dataset, seed=seed, device=device, rank=rank, **options)
