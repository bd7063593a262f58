"""Keeping some classes: one class at a time is easier to learn."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ganrun.core.errors import ConfigError, nearest

logger = logging.getLogger("ganrun")

Wanted = Sequence[int | str] | int | str | None
WHERE = "dataset.classes"


def select(
    wanted: Wanted, names: Sequence[str], labels: Tensor | None
) -> tuple[Tensor | None, Tensor | None, tuple[str, ...]]:
    """Indices of the images to keep (None for all), their labels relabelled 0..k-1, and the names kept."""
    if wanted is None:
        return None, labels, tuple(names)
    if labels is None:
        raise ConfigError(WHERE, "these data have no labels", "null", f"leaving {WHERE} out")
    kept = positions(wanted, names)
    renumber = torch.full((len(names),), -1)
    renumber[kept] = torch.arange(len(kept))
    relabelled = renumber[labels]
    indices = relabelled.ge(0).nonzero().flatten()
    if not len(indices):
        raise ConfigError(
            WHERE, f"no image of {', '.join(names[i] for i in kept)}", "at least one image", "other classes"
        )
    return indices, relabelled[indices], tuple(names[i] for i in kept)


def positions(wanted: Sequence[int | str] | int | str, names: Sequence[str]) -> list[int]:
    """Where the wanted classes stand among the names, in the order they were asked for."""
    asked = [wanted] if isinstance(wanted, int | str) else list(wanted)
    if not asked:
        raise ConfigError(WHERE, "an empty list", "at least one class", f"{WHERE}=[{names[0]}]")
    kept = [_position(item, names) for item in asked]
    twice = next((names[i] for i in kept if kept.count(i) > 1), None)
    if twice is not None:
        raise ConfigError(WHERE, f"{twice} is listed twice", "each class once", f"{WHERE}=[{names[kept[0]]}]")
    return kept


def _position(item: int | str, names: Sequence[str]) -> int:
    """By name, or by number where the names are not numbers themselves."""
    if str(item) in names:
        return list(names).index(str(item))
    numbers = all(name.lstrip("-").isdigit() for name in names)
    if not numbers and isinstance(item, int) and not isinstance(item, bool) and 0 <= item < len(names):
        return item
    close = nearest(str(item), names) or nearest(str(item).lower(), names) or names[0]
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    raise ConfigError(WHERE, f"no class {item!r}", f"some of {shown}", f"{WHERE}=[{close}]")


def check_labels(labels: Tensor | None, images: int, names: Sequence[str]) -> None:
    """Every image has the number of a class that has a name; data sets of others' making may say otherwise."""
    where = "dataset"
    if labels is None:
        return
    if labels.shape != (images,) or labels.dtype != torch.int64:
        found = f"labels {list(labels.shape)} of {str(labels.dtype).removeprefix('torch.')} for {images} images"
        raise ConfigError(where, found, f"[{images}] of int64")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(names):
        raise ConfigError(
            where, f"labels from {low} to {high}", f"0 to {len(names) - 1}, as there are {len(names)} classes"
        )


def counts(labels: Tensor, names: Sequence[str]) -> dict[str, int]:
    """How many images each class has."""
    return dict(zip(names, torch.bincount(labels, minlength=len(names)).tolist(), strict=True))


def recorded_classes(labels: Tensor | None, names: Sequence[str], rows: int | None) -> dict[str, Any]:
    """For a run's record and its log: how many images each class has, and how many classes have a row in its grids."""
    if labels is None:
        return {}
    found = counts(labels, names)
    logger.info("images of each class: %s", ", ".join(f"{name} {count:,}" for name, count in found.items()))
    if rows:
        shown = ", ".join(names[:rows])
        logger.info("sample grids have a row for each class, %d of %d: %s", rows, len(found), shown)
    return {"classes": found}
