"""Whether networks, game and data agree: streams, channels, resolution, classes, value range."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from torch import nn

from ganrun.core.context import BatchShape
from ganrun.core.errors import ConfigError
from ganrun.core.game import Game
from ganrun.core.pair import Pair
from ganrun.data.datasets.base import Dataset, DataSets

ROLES = ("discriminator", "generator")
SIZES = ("channels", "resolution")
COPIES = 4  # of a batch that every update holds at least: reals, fakes, and a gradient of each


def check_streams(game: Game, data: DataSets) -> None:
    """Raises ConfigError unless the data have the streams that the game draws from."""
    wanted, found = game.streams(), tuple(data.streams)
    if set(wanted) - set(found):
        remedy = "dataset=digits" if wanted == ("images",) else "game=latent, which draws from one data set"
        raise ConfigError("dataset", f"streams {', '.join(found)}", f"{', '.join(wanted)} for this game", remedy)
    for name in wanted if game.needs_inputs else ():
        if data.streams[name].inputs is None:
            found_, expected = f"images of {data.streams[name].kind} alone", "each with the image that it is made from"
            raise ConfigError("dataset", found_, expected, "dataset=paired_shapes")


def check_sizes(model: Mapping[str, Any], data: DataSets) -> None:
    """Raises ConfigError for networks of another size than the data, before they are made: large ones take minutes."""
    if len(data.streams) > 1:  # their networks are looked at once they are made
        return
    (dataset,) = data.streams.values()
    for role in ROLES:
        for key in SIZES:
            stated = model[role].get(key, getattr(dataset, key))
            if isinstance(stated, int):
                _check_size(role, key, stated, dataset)


def check_agreement(game: Game, data: DataSets) -> None:
    """Raises ConfigError unless each pair's networks fit the stream that is real to it."""
    fewest = min(shape.images for shape in game.shapes)
    for name, pair in game.named_pairs().items():
        dataset = data.streams[game.plans[name].stream]
        for role in ROLES:
            net = getattr(pair, role)
            for key in SIZES:
                _check_size(role, key, getattr(net, key), dataset)
            _check_classes(role, net, dataset)
            if fewest == 1 and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in net.modules()):
                raise ConfigError("batch", f"1 image, and batch norm in model.{role}", "2 or more", "batch=2")
        _check_range(pair, dataset)


def check_memory(shape: BatchShape, data: DataSets) -> None:
    """Raises ConfigError for a batch that this machine cannot even hold."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    size = data.channels * data.resolution**2 * 4  # bytes of an image
    most = memory // (size * COPIES)
    if shape.images > most:
        expected = (
            f"at most {most:,}: images of {data.channels}x{data.resolution}x{data.resolution} in {memory >> 30} GiB"
        )
        raise ConfigError("batch", f"{shape.images}", expected)


def _check_size(role: str, key: str, stated: int, dataset: Dataset) -> None:
    if stated != getattr(dataset, key):
        found = f"{stated}, but the data have {getattr(dataset, key)}"
        raise ConfigError(f"model.{role}.{key}", found, "the same", f"dataset.{key}={stated}")


def _check_classes(role: str, net: Any, dataset: Dataset) -> None:
    known = getattr(net, "classes", 0)
    if known and (dataset.labels is None or known != len(dataset.classes)):
        has = "no labels" if dataset.labels is None else f"{len(dataset.classes)} classes"
        found, remedy = f"{known}, but the data have {has} (rule C24)", f"model.{role}.classes=${{dataset.class_count}}"
        raise ConfigError(f"model.{role}.classes", found, "the same", remedy)
    if known == 1:
        found = f"1, as all images are of the class {dataset.classes[0]}"
        remedy = "model=dcgan, or another model that reads no labels"
        raise ConfigError(f"model.{role}.classes", found, "2 or more classes to tell apart", remedy)


def _check_range(pair: Pair, dataset: Dataset) -> None:
    span = dataset.value_range()
    low, high = pair.generator.range  # type: ignore[misc]
    if span.low < low - 1e-3 or span.high > high + 1e-3:
        found = f"values from {span.low:.3g} to {span.high:.3g} (mean {span.mean:.3g})"
        expected = f"what the generator can make, {low:g} to {high:g}"
        raise ConfigError("dataset", found, expected, "model.generator.output=linear")
