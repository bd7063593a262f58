"""Translation between two domains without pairs of images: two generators, two discriminators. Zhu et al. 2017."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganrun.core.context import UNCONDITIONAL, Batches, BatchShape, Condition, Fakes, Outcome, Terms, Update
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.from_images import FromImages, reads_image
from ganrun.core.game import PairPlan
from ganrun.core.pair import Pair
from ganrun.core.traits import Traits, facts
from ganrun.games.not_from_noise import check_generator

FROM = {"a_to_b": "a", "b_to_a": "b"}  # direction -> the stream that is translated
BACK = {"a_to_b": "b_to_a", "b_to_a": "a_to_b"}  # direction -> the one that leads back


class CycleGame(FromImages):
    """CycleGAN: G translates a to b and F b to a, each against its discriminator. Zhu et al. 2017, equation 3.

    Each direction is a pair with its own loss and tricks. The generators also minimise `cycle` times the L1 distance of
    F(G(a)) to a and of G(F(b)) to b (equation 2), and `identity` times that of G(b) to b and of F(a) to a (section
    5.2). One optimiser trains both generators, one both discriminators.
    """

    plans: ClassVar[Mapping[str, PairPlan]] = {
        "a_to_b": PairPlan(generator="generator_a_to_b", discriminator="discriminator_b", stream="b"),
        "b_to_a": PairPlan(generator="generator_b_to_a", discriminator="discriminator_a", stream="a"),
    }
    back: ClassVar[Mapping[str, str]] = BACK
    origins: ClassVar[Mapping[str, str]] = FROM
    grid_a: Tensor  # [N, C, H, W] what the pictures translate
    grid_b: Tensor  # [N, C, H, W]

    def __init__(self, *, pairs: Mapping[str, Pair], shape: BatchShape, cycle: float, identity: float, grid: int):
        """`grid` counts the images of each picture.

        Raises ConfigError for negative weights, for generators that make images from noise, and for discriminators that
        see an image beside its input.
        """
        super().__init__()
        for name, weight in (("cycle", cycle), ("identity", identity)):
            if weight < 0:
                raise ConfigError(f".{name}", str(weight), "a weight from 0 up", f".{name}=0")
        self.pairs = nn.ModuleDict(pairs)
        for pair in self.named_pairs().values():
            check_generator(pair.generator)
            if reads_image(pair.discriminator):
                found, expected = (
                    "it sees an image beside the one that it was made from",
                    "one that sees an image alone",
                )
                raise ConfigError("model.discriminator", found, expected, "model=translation, or game=paired")
        self.shape, self.cycle, self.identity = shape, cycle, identity
        self.images = min(grid, shape.images)
        self.objectives = {"discriminator": self.discriminator, "generator": self.generator}

    @property
    def traits(self) -> Traits:  # type: ignore[override]
        """Fakes are made from images, not from noise, and have no labels."""
        given = facts(Fact.CURRENT, Fact.SINGLE_SCALE, Fact.SAME_SIZE, Fact.UNLABELLED, Fact.IMAGE_ALONE)
        return Traits(provides=given)

    def networks(self, player: str) -> Mapping[str, nn.Module]:
        return {name: getattr(pair, player) for name, pair in self.named_pairs().items()}

    def given(self, direction: str, batches: Batches) -> Tensor:
        """The images of the other domain. [B, C, H, W]"""
        return batches[FROM[direction]].images

    def wanted(self, update: Update) -> Mapping[str, BatchShape]:
        return dict.fromkeys(self.streams(), update.shape)

    def discriminator(self, update: Update, batches: Batches, fakes: Mapping[str, Fakes]) -> Outcome:
        """Both discriminators: each tells the images of its domain from translations into it."""
        outcomes = {}
        for name, pair in self.named_pairs().items():
            with torch.no_grad():
                fake = self._translated(name, self.given(name, batches))
            outcomes[name] = pair.discriminator_outcome(update, batches[self.plans[name].stream].images, fake)
        return self.merged(outcomes)

    def generator(self, update: Update, batches: Batches, fakes: Mapping[str, Fakes]) -> Outcome:
        """Both generators: each fools its discriminator, and together they lead back to where they started."""
        outcomes, cycle, identity = {}, [], []
        for name, pair in self.named_pairs().items():
            source, target = self.given(name, batches), batches[self.plans[name].stream].images
            fake = self._translated(name, source)
            outcomes[name] = pair.generator_outcome(update, target if pair.paired(update) else None, fake)
            cycle.append(F.l1_loss(self._translated(BACK[name], fake), source))
            if self.identity:
                identity.append(F.l1_loss(self._translated(name, target), target))
        terms: Terms = {"cycle": self.cycle * torch.stack(cycle).sum()} if self.cycle else {}
        if identity:
            terms["identity"] = self.identity * torch.stack(identity).sum()
        return self.merged(outcomes, terms)

    @torch.no_grad()
    def bind(self, batches: Batches) -> None:
        for stream in self.streams():
            self.register_buffer(f"grid_{stream}", batches[stream].images[: self.images].clone())
        with torch.autocast(self.grid_a.device.type, enabled=False):
            for name, pair in self.named_pairs().items():
                fake = self._translated(name, self.given(name, batches))
                pair.bind(batches[self.plans[name].stream].images, fake)
        self._scheduled = None

    @torch.no_grad()
    def sample(self, condition: Condition = UNCONDITIONAL) -> Tensor:
        """Translations from a to b of the same images every time, or of the condition's. [N, C, H, W] in [-1, 1]"""
        given = self.grid_a if condition.image is None else condition.image
        return self._pictured("a_to_b", given)

    @torch.no_grad()
    def pictures(self) -> Mapping[str, Tensor]:
        """For each direction: image, translation, reconstruction. [rows, 3, C, H, W] in [-1, 1]"""
        found = {}
        for name, stream in FROM.items():
            image: Tensor = getattr(self, f"grid_{stream}")
            translated = self._pictured(name, image)
            found[name] = torch.stack([image, translated, self._pictured(BACK[name], translated)], 1)
        return found

    def condition_of(self, batches: Batches) -> Condition:
        """The images that are translated. [B, C, H, W]"""
        return Condition(image=batches["a"].images)

    @torch.no_grad()
    def draw(self, count: int, condition: Condition = UNCONDITIONAL) -> Tensor:
        """Translations from a to b of the condition's images, or of those of the pictures. [count, C, H, W]"""
        given = self.grid_a if condition.image is None else condition.image.to(self.grid_a.device)
        return self.translate("a_to_b", given[torch.arange(count, device=given.device) % len(given)])
