"""Discriminator rejection sampling (DRS): D chooses among the samples of G. Azadi et al. 2019 (arXiv 1810.06758)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ganrun.core.context import Condition
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.from_noise import Drawing, FromNoise
from ganrun.core.images import largest
from ganrun.core.pair import Pair
from ganrun.core.seeding import generator
from ganrun.run.draw import BATCH, latents

PERCENTILE = 95.0  # of F at which a sample is accepted every second time, as in the paper's mixture of Gaussians
MEASURED = 10_000  # samples whose logits are measured before the first is chosen, shared by the classes
LEAST = 10 * BATCH  # of them for each class
EPS = 1e-8  # keeps F finite at the largest logit


def acceptance(logits: Tensor, largest: Tensor, gamma: float) -> Tensor:
    """The probability of keeping a sample with this logit of D: sigmoid(F - gamma), their section 3. [B]

    F = d - log(1 - exp(d - eps)) with d = logit - largest <= 0; without gamma that is p_data / (M p_g) for the best D.
    """
    return torch.sigmoid(_shifted(logits, largest) - gamma)


def _shifted(logits: Tensor, largest: Tensor) -> Tensor:
    """F of logits [B] in float64. [B]"""
    below = (logits.double() - largest.double()).clamp(max=0)
    return below - torch.log(-torch.expm1(below - EPS))


@dataclass(frozen=True, slots=True)
class Threshold:
    """What logits are compared with: the largest that was measured, and the percentile gamma of F."""

    largest: Tensor  # []
    gamma: float

    @classmethod
    def of(cls, logits: Tensor, percentile: float) -> Threshold:
        """Measured on these logits [N] of samples."""
        shifted = _shifted(logits, logits.max())
        return cls(logits.max(), float(torch.quantile(shifted, percentile / 100)))

    def accepted(self, logits: Tensor, uniform: Tensor) -> tuple[Tensor, Threshold]:
        """Which samples are kept, from logits [B] and numbers U(0, 1) [B] in their order; the threshold after them.

        A logit above the largest becomes the largest, as in their algorithm. [B] of truths
        """
        largest = torch.maximum(torch.cummax(logits, 0).values, self.largest)
        return uniform < acceptance(logits, largest, self.gamma), Threshold(largest[-1], self.gamma)


def check(pair: Pair, asked: str = "reject") -> None:
    """Raises ConfigError where D's score is not the logit of a probability that one image is real.

    `asked` is the setting that needs it.
    """
    tricks: dict[str, Any] = dict(pair.tricks.items())
    several = [name for name, trick in tricks.items() if Fact.ONE_IMAGE in trick.traits.invalidates]
    if several:
        found = f"this run's D scores several images together, by its trick {several[0]}"
        raise ConfigError(asked, found, "a D that scores each image", f"leaving {asked} out")
    if Fact.PROBABILITY not in pair.loss.traits.provides:
        found = f"the scores of this run's D are no logits of a probability: its loss is {type(pair.loss).__name__}"
        expected = "a run whose D is trained as a classifier, with loss=nonsaturating or loss=minimax"
        raise ConfigError(asked, found, expected, f"leaving {asked} out")


class Rejection:
    """Samples of one game that D has accepted, class by class, and how many it was shown for them.

    Unlike the paper's gamma, which is taken anew of each batch, that of a class is measured once, so that samples
    do not depend on batches.
    """

    def __init__(self, game: FromNoise, drawing: Drawing, *, seed: int, percentile: float):
        """Raises ConfigError as `check` does."""
        self.game, self.drawing, self.seed, self.percentile = game, drawing, seed, percentile
        self.pair = next(iter(game.named_pairs().values()))
        check(self.pair)
        self.seen = self.kept = 0

    def batches(self, count: int, labels: Tensor | None = None) -> Iterator[Tensor]:
        """Accepted samples, in the order of the labels [count], those of each class in a row. [B, C, H, W]"""
        if labels is None:
            yield from self._of_class(count, None, MEASURED)
            return
        kinds, counts = torch.unique_consecutive(labels, return_counts=True)
        for label, many in zip(kinds.tolist(), counts.tolist(), strict=True):
            yield from self._of_class(many, label, max(LEAST, MEASURED // len(kinds)))

    def _of_class(self, count: int, label: int | None, measured: int) -> Iterator[Tensor]:
        name = "any" if label is None else str(label)
        numbers = range(math.ceil(measured / BATCH))
        logits = torch.cat([self._judged(number, f"measure/{name}", label)[1] for number in numbers])
        if not logits.isfinite().all():
            raise ConfigError("reject", "D scores some samples with what is no number", "a D that scores all of them",
                              "leaving reject out, or another checkpoint")  # fmt: skip
        threshold, left, number = Threshold.of(logits, self.percentile), count, 0
        while left:
            images, logits = self._judged(number, f"draw/{name}", label)
            uniform = torch.rand(BATCH, generator=generator(self.seed, f"accept/{name}", step=number))
            keep, threshold = threshold.accepted(logits, uniform)
            places = keep.nonzero().flatten()[:left]
            self.seen += int(places[-1]) + 1 if len(places) == left else BATCH
            self.kept += len(places)
            left, number = left - len(places), number + 1
            yield images[places]

    @torch.no_grad()
    def _judged(self, number: int, stream: str, label: int | None) -> tuple[Tensor, Tensor]:
        """A batch of samples and D's logits of them. [BATCH, C, H, W], [BATCH]"""
        condition = Condition(labels=None if label is None else torch.full((1,), label))
        latent = latents(self.game, self.drawing, number, seed=self.seed, stream=stream, condition=condition)
        made = self.drawing.made(latent)
        logits = self.pair.log_odds(made, latent.condition)
        return largest(made).cpu(), logits.flatten(1).mean(1).cpu() if logits.dim() > 1 else logits.cpu()
