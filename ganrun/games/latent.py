"""The ordinary game: images are made from noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganrun.core.context import Batch, Latent, Outcome, Stage, Update
from ganrun.core.errors import Refused
from ganrun.core.facts import Fact
from ganrun.core.game import Game
from ganrun.core.pair import Pair
from ganrun.core.seeding import the_same_each_time
from ganrun.core.traits import Traits, facts
from ganrun.core.trick import Trick


def _spherical(*size: int, **options: Any) -> Tensor:
    """Any direction alike, on the sphere whose radius is the root of its dimensions: where N(0, 1) nearly lies too."""
    return F.normalize(torch.randn(*size, **options), dim=-1) * size[-1] ** 0.5


COLUMNS = 4  # of a grid with a row for each class, at least

PRIORS: dict[str, Callable[..., Tensor]] = {
    "normal": torch.randn,
    "uniform": lambda *size, **options: torch.rand(*size, **options) * 2 - 1,
    "spherical": _spherical,
    "unit_uniform": lambda *size, **options: (torch.rand(*size, **options) * 2 - 1) * 3**0.5,
}


def check_classes(pair: Pair) -> int:
    """How many classes fakes are made for; the networks must agree, or D could not see whether G obeys."""
    made, known = (getattr(net, "classes", 0) for net in (pair.generator, pair.discriminator))
    reads = known and Fact.CLASS_HEAD not in getattr(pair.discriminator, "traits", Traits()).provides
    if made != known and (made or reads):
        names = {0: "a network that reads no labels"}
        found, expected = (names.get(count, f"{count} classes") for count in (known, made))
        remedy = "model=cdcgan, whose networks both read labels"
        raise Refused("model.discriminator", found, f"{expected}, as model.generator (rule C24)", remedy)
    return made


class LatentGame(Game):
    """One generator that makes images from noise against one discriminator. Goodfellow et al. 2014, equation 1.

    The networks say whether it is conditional (Mirza & Osindero 2014, equation 2): when the generator reads labels,
    each fake has the label of an image of the data, in D's update that of the image at its place in the batch.
    """

    grid: Tensor  # [N, Z] the noise of every sample grid
    grid_labels: Tensor | None  # [N] a class for each row of it

    def __init__(self, *, pair: Pair, stage: Stage, prior: str, grid: int):
        """`grid` counts sample images; `prior` is what noise is drawn from.

        normal: N(0, 1). uniform: U(-1, 1). unit_uniform: U(-1.73, 1.73), of variance 1.
        spherical: the sphere whose radius is the root of noise's dimensions.
        """
        super().__init__()
        if prior not in PRIORS:
            raise Refused("game.prior", repr(prior), f"one of {', '.join(PRIORS)}")
        self.pairs = nn.ModuleDict({"main": pair})
        self.stage, self.prior = stage, PRIORS[prior]
        self.objectives = {"discriminator": self.discriminator, "generator": self.generator}
        self.classes = check_classes(pair)
        noise = self.prior(grid, pair.generator.latent)
        self.register_buffer("grid", pair.tricks.fold(Trick.latent, Latent(noise)).noise)
        self.register_buffer("grid_labels", None)
        if self.classes:
            self._arrange(grid)
        self._handed_on: tuple[Latent, Tensor, Tensor] | None = None  # lives from one update to the next, never longer

    def _arrange(self, images: int) -> None:
        """A row for each class, the first classes where all have no room; the noise of a column is one."""
        self.rows = min(self.classes, max(1, images // COLUMNS))
        columns = images // self.rows
        self.grid = self.grid[:columns].repeat(self.rows, 1)
        self.grid_labels = torch.arange(self.rows).repeat_interleave(columns)

    @property
    def traits(self) -> Traits:  # type: ignore[override]
        given = facts(Fact.LATENT, Fact.CURRENT)
        if self.classes:
            return Traits(provides=given | {Fact.LABELLED}, spoils=facts(Fact.UNLABELLED))
        return Traits(provides=given | {Fact.UNLABELLED})

    @property
    def pair(self) -> Pair:
        pair = self.pairs["main"]
        assert isinstance(pair, Pair)
        return pair

    def nets(self, player: str) -> list[nn.Module]:
        return [getattr(self.pair, player)]

    def wants_reals(self, update: Update) -> bool:
        if update.player == "generator" and self.classes:
            return not update.takes_over  # or they came with the fakes, whose labels are theirs
        return update.player == "discriminator" or self.pair.paired(update)

    def discriminator(self, update: Update, batch: Batch | None) -> Outcome:
        assert batch is not None
        with torch.set_grad_enabled(update.hands_on):
            latent, fake = self._fakes(update.stage, batch.labels)
        if update.hands_on:
            self._handed_on = latent, fake, batch.images
        return self.pair.discriminator_outcome(update, batch.images, fake, labels=batch.labels, latent=latent)

    def generator(self, update: Update, batch: Batch | None) -> Outcome:
        real = batch.images if batch else None
        if update.takes_over:
            latent, fake, seen = self._take_over()
            real = seen if self.classes else real  # of the fakes' classes
        else:
            latent, fake = self._fakes(update.stage, batch.labels if batch else None)
        real = real if self.pair.paired(update) else None
        return self.pair.generator_outcome(update, real, fake, labels=latent.labels, latent=latent)

    @torch.no_grad()
    def bind(self, batch: Batch) -> None:
        with torch.autocast(batch.images.device.type, enabled=False):
            self.pair.bind(batch.images, self._fakes(self.stage, batch.labels)[1], batch.labels)

    @torch.no_grad()
    def sample(self) -> Tensor:
        # Layers may draw at sampling too: generator_dropout does. A grid shows what training changed, and nothing else.
        with self.pair.sampler() as generator, the_same_each_time(self.grid.device):
            return generator(self.grid, self.grid_labels).float()

    @torch.no_grad()
    def pictures(self) -> Mapping[str, Tensor]:
        """The sweeps of tricks, drawn as the grid is; a row has the label of the grid's image that it varies."""
        sweeps = {k: v for _, sweep in self.pair.tricks.at(Trick.sweeps) for k, v in sweep(self.grid).items()}
        with self.pair.sampler() as generator, the_same_each_time(self.grid.device):
            return {name: self._swept(generator, latents) for name, latents in sweeps.items()}

    def _swept(self, generator: nn.Module, latents: Tensor) -> Tensor:
        """[R, V, Z] -> [R, V, C, H, W]"""
        rows, values = latents.shape[:2]
        labels = None if self.grid_labels is None else self.grid_labels[:rows].repeat_interleave(values)
        images: Tensor = generator(latents.flatten(0, 1), labels).float()
        return images.unflatten(0, (rows, values))

    @torch.no_grad()
    def draw(self, count: int, labels: Tensor | None = None) -> Tensor:
        device = self.grid.device
        if self.classes and labels is None:
            labels = torch.randint(self.classes, (count,), device=device)
        latent = self._latent(count, None if labels is None else labels.to(device))
        with self.pair.sampler() as generator:
            return generator(latent.noise, latent.labels).float()

    def _latent(self, count: int, labels: Tensor | None) -> Latent:
        """Noise, with labels where the generator reads them, as the tricks leave it."""
        noise = self.prior(count, self.grid.shape[1], device=self.grid.device)
        return self.pair.tricks.fold(Trick.latent, Latent(noise, labels if self.classes else None))

    def _fakes(self, stage: Stage, labels: Tensor | None) -> tuple[Latent, Tensor]:
        latent = self._latent(stage.images, labels)
        return latent, self.pair.generator(latent.noise, latent.labels).float()

    def _take_over(self) -> tuple[Latent, Tensor, Tensor]:
        assert self._handed_on is not None, "no discriminator's update handed its fakes on"
        handed, self._handed_on = self._handed_on, None
        return handed
