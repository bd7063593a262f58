"""Classes of a data set: selecting some of them, checking labels, counting images."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ganrun.core.errors import ConfigError, nearest

logger = logging.getLogger("ganrun")

ClassSelection = Sequence[int | str] | int | str | None  # by name or number; None for all classes
SETTING = ".classes"  # of the data set


def select_classes(
    selection: ClassSelection, names: Sequence[str], labels: Tensor | None
) -> tuple[Tensor | None, Tensor | None, tuple[str, ...]]:
    """The images of the selected classes. labels [N] -> indices [M] (None for all), labels [M] as 0..k-1, names.

    Raises ConfigError for unlabelled data, for classes that the data do not have, and when no image is left.
    """
    if selection is None:
        return None, labels, tuple(names)
    if labels is None:
        raise ConfigError(SETTING, "these data have no labels", "null", f"leaving {SETTING} out")
    kept = class_indices(selection, names)
    renumber = torch.full((len(names),), -1)
    renumber[kept] = torch.arange(len(kept))
    relabelled = renumber[labels]
    indices = relabelled.ge(0).nonzero().flatten()
    if not len(indices):
        found = f"no image of {', '.join(names[i] for i in kept)}"
        raise ConfigError(SETTING, found, "at least one image", "other classes")
    return indices, relabelled[indices], tuple(names[i] for i in kept)


def class_indices(selection: Sequence[int | str] | int | str, names: Sequence[str]) -> list[int]:
    """The index of each selected class among `names`, in the order of the selection. Raises ConfigError."""
    items = [selection] if isinstance(selection, int | str) else list(selection)
    if not items:
        raise ConfigError(SETTING, "an empty list", "at least one class", f"{SETTING}=[{names[0]}]")
    number = {name: index for index, name in reversed(list(enumerate(names)))}
    numbers = all(name.lstrip("-").isdigit() for name in names)
    kept = [_index(item, number, numbers) for item in items]
    if len(set(kept)) < len(kept):
        twice = names[Counter(kept).most_common(1)[0][0]]
        raise ConfigError(SETTING, f"{twice} is listed twice", "each class once", f"{SETTING}=[{names[kept[0]]}]")
    return kept


def _index(item: int | str, number: Mapping[str, int], numbers: bool) -> int:
    """By name, or by number where the names are not numbers themselves."""
    if str(item) in number:
        return number[str(item)]
    names = list(number)[::-1]
    if not numbers and isinstance(item, int) and not isinstance(item, bool) and 0 <= item < len(names):
        return item
    close = nearest(str(item), names) or nearest(str(item).lower(), names) or names[0]
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    raise ConfigError(SETTING, f"no class {item!r}", f"some of {shown}", f"{SETTING}=[{close}]")


def check_labels(labels: Tensor | None, images: int, names: Sequence[str]) -> None:
    """Labels are [N] int64 in 0..len(names)-1; a data set of a plug-in may have others. Raises ConfigError."""
    where = "dataset"
    if labels is None:
        return
    if labels.shape != (images,) or labels.dtype != torch.int64:
        found = f"labels {list(labels.shape)} of {str(labels.dtype).removeprefix('torch.')} for {images} images"
        raise ConfigError(where, found, f"[{images}] of int64")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(names):
        expected = f"0 to {len(names) - 1}, as there are {len(names)} classes"
        raise ConfigError(where, f"labels from {low} to {high}", expected)


def class_counts(labels: Tensor, names: Sequence[str]) -> dict[str, int]:
    """The number of images of each class, from labels [N]."""
    return dict(zip(names, torch.bincount(labels, minlength=len(names)).tolist(), strict=True))


def recorded_classes(labels: Tensor | None, names: Sequence[str], rows: int | None) -> dict[str, Any]:
    """Images of each class, for a run's record and log, and how many classes have a row in its grids.

    `labels` [N]; `rows` is the number of rows for classes, where a grid has them.
    """
    if labels is None:
        return {}
    found = class_counts(labels, names)
    logger.info("images of each class: %s", ", ".join(f"{name} {count:,}" for name, count in found.items()))
    if rows:
        shown = ", ".join(names[:rows])
        logger.info("sample grids have a row for each class, %d of %d: %s", rows, len(found), shown)
    return {"classes": found}
