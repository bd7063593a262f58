"""Images from noise and a sentence: what tells D whether both belong together, and G what a sentence leaves open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from ganrun.core import across, limits
from ganrun.core.context import (
    UNCONDITIONAL,
    Batch,
    Batches,
    BatchShape,
    Condition,
    Examples,
    Latent,
    Terms,
)
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.images import Images
from ganrun.core.pair import Pair
from ganrun.core.traits import Traits, facts
from ganrun.games.latent import COLUMNS, LatentGame

KEPT = 512  # captions of the data that a run keeps, for samples that are asked for without a sentence
ROWS = 8  # of the grid, one for each sentence


class TextGame(LatentGame):
    """Text to image. Reed et al. 2016 (arXiv 1605.05396); Zhang et al. 2017 (StackGAN), equations 3 and 4.

    D's loss is the mean of two: reals with their captions against fakes, and against reals with captions of others.
    G also minimises `kl` times the divergence of the codes of sentences from N(0, I).
    """

    captioned: ClassVar[bool] = True
    instead: ClassVar[str] = "game=text_pyramid"

    captions: Tensor  # [K, L] or [K, E]
    grid_text: Tensor  # [N, L] or [N, E] the sentence of each image of the grid

    def __init__(
        self, *, pairs: Mapping[str, Pair], shape: BatchShape, prior: str, grid: int, kl: float, stage1: str | None
    ):
        """`stage1` is the run whose generator stage II begins with; what it is stands in `model.generator.first`.

        Raises ConfigError for networks that read no sentences, and for noise that is not normal.
        """
        super().__init__(pairs=pairs, shape=shape, prior=prior, grid=grid)
        limits.number(".kl", kl, 0)
        self.kl, self.stage1 = kl, stage1
        for role in ("generator", "discriminator"):
            if not hasattr(getattr(self.pair, role), "text"):
                found, remedy = "it reads no sentences", "game=latent, or model=stackgan"
                raise ConfigError(f"model.{role}", found, "a network that does", remedy)
        if prior != "normal":
            found, expected = f"{prior}, but a part of the noise is that of the augmentation", "normal"
            raise ConfigError(".prior", found, expected, ".prior=normal")
        if shape.images < 2:
            raise ConfigError("batch", "1 image, whose caption is that of no other", "2 or more", "batch=2")
        self.rows = min(ROWS, max(1, grid // COLUMNS))
        self.grid = self.grid[: grid // self.rows].repeat(self.rows, 1)  # the noise of a column is one

    @property
    def traits(self) -> Traits:  # type: ignore[override]
        """Fakes are made from noise and sentences."""
        given = facts(Fact.LATENT, Fact.CURRENT, Fact.SINGLE_SCALE, Fact.SAME_SIZE, Fact.IMAGE_ALONE)
        return Traits(provides=given, invalidates=facts(Fact.UNLABELLED))

    def given(self, batch: Batch) -> Condition:
        """The captions of a batch, and those of other images."""
        return caption_of(batch.condition, mismatch=True)

    def own_terms(self, fake: Images, latent: Latent) -> Terms:
        """The divergence of the codes of the sentences that the fakes were made for. []"""
        own = super().own_terms(fake, latent)
        if not self.kl:
            return own
        moments = self.pair.generator.moments(latent.condition.tensor)  # type: ignore[operator]
        return own | {"kl": self.kl * kl_divergence(*moments)}

    @torch.no_grad()
    def bind(self, batches: Batches) -> None:
        captions = caption_of(batches["images"].condition).tensor
        assert captions is not None, "text to image was given images without captions"
        for name, count in (("captions", KEPT), ("grid_text", len(self.grid))):
            self.register_buffer(name, captions.new_zeros(count, captions.shape[1]))
        super().bind(batches)

    @torch.no_grad()
    def on_data(self, examples: Mapping[str, Examples]) -> None:
        """Keep captions of the data, for samples without a sentence, and the sentences of the grid."""
        whole = caption_of(examples["images"].condition).tensor
        assert whole is not None
        spread = torch.arange(KEPT) * len(whole) // KEPT if len(whole) > KEPT else torch.arange(KEPT) % len(whole)
        kept = whole[spread]
        self.captions.copy_(kept)
        different = torch.unique(kept, dim=0)
        rows = self.rows or 1
        chosen = different[torch.arange(rows) * len(different) // rows]
        self.grid_text.copy_(chosen.repeat_interleave(len(self.grid) // len(chosen), 0))
        super().on_data(examples)

    def grid_condition(self) -> Tensor | None:
        """The sentence of each image of the grid. [N, L] or [N, E]"""
        return self.grid_text

    def condition_of(self, batches: Batches) -> Condition:
        """The captions of the reals. [B, L] or [B, E]"""
        return caption_of(batches["images"].condition)

    def latent(self, noise: Tensor, condition: Condition = UNCONDITIONAL) -> Latent:
        """As `FromNoise` has it, of noise [B, Z]: sentences that are not given are captions of the data."""
        captions = caption_of(condition)
        if captions.tensor is None:
            drawn = torch.randint(KEPT, (len(noise),), device=noise.device)
            captions = sentence(self.captions.index_select(0, drawn))
        return super().latent(noise, captions)

    def _fakes(self, shape: BatchShape, condition: Condition) -> tuple[Latent, Images]:
        return super()._fakes(shape, caption_of(condition))


def sentence(text: Tensor) -> Condition:
    """The condition that these sentences are: words by number [B, L] int64, or vectors [B, E]."""
    return Condition(embedding=text) if text.is_floating_point() else Condition(text=text)


def caption_of(condition: Condition, *, mismatch: bool = False) -> Condition:
    """The sentences of a condition alone; with `mismatch`, beside those of other images. [B, L] or [B, E]"""
    alone = Condition(text=condition.text, embedding=condition.embedding)
    if not mismatch or alone.tensor is None:
        return alone
    return alone._replace(mismatch=_of_others(alone.tensor))


def _of_others(given: Tensor) -> Tensor:
    (others,) = across.on_the_whole(lambda rows: [mismatched(*rows)], [given])
    return others


def mismatched(given: Tensor) -> Tensor:
    """For each row the next one, the first coming after the last, that is not equal to it. [B, ...] -> [B, ...]

    Where all rows are equal it is the next one. No row meets itself; nothing here waits for the device.
    """
    count = len(given)
    flat = given.flatten(1)
    differs = (flat[:, None] != flat[None]).any(2)  # [B, B]
    rows = torch.arange(count, device=given.device)
    others = (rows[:, None] + torch.arange(1, count, device=given.device)) % count  # [B, B - 1] in order of distance
    first = differs.gather(1, others).int().argmax(1, keepdim=True)  # of equal ones the first; 0 where none differs
    return given.index_select(0, others.gather(1, first).squeeze(1))


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """The divergence of N(mean, variance) from N(0, 1), the mean over all numbers. [B, C], [B, C] -> []

    -(1 + log s^2 - m^2 - s^2) / 2. Zhang et al. 2017, equation 2; a mean and no sum in miscc/utils.py of the authors.
    """
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).mean()
