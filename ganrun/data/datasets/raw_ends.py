"""Which raw values of image files become -1 and 1, file by file: of images that a trained network is given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ganrun.core.errors import ConfigError
from ganrun.data.readers.image_file import Header, raw_values
from ganrun.data.readers.image_root import ImageRoot
from ganrun.data.readers.regular import UnreadableImage
from ganrun.data.transforms.value_range import ValueRange, choose_range, range_of_type


def raw_ends(
    root: ImageRoot,
    names: Sequence[str],
    headers: Sequence[Header],
    *,
    channels: int,
    setting: Sequence[float] | None,
) -> list[tuple[float, float] | None]:
    """For each file the raw values that become -1 and 1; None for those of 8 bits as they are.

    `setting` is that of the data that the network was trained on: it holds for files that may have such values.
    Raises ConfigError for values beyond it, and for numbers of which nothing says how bright they are.
    """
    found: list[tuple[float, float] | None] = []
    for name, header in zip(names, headers, strict=True):
        dtype = np.dtype(header.dtype)
        meant = setting if setting is not None and (dtype != np.uint8 or max(setting) <= 255) else None
        found.append(_ends(root, name, dtype, channels, meant) if meant is not None or dtype != np.uint8 else None)
    return found


def _ends(
    root: ImageRoot, name: str, dtype: np.dtype, channels: int, setting: Sequence[float] | None
) -> tuple[float, float] | None:
    place = root.place(name)
    try:
        with root.open(name) as file:
            values = raw_values(file, channels)
    except UnreadableImage as problem:
        raise ConfigError(".path", f"{place} {problem}", "whole images") from problem
    span = ValueRange(float(values.min()), float(values.max()), float(values.mean()))
    if setting is None and (usual := range_of_type(dtype, span)) is not None:
        return usual
    if setting is None:
        found = f"{place} has {dtype} {span}, and nothing says which of them is white"
        raise ConfigError(".range", found, "images of 8 or 16 bits, or floats from -1 to 1")
    try:
        return choose_range(dtype, span, setting, place)
    except ConfigError as error:
        raise ConfigError(".range", f"trained on {error.found}", "values in the range of the run") from error
