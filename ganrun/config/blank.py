"""Batches of no data, shaped as those of a recorded run: tricks allocate their state from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ganrun.core.context import Batch, Condition
from ganrun.core.game import Game

GREY = 1 / 255  # of an image that 8 bits can hold


def blank_batches(settings: Mapping[str, Any], game: Game, device: torch.device) -> dict[str, Batch]:
    """Grey images [B, C, H, W] with label 0 and empty captions, where the data of the run have any."""
    data = settings["dataset"]
    shape = (game.shape.images, data["channels"], data["resolution"], data["resolution"])
    images = torch.full(shape, GREY, device=device)
    condition = _condition(data, game.shape.images).each(lambda given: given.to(device))
    batch = Batch(images, condition._replace(image=images if game.needs_inputs else None))
    return dict.fromkeys(game.streams(), batch)


def _condition(data: Mapping[str, Any], count: int) -> Condition:
    """Zeros for what the data have beside images. [B], [B, L] or [B, E]"""
    size, words = data.get("text_size", 0), data.get("word_count", 0)
    return Condition(
        labels=torch.zeros(count, dtype=torch.int64) if data.get("class_count") else None,
        text=torch.zeros(count, size, dtype=torch.int64) if size and words else None,
        embedding=torch.zeros(count, size) if size and not words else None,
    )
