"""Samples of a run's averaged generator: sample i follows from the seed and i alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from ganrun.core.context import UNCONDITIONAL, Condition, Latent
from ganrun.core.errors import ConfigError
from ganrun.core.from_noise import Drawing, FromNoise
from ganrun.core.game import Game
from ganrun.core.seeding import reseed

BATCH = 64  # latents that are drawn at once, always, so that they do not depend on how many are asked for


@torch.no_grad()
def draw(
    game: Game, count: int, *, seed: int, condition: Condition = UNCONDITIONAL, truncation: float | None = None
) -> Tensor:
    """New samples, not those of the grid. [count, C, H, W] in [-1, 1] on the CPU

    The condition is of `count` images; without one it is drawn as in training, every class as likely. The first of
    many are those of few. Raises ConfigError for a truncation that means nothing.
    """
    if not isinstance(game, FromNoise):
        if truncation is not None:
            raise ConfigError("truncation", "this run makes images from images", "a run with noise", "no truncation")
        return _not_from_noise(game, count, seed)
    with game.drawing(truncation) as drawing:
        return torch.cat(list(batches(game, drawing, count, seed=seed, condition=condition)))


def _not_from_noise(game: Game, count: int, seed: int) -> Tensor:
    """Samples of a game without noise, such as translations of the images it keeps. [count, C, H, W]"""
    pieces = []
    for number, first in enumerate(range(0, count, BATCH)):
        reseed(seed, "draw", step=number)
        pieces.append(game.draw(min(BATCH, count - first)).cpu())
    return torch.cat(pieces)


def batches(
    game: FromNoise,
    drawing: Drawing,
    count: int,
    *,
    seed: int,
    condition: Condition = UNCONDITIONAL,
    change: Callable[[nn.Module, Latent, int], Latent] | None = None,
) -> Iterator[Tensor]:
    """The samples of `draw`, a batch at a time, on the CPU. [B, C, H, W]

    `change` is given the generator, the latents of a whole batch and its number, and returns those to make images of.
    """
    for number, first in enumerate(range(0, count, BATCH)):
        given = condition.each(partial(_rows, first=first))
        latent = latents(game, drawing, number, seed=seed, condition=given)
        latent = change(drawing.generator, latent, number) if change else latent
        yield drawing.images(first_of(latent, count - first)).cpu()


def latents(
    game: FromNoise,
    drawing: Drawing,
    number: int,
    *,
    seed: int,
    stream: str = "draw",
    condition: Condition = UNCONDITIONAL,
) -> Latent:
    """Batch `number` of a stream's latents, whole. [BATCH, Z]

    Of a condition for fewer images the last is repeated.
    """
    reseed(seed, stream, step=number)
    noise = drawing.noise(BATCH)
    rows = torch.arange(BATCH)
    return game.latent(noise, condition.each(lambda given: given[rows.clamp(max=len(given) - 1).to(given.device)]))


def _rows(given: Tensor, first: int) -> Tensor:
    """The rows of one batch. [N, ...] -> [B, ...]"""
    return given[first : first + BATCH]


def first_of(latent: Latent, count: int) -> Latent:
    """The first latents of a batch. [count, Z]"""
    return Latent(latent.noise[:count], latent.condition.each(lambda given: given[:count]))
