"""Translation with pairs of images: G, and a D that may see the input beside the image. Isola et al. 2017."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganrun.core import limits
from ganrun.core.context import UNCONDITIONAL, Batch, Batches, BatchShape, Condition, Fakes, Outcome, Update
from ganrun.core.facts import Fact
from ganrun.core.from_images import FromImages, reads_image
from ganrun.core.pair import Pair
from ganrun.core.traits import Traits, facts
from ganrun.games.not_from_noise import check_generator


class PairedGame(FromImages):
    """Pix2pix: G makes targets from inputs, and D tells them from real targets. Isola et al. 2017, equation 4.

    G also minimises `l1` times the L1 distance of its output to the target (equation 3). A discriminator that reads an
    image sees the input beside the target or the output (equation 1); any other sees these alone (equation 2).
    """

    shares_fakes: ClassVar[bool] = True
    needs_inputs: ClassVar[bool] = True
    origins: ClassVar[Mapping[str, str]] = {"main": "images"}
    grid_input: Tensor  # [N, C, H, W] what the pictures translate
    grid_target: Tensor  # [N, C, H, W]

    def __init__(self, *, pairs: Mapping[str, Pair], shape: BatchShape, l1: float, grid: int):
        """`grid` counts the images of each picture.

        Raises ConfigError for a negative weight, and for a generator that makes images from noise.
        """
        super().__init__()
        limits.number(".l1", l1, 0)
        self.pairs = nn.ModuleDict(pairs)
        check_generator(self.pair.generator)
        self.shape, self.l1, self.images = shape, l1, min(grid, shape.images)
        self.objectives = {"discriminator": self.discriminator, "generator": self.generator}

    @property
    def traits(self) -> Traits:  # type: ignore[override]
        """Fakes are made from images, not from noise. A D that reads the input judges none of them alone."""
        alone = not reads_image(self.pair.discriminator)
        given = facts(Fact.CURRENT, Fact.SINGLE_SCALE, Fact.SAME_SIZE, Fact.UNLABELLED, *[Fact.IMAGE_ALONE] * alone)
        return Traits(provides=given)

    @property
    def pair(self) -> Pair:
        """The only pair."""
        return self._pair("main")

    def networks(self, player: str) -> Mapping[str, nn.Module]:
        return {player: getattr(self.pair, player)}

    def given(self, direction: str, batches: Batches) -> Tensor:
        """The inputs. [B, C, H, W]"""
        return _inputs(batches["images"])

    def wanted(self, update: Update) -> Mapping[str, BatchShape]:
        return {} if update.given_fakes else {"images": update.shape}  # or they come with the fakes made from them

    def discriminator(self, update: Update, batches: Batches, fakes: Mapping[str, Fakes]) -> Outcome:
        """D tells targets from outputs, both beside their input where it reads one."""
        batch = batches["images"]
        with torch.set_grad_enabled(update.share_fakes):
            fake = self._translated("main", _inputs(batch))
        outcome = self.pair.discriminator_outcome(update, batch.images, fake, condition=batch.condition)
        shared = {"main": Fakes(fake, None, batch.images, batch.condition)} if update.share_fakes else {}
        return replace(self.merged({"main": outcome}), fakes=shared)

    def generator(self, update: Update, batches: Batches, fakes: Mapping[str, Fakes]) -> Outcome:
        """G fools D, and comes near the target of each input."""
        if fakes:
            fake, _, target, condition = fakes["main"]
        else:
            target, condition = batches["images"]
            fake = self._translated("main", _inputs(batches["images"]))
        assert isinstance(fake, Tensor) and isinstance(target, Tensor)
        real = target if self.pair.paired(update) else None
        outcome = self.pair.generator_outcome(update, real, fake, condition=condition)
        return self.merged({"main": outcome}, {"l1": self.l1 * F.l1_loss(fake, target)} if self.l1 else {})

    @torch.no_grad()
    def bind(self, batches: Batches) -> None:
        batch = batches["images"]
        self.register_buffer("grid_input", _inputs(batch)[: self.images].clone())
        self.register_buffer("grid_target", batch.images[: self.images].clone())
        with torch.autocast(self.grid_input.device.type, enabled=False):
            self.pair.bind(batch.images, self._translated("main", _inputs(batch)), batch.condition)
        self._scheduled = None

    @torch.no_grad()
    def sample(self, condition: Condition = UNCONDITIONAL) -> Tensor:
        """Outputs for the same inputs every time, or for the condition's. [N, C, H, W] in [-1, 1]"""
        return self._pictured("main", self.grid_input if condition.image is None else condition.image)

    @torch.no_grad()
    def pictures(self) -> Mapping[str, Tensor]:
        """Input, output, target. [rows, 3, C, H, W] in [-1, 1]"""
        return {"pairs": torch.stack([self.grid_input, self.sample(), self.grid_target], 1)}

    def condition_of(self, batches: Batches) -> Condition:
        """The inputs. [B, C, H, W]"""
        return Condition(image=_inputs(batches["images"]))

    @torch.no_grad()
    def draw(self, count: int, condition: Condition = UNCONDITIONAL) -> Tensor:
        """Outputs for the condition's inputs, or for those of the pictures. [count, C, H, W]"""
        given = self.grid_input if condition.image is None else condition.image.to(self.grid_input.device)
        return self.translate("main", given[torch.arange(count, device=given.device) % len(given)])


def _inputs(batch: Batch) -> Tensor:
    assert batch.condition.image is not None, "the data have no inputs"
    return batch.condition.image
