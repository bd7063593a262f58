"""The ordinary game: images are made from noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganrun.core.context import (
    UNCONDITIONAL,
    Batch,
    Batches,
    BatchShape,
    Condition,
    Fakes,
    Latent,
    Outcome,
    Terms,
    Update,
)
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.from_noise import Drawing, FromNoise
from ganrun.core.growth import grown_to
from ganrun.core.images import Images, each_scale, largest
from ganrun.core.pair import Pair
from ganrun.core.seeding import the_same_each_time
from ganrun.core.traits import Traits, facts
from ganrun.core.trick import Trick
from ganrun.games.truncation import TruncatedStyles, truncated_normal


def _spherical(*size: int, **options: Any) -> Tensor:
    """Uniform on the sphere whose radius is the root of its dimensions, near which N(0, 1) lies too."""
    return F.normalize(torch.randn(*size, **options), dim=-1) * size[-1] ** 0.5


COLUMNS = 4  # of a grid with a row for each class, at least

PRIORS: dict[str, Callable[..., Tensor]] = {
    "normal": torch.randn,
    "uniform": lambda *size, **options: torch.rand(*size, **options) * 2 - 1,
    "spherical": _spherical,
    "unit_uniform": lambda *size, **options: (torch.rand(*size, **options) * 2 - 1) * 3**0.5,
}

SPHERICAL = ("normal", "spherical")  # on the sphere, or near it


def check_classes(pair: Pair) -> int:
    """The number of classes that fakes are made for. Raises ConfigError when the networks disagree about it."""
    made, known = (getattr(net, "classes", 0) for net in (pair.generator, pair.discriminator))
    reads = known and Fact.CLASS_HEAD not in getattr(pair.discriminator, "traits", Traits()).provides
    if made != known and (made or reads):
        names = {0: "a network that reads no labels"}
        found, expected = (names.get(count, f"{count} classes") for count in (known, made))
        remedy = "model=cdcgan, whose networks both read labels"
        raise ConfigError("model.discriminator", found, f"{expected}, as model.generator (rule C24)", remedy)
    return made


class LatentGame(FromNoise):
    """One generator that makes images from noise against one discriminator. Goodfellow et al. 2014, equation 1.

    The networks say whether it is conditional (Mirza & Osindero 2014, equation 2): when the generator reads labels,
    each fake has the label of an image of the data, in D's update that of the image at its place in the batch.
    """

    shares_fakes: ClassVar[bool] = True
    pyramids: ClassVar[bool] = False  # whether an image has several scales
    instead: ClassVar[str] = "game=pyramid"  # what to try where a generator makes another number of scales
    captioned: ClassVar[bool] = False  # whether fakes are made for sentences
    grid: Tensor  # [N, Z] the noise of every sample grid
    grid_labels: Tensor | None  # [N] a class for each row of it

    def __init__(self, *, pairs: Mapping[str, Pair], shape: BatchShape, prior: str, grid: int):
        """`grid` counts sample images; `prior` is what noise is drawn from. Raises ConfigError for an unknown prior.

        normal: N(0, 1). uniform: U(-1, 1). unit_uniform: U(-1.73, 1.73), of variance 1.
        spherical: the sphere whose radius is the root of noise's dimensions.
        """
        super().__init__()
        if prior not in PRIORS:
            raise ConfigError(".prior", repr(prior), f"one of {', '.join(PRIORS)}")
        self.pairs = nn.ModuleDict(pairs)
        self.shape, self.prior, self.prior_name = shape, PRIORS[prior], prior
        self.spherical = prior in SPHERICAL
        self.objectives = {"discriminator": self.discriminator, "generator": self.generator}
        if not hasattr(self.pair.generator, "latent"):
            found, remedy = "it makes images from images", "game=cycle, or a model that makes them from noise"
            raise ConfigError("model.generator", found, "a generator that makes them from noise", remedy)
        self._check_sentences()
        self._check_scales()
        self.classes = check_classes(self.pair)
        self.conditional = bool(self.classes) or getattr(self.pair.generator, "conditional", False)
        noise = self.prior(grid, self.pair.generator.latent)
        self.register_buffer("grid", self.pair.tricks.fold(Trick.latent, Latent(noise)).noise)
        self.register_buffer("grid_labels", None)
        if self.classes:
            self._arrange(grid)

    def _check_sentences(self) -> None:
        if hasattr(self.pair.generator, "text") and not self.captioned:
            remedy = "game=text_pyramid" if self.pyramids else "game=text"
            raise ConfigError("model.generator", "it reads sentences", "a generator that reads none", remedy)

    def _check_scales(self) -> None:
        made = getattr(self.pair.generator, "scales", 1)
        if made > 1 and not self.pyramids:
            found = f"it makes images of {made} sizes at once"
            raise ConfigError("model.generator", found, "a generator that makes one", self.instead)
        if made == 1 and self.pyramids:
            found, expected = "it makes images of one size", "a generator that makes several at once"
            raise ConfigError("model.generator", found, expected, self.instead)

    def _arrange(self, images: int) -> None:
        """A row for each class, the first classes where all have no room; the noise of a column is one."""
        self.rows = min(self.classes, max(1, images // COLUMNS))
        columns = images // self.rows
        self.grid = self.grid[:columns].repeat(self.rows, 1)
        self.grid_labels = torch.arange(self.rows).repeat_interleave(columns)

    @property
    def traits(self) -> Traits:  # type: ignore[override]
        """Fakes are made from noise; they have labels when the networks read them."""
        given = facts(Fact.LATENT, Fact.CURRENT, Fact.SINGLE_SCALE, Fact.SAME_SIZE, Fact.IMAGE_ALONE)
        if self.classes:
            return Traits(provides=given | {Fact.LABELLED}, invalidates=facts(Fact.UNLABELLED))
        return Traits(provides=given | {Fact.UNLABELLED})

    def shown(self, real: Tensor) -> Images:
        """Reals as the discriminator is given them. [B, C, H, W]"""
        return real

    @property
    def pair(self) -> Pair:
        """The only pair."""
        pair = self.pairs["main"]
        assert isinstance(pair, Pair)
        return pair

    def networks(self, player: str) -> Mapping[str, nn.Module]:
        return {player: getattr(self.pair, player)}

    def wanted(self, update: Update) -> Mapping[str, BatchShape]:
        if update.role == "generator" and self.conditional:
            return (
                {} if update.given_fakes else {"images": update.shape}
            )  # or they come with the fakes of their classes
        reads = update.role == "discriminator" or self.pair.paired(update)
        return {"images": update.shape} if reads else {}

    def discriminator(self, update: Update, batches: Batches, fakes: Mapping[str, Fakes]) -> Outcome:
        """The discriminator's objective, on fakes of its own."""
        batch = batches["images"]
        with torch.set_grad_enabled(update.share_fakes):
            latent, fake = self._fakes(update.shape, batch.condition)
        real = self.shown(batch.images)
        outcome = self.pair.discriminator_outcome(update, real, fake, condition=self.given(batch), latent=latent)
        shared = {"main": Fakes(fake, latent, real)} if update.share_fakes else {}
        return replace(self.merged({"main": outcome}), fakes=shared)

    def generator(self, update: Update, batches: Batches, fakes: Mapping[str, Fakes]) -> Outcome:
        """The generator's objective, on the fakes it is given or on fakes of its own."""
        batch = batches.get("images")
        real = self.shown(batch.images) if batch else None
        if fakes:
            shared = fakes["main"]
            fake, latent = shared.images, shared.latent
            assert latent is not None
            real = shared.real if self.conditional else real  # of the fakes' conditions
        else:
            latent, fake = self._fakes(update.shape, batch.condition if batch else UNCONDITIONAL)
        real = real if self.pair.paired(update) else None
        outcome = self.pair.generator_outcome(update, real, fake, condition=latent.condition, latent=latent)
        return self.merged({"main": outcome}, self.own_terms(fake, latent))

    def own_terms(self, fake: Images, latent: Latent) -> Terms:
        """What the generator minimises beside its pair's terms, of these fakes and what they were made from. [] each"""
        return {}

    @torch.no_grad()
    def bind(self, batches: Batches) -> None:
        batch = batches["images"]
        with torch.autocast(batch.images.device.type, enabled=False):
            self.pair.bind(self.shown(batch.images), self._fakes(self.shape, batch.condition)[1], self.given(batch))
        self._scheduled = None

    @torch.no_grad()
    def sample(self, condition: Condition = UNCONDITIONAL) -> Tensor:
        # Layers may draw at sampling too: generator_dropout does. A grid shows what training changed, and nothing else.
        given = self.grid_condition() if condition.tensor is None else condition.tensor
        with self.pair.sampler() as generator, the_same_each_time(self.grid.device):
            return largest(generator(self.grid, given)).float()

    @torch.no_grad()
    def pictures(self) -> Mapping[str, Tensor]:
        """The traversals of tricks, drawn as the grid is. [rows, columns, C, H, W] in [-1, 1]

        A row has the label of the grid's image that it varies.
        """
        latents = self.traversals(self.grid)
        with self.pair.sampler() as generator, the_same_each_time(self.grid.device):
            return {name: self._traversed(generator, noise) for name, noise in latents.items()}

    def _traversed(self, generator: nn.Module, latents: Tensor) -> Tensor:
        """Images of latent traversals. [R, V, Z] -> [R, V, C, H, W]"""
        rows, values = latents.shape[:2]
        given = self.grid_condition()
        given = None if given is None else given[:rows].repeat_interleave(values, 0)
        images = largest(generator(latents.flatten(0, 1), given)).float()
        return images.unflatten(0, (rows, values))

    def given(self, batch: Batch) -> Condition:
        """What the discriminator is given beside reals."""
        return batch.condition

    def grid_condition(self) -> Tensor | None:
        """What each image of the grid is made for: labels [N]; None where fakes are made for nothing."""
        return self.grid_labels

    def condition_of(self, batches: Batches) -> Condition:
        """The labels of the reals, where fakes are made for labels. [B, C, H, W]"""
        return Condition(labels=batches["images"].labels) if self.classes else UNCONDITIONAL

    @torch.no_grad()
    def draw(self, count: int, condition: Condition = UNCONDITIONAL) -> Tensor:
        with self.drawing() as drawing:
            return drawing.images(self.latent(drawing.noise(count), condition))

    @property
    def resolutions(self) -> tuple[int, ...]:
        """That of the data alone."""
        return (self.shape.resolution,)

    @contextmanager
    def drawing(self, truncation: float | None = None, resolution: int | None = None) -> Iterator[Drawing]:
        """As `FromNoise` has it: styles are truncated where the generator makes any, else normal noise.

        Raises ConfigError for the truncation of other noise.
        """
        with self.pair.sampler() as generator, grown_to(generator, resolution):
            if truncation is None:
                yield Drawing(generator, self._noise, resolution)
            elif Fact.STYLES in getattr(generator, "traits", Traits()).provides:
                yield Drawing(TruncatedStyles(generator, self.prior, truncation), self._noise, resolution)
            elif self.prior_name == "normal":
                size, device = self.grid.shape[1], self.grid.device
                noise = partial(truncated_normal, size=size, threshold=truncation, device=device)
                yield Drawing(generator, noise, resolution)
            else:
                found = f"{truncation:g}, but the noise of this run is {self.prior_name} (game.prior)"
                expected = "a run with normal noise, or with a generator that makes styles of it"
                raise ConfigError("truncation", found, expected, "leaving truncation out")

    def latent(self, noise: Tensor, condition: Condition = UNCONDITIONAL) -> Latent:
        """As `FromNoise` has it, of noise [B, Z]: labels that are asked for and not given are drawn, all as likely."""
        if self.classes and condition.labels is None:
            condition = Condition(labels=torch.randint(self.classes, (len(noise),), device=noise.device))
        return self._left_by_tricks(noise, condition.each(lambda given: given.to(noise.device)))

    def traversals(self, noise: Tensor) -> Mapping[str, Tensor]:
        """As `FromNoise` has it. [N, Z] -> [rows, columns, Z] each"""
        acting = self.pair.tricks.at(Trick.traversals)
        return {name: latents for _, make in acting for name, latents in make(noise).items()}

    @property
    def mixes_labels(self) -> bool:  # type: ignore[override]
        """Whether the generator says that it takes shares of classes."""
        return bool(getattr(self.pair.generator, "mixes_labels", False))

    def _noise(self, count: int) -> Tensor:
        """What the prior draws. [count, Z]"""
        return self.prior(count, self.grid.shape[1], device=self.grid.device)

    def _left_by_tricks(self, noise: Tensor, condition: Condition) -> Latent:
        """Noise, with a condition where the generator reads one, as the tricks leave it."""
        latent: Latent = self.pair.tricks.fold(
            Trick.latent, Latent(noise, condition if self.conditional else UNCONDITIONAL)
        )
        return latent

    def _fakes(self, shape: BatchShape, condition: Condition) -> tuple[Latent, Images]:
        latent = self._left_by_tricks(self._noise(shape.images), condition)
        made: Images = self.pair.generator(latent.noise, latent.condition.tensor)
        return latent, each_scale(made, Tensor.float)
