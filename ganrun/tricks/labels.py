"""Tricks on what the discriminator is asked to answer. All take and give how sure it should be that an image is real,
so they mean the same in any order; only `Flip` changes which number stands for real."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ganrun.core.context import Stage, Targets
from ganrun.core.facts import Fact
from ganrun.core.traits import Finding, Level, Traits, claims, facts
from ganrun.core.trick import Trick
from ganrun.errors import Refused


def _uniform(like: Tensor, low: float, high: float) -> Tensor:
    return torch.rand_like(like) * (high - low) + low


def _range(where: str, bounds: list[float]) -> tuple[float, float]:
    if len(bounds) != 2 or bounds[0] > bounds[1]:
        raise Refused(where, str(bounds), "a low and a high number", f"{where}=[0.9,1.0]")
    return bounds[0], bounds[1]


class SoftLabels(Trick):
    """Ask for a random confidence instead of certainty. Soumith Chintala's ganhacks, number 6.

    A target of 1 becomes U(`real`), a target of 0 becomes U(`fake`), drawn anew for each image; discriminator only.
    """

    traits = Traits(
        needs=facts(Fact.TARGETS),
        prefers=facts(Fact.PROBABILITY),
        claims=claims("the targets of reals", "the targets of fakes"),
    )

    def __init__(self, *, real: list[float], fake: list[float]):
        super().__init__()
        self.real, self.fake = _range("tricks.soft_labels.real", real), _range("tricks.soft_labels.fake", fake)

    def targets(self, targets: Targets) -> Targets:
        return Targets(self._soften(targets.real), self._soften(targets.fake))

    def _soften(self, target: Tensor) -> Tensor:
        return target * _uniform(target, *self.real) + (1 - target) * _uniform(target, *self.fake)


class OneSidedSmoothing(Trick):
    """Reals are asked for `real` instead of 1; fakes stay at 0. Salimans et al. 2016, section 3.4.

    Smoothing fakes too would put p_g into the numerator of the optimal discriminator.
    """

    traits = Traits(needs=facts(Fact.TARGETS), prefers=facts(Fact.PROBABILITY), claims=claims("the targets of reals"))

    def __init__(self, *, real: float):
        super().__init__()
        self.real = real

    def targets(self, targets: Targets) -> Targets:
        return Targets(targets.real * self.real, targets.fake)


class NoisyLabels(Trick):
    """Swap each target with probability `p`, image by image; discriminator only. ganhacks, number 6.

    By image, not by batch: int(p * batch) swaps would be none at all in a small batch.
    """

    traits = Traits(needs=facts(Fact.TARGETS), prefers=facts(Fact.PROBABILITY))
    swapped: Tensor  # [] swaps in the last discriminator update

    def __init__(self, *, p: float):
        super().__init__()
        if not 0 <= p <= 1:
            raise Refused("tricks.noisy_labels.p", f"{p}", "0 <= p <= 1", "tricks.noisy_labels.p=0.05")
        self.p = p
        self.register_buffer("swapped", torch.zeros(()))

    def targets(self, targets: Targets) -> Targets:
        masks = [torch.rand_like(target) < self.p for target in targets]
        self.swapped.copy_(masks[0].sum() + masks[1].sum())
        return Targets(*(torch.where(mask, 1 - target, target) for mask, target in zip(masks, targets, strict=True)))

    def gauges(self) -> Mapping[str, Tensor]:
        return {"swapped": self.swapped}

    def remarks(self, stage: Stage) -> Iterable[Finding]:
        """From one half on D learns the inverse; well before that it learns little."""
        text, remedy = f"tricks.noisy_labels: p = {self.p}", "Try: tricks.noisy_labels.p=0.05"
        if self.p >= 0.5:
            yield Finding("C10", Level.ERROR, f"{text} teaches D the inverse, or nothing. {remedy}")
        elif self.p > 0.2:
            yield Finding("C10", Level.WARNING, f"{text} leaves D little to learn. {remedy}")
        yield Finding("C11", Level.NOTE, f"{text} swaps {2 * stage.images * self.p:.3g} of {2 * stage.images} targets")


class Flip(Trick):
    """Generated is 1 and real is 0, for both players. A relabelling: it negates the discriminator's logit.

    Not ganhacks number 2, which is the non-saturating loss.
    """

    traits = Traits(needs=facts(Fact.TARGETS), prefers=facts(Fact.PROBABILITY))

    def encode(self, targets: Targets) -> Targets:
        return Targets(1 - targets.real, 1 - targets.fake)
