"""Tricks on what the discriminator is asked to answer. All take and give how sure it should be that an image is real,
so they mean the same in any order; only `Flip` changes which number stands for real."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ganrun.core.context import Targets
from ganrun.core.facts import Fact
from ganrun.core.traits import Traits, claims, facts
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

    traits = Traits(needs=facts(Fact.TARGETS), claims=claims("the targets of reals", "the targets of fakes"))

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

    traits = Traits(needs=facts(Fact.TARGETS), claims=claims("the targets of reals"))

    def __init__(self, *, real: float):
        super().__init__()
        self.real = real

    def targets(self, targets: Targets) -> Targets:
        return Targets(targets.real * self.real, targets.fake * self.real)  # 0 stays 0; a swapped 1 is smoothed too


class NoisyLabels(Trick):
    """Ask of an image what is asked of the other kind, with probability `p`; discriminator only. ganhacks, number 6.

    By image, not by batch: int(p * batch) swaps would be none at all in a small batch. Targets are taken from the other
    side rather than mirrored, so that what other tricks make of 1 and 0 keeps its meaning, before or after.
    """

    traits = Traits(needs=facts(Fact.TARGETS))
    swapped: Tensor  # [] swaps in the last discriminator update

    def __init__(self, *, p: float):
        super().__init__()
        if not 0 <= p < 0.5:
            raise Refused(
                "tricks.noisy_labels.p", f"{p}", "0 <= p < 0.5, or D learns the inverse", "tricks.noisy_labels.p=0.05"
            )
        self.p = p
        self.register_buffer("swapped", torch.zeros(()))

    def targets(self, targets: Targets) -> Targets:
        real, fake = targets
        swap_real, swap_fake = torch.rand_like(real) < self.p, torch.rand_like(fake) < self.p
        self.swapped.copy_(swap_real.sum() + swap_fake.sum())
        return Targets(torch.where(swap_real, fake, real), torch.where(swap_fake, real, fake))

    def gauges(self) -> Mapping[str, Tensor]:
        return {"swapped": self.swapped}


class Flip(Trick):
    """Generated is 1 and real is 0, for both players. A relabelling: it negates the discriminator's logit.

    Not ganhacks number 2, which is the non-saturating loss.
    """

    traits = Traits(needs=facts(Fact.TARGETS))

    def encode(self, targets: Targets) -> Targets:
        return Targets(1 - targets.real, 1 - targets.fake)
