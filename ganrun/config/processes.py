"""What several processes ask of a configuration: a batch that they can share, a device for each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import nn

from ganrun.core.errors import ConfigError
from ganrun.core.game import Game
from ganrun.core.ranks import Rank
from ganrun.core.traits import Diagnostic, Level
from ganrun.core.trick import Trick
from ganrun.core.updates import Alternate


class Training(Protocol):
    """A game and whose turn it is."""

    @property
    def game(self) -> Game:
        """The game."""

    @property
    def updates(self) -> Alternate:
        """Whose turn it is in each step."""


def world_of(settings: Mapping[str, Any], rank: Rank) -> int:
    """How many processes train this run. Raises ConfigError where the launcher started another number."""
    wanted: int = settings["engine"]["ranks"]
    if rank.world > 1 and wanted not in (1, rank.world):
        found = f"{wanted}, but {rank.world} processes were started"
        raise ConfigError("engine.ranks", found, "the same number, or 1", f"engine.ranks={rank.world}")
    return max(wanted, rank.world)


def check_processes(parts: Training, settings: Mapping[str, Any], rank: Rank) -> None:
    """Raises ConfigError unless every batch of the run can be shared out among its processes."""
    world = world_of(settings, rank)
    if world == 1:
        return
    for shape in parts.game.shapes:
        if shape.images % world:
            found = f"{shape.images}, which {world} processes cannot share"
            raise ConfigError("batch", found, f"a multiple of {world}", f"batch={shape.images + -shape.images % world}")
        _check_neighbours(parts.game, shape.images, world)
    _check_devices(settings["engine"]["device"], world)


def _check_neighbours(game: Game, batch: int, world: int) -> None:
    """Raises ConfigError where images that a trick looks at together would be parted, or batch norm sees but one."""
    together = math.lcm(*(part.neighbours for part in game.modules() if isinstance(part, Trick)))
    least = world * together
    if batch % least:
        found = f"{batch}, and a trick judges {together} neighbours together, which {world} processes would part"
        raise ConfigError("batch", found, f"a multiple of {least}", f"batch={batch + -batch % least}")
    if batch == least and list(_batch_norms(game)):
        what = "one image" if together == 1 else f"{together} images that are judged together"
        found = f"{batch}, {what} for each process, and the networks have batch norm"
        raise ConfigError("batch", found, f"{2 * least} or more", f"batch={2 * least}")


def local_statistics(game: Game, settings: Mapping[str, Any], rank: Rank) -> Iterable[Diagnostic]:
    """A note where batch norm takes the statistics of each process's part of a batch."""
    world = world_of(settings, rank)
    if world > 1 and not settings["engine"]["sync_batch_norm"] and next(_batch_norms(game), None) is not None:
        sentence = f"batch norm takes the statistics of each process's images, 1 in {world} of the batch"
        yield Diagnostic("C57", Level.NOTE, f"engine.ranks: {sentence}. Try: engine.sync_batch_norm=true")


def _batch_norms(game: Game) -> Iterator[nn.Module]:
    return (module for module in game.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))


def _check_devices(name: str, world: int) -> None:
    """Raises ConfigError for one device for all, and for too few of them."""
    if name.startswith("cuda:"):
        raise ConfigError("engine.device", f"{name} for {world} processes", "a device for each", "engine.device=cuda")
    cuda = torch.cuda.device_count() if name != "cpu" else 0
    if name != "cpu" and 0 < cuda < world:
        found = f"{name}, and {world} processes for {cuda} CUDA devices"
        raise ConfigError("engine.device", found, "a device for each process", f"engine.ranks={cuda}")
