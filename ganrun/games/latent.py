"""The ordinary game: images are made from noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganrun.core.context import Batch, Latent, Outcome, Stage, Update
from ganrun.core.facts import Fact
from ganrun.core.game import Game
from ganrun.core.pair import Pair
from ganrun.core.traits import Traits, facts
from ganrun.core.trick import Trick
from ganrun.errors import Refused


def _spherical(*size: int, **options: Any) -> Tensor:
    """Any direction alike, on the sphere whose radius is the root of its dimensions: where N(0, 1) nearly lies too."""
    return F.normalize(torch.randn(*size, **options), dim=-1) * size[-1] ** 0.5


PRIORS: dict[str, Callable[..., Tensor]] = {
    "normal": torch.randn,
    "uniform": lambda *size, **options: torch.rand(*size, **options) * 2 - 1,
    "spherical": _spherical,
}


class LatentGame(Game):
    """One generator that makes images from noise against one discriminator. Goodfellow et al. 2014, equation 1."""

    traits = Traits(provides=facts(Fact.LATENT, Fact.UNLABELLED, Fact.CURRENT))
    grid: Tensor  # [N, Z] the noise of every sample grid

    def __init__(self, *, pair: Pair, stage: Stage, prior: str, grid: int):
        """`grid` counts sample images; `prior` is what noise is drawn from.

        normal: N(0, 1). uniform: U(-1, 1). spherical: the sphere whose radius is the root of noise's dimensions.
        """
        super().__init__()
        if prior not in PRIORS:
            raise Refused("game.prior", repr(prior), f"one of {', '.join(PRIORS)}")
        self.pairs = nn.ModuleDict({"main": pair})
        self.stage, self.prior = stage, PRIORS[prior]
        self.objectives = {"discriminator": self.discriminator, "generator": self.generator}
        noise = self.prior(grid, pair.generator.latent)
        self.register_buffer("grid", pair.tricks.fold(Trick.latent, Latent(noise)).noise)
        self._handed_on: tuple[Latent, Tensor] | None = None  # lives from one update to the next, never longer

    @property
    def pair(self) -> Pair:
        pair = self.pairs["main"]
        assert isinstance(pair, Pair)
        return pair

    def nets(self, player: str) -> list[nn.Module]:
        return [getattr(self.pair, player)]

    def wants_reals(self, update: Update) -> bool:
        return update.player == "discriminator" or self.pair.paired(update)

    def discriminator(self, update: Update, batch: Batch | None) -> Outcome:
        assert batch is not None
        with torch.set_grad_enabled(update.hands_on):
            latent, fake = self._fakes(update.stage)
        if update.hands_on:
            self._handed_on = latent, fake
        return self.pair.discriminator_outcome(update, batch.images, fake, labels=batch.labels, latent=latent)

    def generator(self, update: Update, batch: Batch | None) -> Outcome:
        latent, fake = self._take_over() if update.takes_over else self._fakes(update.stage)
        real = batch.images if batch else None
        return self.pair.generator_outcome(update, real, fake, labels=latent.labels, latent=latent)

    @torch.no_grad()
    def bind(self, batch: Batch) -> None:
        with torch.autocast(batch.images.device.type, enabled=False):
            self.pair.bind(batch.images, self._fakes(self.stage)[1])

    @torch.no_grad()
    def sample(self) -> Tensor:
        with self.pair.sampler() as generator:
            return generator(self.grid).float()

    @torch.no_grad()
    def pictures(self) -> Mapping[str, Tensor]:
        """The sweeps of tricks, drawn as the grid is."""
        sweeps = [sweep(self.grid) for _, sweep in self.pair.tricks.at(Trick.sweeps)]
        with self.pair.sampler() as generator:
            return {
                name: generator(latents.flatten(0, 1)).float().unflatten(0, latents.shape[:2])
                for sweep in sweeps
                for name, latents in sweep.items()
            }

    @torch.no_grad()
    def draw(self, count: int) -> Tensor:
        noise = self.prior(count, self.grid.shape[1], device=self.grid.device)
        with self.pair.sampler() as generator:
            return generator(self.pair.tricks.fold(Trick.latent, Latent(noise)).noise).float()

    def _fakes(self, stage: Stage) -> tuple[Latent, Tensor]:
        noise = self.prior(stage.images, self.grid.shape[1], device=self.grid.device)
        latent = self.pair.tricks.fold(Trick.latent, Latent(noise))
        return latent, self.pair.generator(latent.noise, latent.labels).float()

    def _take_over(self) -> tuple[Latent, Tensor]:
        assert self._handed_on is not None, "no discriminator's update handed its fakes on"
        handed, self._handed_on = self._handed_on, None
        return handed
