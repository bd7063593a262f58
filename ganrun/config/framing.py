"""The settings `dataset.crop_from` and `dataset.mirrored`, which every data set has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from ganrun.config.nested import share_shape
from ganrun.config.types import Within, fits, unfit
from ganrun.core.errors import ConfigError
from ganrun.data.datasets.base import DataSets
from ganrun.data.datasets.framed import frame
from ganrun.data.transforms.framing import Framing

KINDS = {"crop_from": Annotated[int, Within(2)] | None, "mirrored": Annotated[float, Within(0, 1)]}


def take_framing(node: dict[str, Any]) -> Framing | None:
    """Take both settings out of those of a data set; what is drawn of each image, None where that is all of it.

    The data are then to be opened with images of `crop_from` pixels. Raises ConfigError for values that are none, and
    for squares larger than the images.
    """
    side, mirrored = node.pop("crop_from", None), node.pop("mirrored", 0)  # a run of before these keys has none
    for key, value in (("crop_from", side), ("mirrored", mirrored)):
        if not fits(value, KINDS[key]):
            raise unfit(f"dataset.{key}", value, KINDS[key])
    if side is None:
        return Framing(0, mirrored) if mirrored else None
    square = node.get("resolution")
    if square is None:
        found = f"null, with dataset.crop_from={side}"
        raise ConfigError(
            "dataset.resolution", found, "the pixels of the squares", f"dataset.resolution={side * 8 // 9}"
        )
    if square == 1:
        raise ConfigError("dataset.crop_from", f"{side}, for points of 1 pixel", "null", "dataset.crop_from=null")
    if side < square:
        found = f"{side} pixels, for squares of {square}"
        raise ConfigError("dataset.crop_from", found, f"at least {square}", f"dataset.crop_from={square * 9 // 8}")
    node["resolution"] = side
    share_shape(node, resolution=side)
    return Framing(square, mirrored)


def opened(make: Callable[[], DataSets], framing: Framing | None) -> DataSets:
    """The data that `make` opens. Raises its ConfigError, at `crop_from` where that is more than data can have."""
    try:
        return make()
    except ConfigError as error:
        if framing is None or not framing.resolution or not error.where.endswith(".resolution"):
            raise
        expected = f"{error.expected}, as {error.where}"
        raise ConfigError("dataset.crop_from", error.found, expected, "dataset.crop_from=null") from error


def framed(data: DataSets, framing: Framing | None) -> DataSets:
    """The data, drawn as these settings say. Raises ConfigError where they have no such images."""
    if framing is None:
        return data
    try:
        return frame(data, framing._replace(resolution=framing.resolution or data.resolution))
    except ConfigError as error:
        raise error.at("dataset") from error
