"""Walks: latents along a path between noises, between classes, or along a code, and their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ganrun.core.context import UNCONDITIONAL, Condition, Latent
from ganrun.core.errors import ConfigError
from ganrun.core.from_noise import Drawing, FromNoise
from ganrun.core.seeding import reseed
from ganrun.run.interpolation import path

LOOP, STRIP = 60, 10  # frames, unless set


def way_of(game: FromNoise, wanted: str | None) -> str:
    """How to go from noise to noise: as wanted, else slerp on a sphere and lerp elsewhere. Raises ConfigError."""
    if wanted == "slerp" and not game.spherical:
        found = "slerp, but the noise of this run fills a cube and lies on no sphere"
        raise ConfigError("interpolation", found, "lerp", "interpolation=lerp")
    return wanted or ("slerp" if game.spherical else "lerp")


def check_code(game: FromNoise, code: str) -> None:
    """Raises ConfigError for a code that no trick of the game has put into the noise."""
    with game.drawing() as drawing:
        codes = list(game.traversals(drawing.noise(1)))
    if not codes:
        found = f"{code}, but no trick of this run puts codes into the noise"
        raise ConfigError("code", found, "a run with tricks=[info_codes]", "between=noise")
    if code not in codes:
        raise ConfigError("code", f"there is no {code}", ", ".join(codes), f"code={codes[0]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """`rows` walks at once in a number of `frames`, from one end to the other or as a loop."""

    game: FromNoise
    drawing: Drawing
    rows: int
    frames: int | None
    loops: bool
    seed: int

    def between_noises(self, stops: int, way: str, labels: Sequence[int] = ()) -> list[Latent]:
        """Latents [rows, Z] of each frame, between noises. Codes and classes stay what they are.

        The classes of the rows are one after another of `labels`, or of all.
        """
        self._reseed("noise")
        noises = self.drawing.noise(self.rows * stops).unflatten(0, (self.rows, stops))
        condition = UNCONDITIONAL
        if self.game.classes:
            kinds = torch.tensor(list(labels or range(self.game.classes)))
            condition = Condition(labels=kinds[torch.arange(self.rows) % len(kinds)])
        walked = path(noises, self._frames(stops), loops=self.loops, way=way)
        return [self._latent(noise, condition) for noise in walked.unbind(1)]

    def between_classes(self, labels: Sequence[int]) -> list[Latent]:
        """Latents [rows, Z] of each frame, from class to class, of one noise in each row.

        Where the generator takes shares of classes, these change evenly; else one class follows another.
        """
        self._reseed("noise")
        noise = self.drawing.noise(self.rows)
        classes = torch.arange(self.game.classes, device=noise.device)
        stops = (torch.tensor(labels, device=noise.device)[:, None] == classes).float()  # [S, K]
        (walked,) = path(stops[None], self._frames(len(labels)), loops=self.loops, way="lerp")
        given = walked if self.game.mixes_labels else walked.argmax(1)
        return [self._latent(noise, Condition(labels=one.expand(self.rows, *one.shape))) for one in given.unbind(0)]

    def between_sentences(self, vectors: Tensor) -> list[Latent]:
        """Latents [rows, Z] of each frame, from sentence to sentence as vectors [S, E], of one noise in each row."""
        self._reseed("noise")
        noise = self.drawing.noise(self.rows)
        (walked,) = path(vectors[None], self._frames(len(vectors)), loops=self.loops, way="lerp")
        return [self._latent(noise, Condition(embedding=one.expand(self.rows, -1))) for one in walked.unbind(0)]

    def along_code(self, code: str) -> list[Latent]:
        """Latents [rows, Z] of each frame, along a code, there and back again where the walk loops."""
        self._reseed("noise")
        latent = self._latent(self.drawing.noise(self.rows), UNCONDITIONAL)
        stops = self.game.traversals(latent.noise)[code]  # [R, V, Z]
        frames = self.frames or (LOOP if self.loops else stops.shape[1])
        there_and_back = torch.cat([stops, stops[:, 1:-1].flip(1)], 1) if self.loops else stops
        condition = latent.condition.each(lambda given: given[: len(stops)])
        walked = path(there_and_back, frames, loops=self.loops, way="lerp")
        return [Latent(noise, condition) for noise in walked.unbind(1)]

    def images(self, latent: Latent) -> Tensor:
        """A frame on the CPU. [rows, C, H, W] in [-1, 1]"""
        self._reseed("layers")  # those that draw numbers draw the same ones in every frame
        return self.drawing.images(latent).cpu()

    def _frames(self, stops: int) -> int:
        return self.frames or (LOOP if self.loops else max(STRIP, stops))

    def _latent(self, noise: Tensor, condition: Condition) -> Latent:
        """What tricks draw into noise, and classes that nobody asked for, are the same at every call."""
        self._reseed("codes")
        return self.game.latent(noise, condition)

    def _reseed(self, what: str) -> None:
        reseed(self.seed, f"walk/{what}")
