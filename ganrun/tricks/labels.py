"""Tricks on what the discriminator is asked to answer. All take and give how sure it should be that an image is real,
so they mean the same in any order; only `Flip` changes which number stands for real."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ganrun.core import limits
from ganrun.core.context import BatchShape, Context, Targets
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.traits import Diagnostic, Level, Traits, facts, keys
from ganrun.core.trick import Trick


def _uniform(like: Tensor, low: float, high: float) -> Tensor:
    return torch.rand_like(like) * (high - low) + low


def _range(where: str, bounds: list[float]) -> tuple[float, float]:
    if len(bounds) != 2 or bounds[0] > bounds[1]:
        raise ConfigError(where, str(bounds), "a low and a high number", f"{where}=[0.9,1.0]")
    return bounds[0], bounds[1]


class SoftLabels(Trick):
    """Ask for a random confidence instead of certainty. Soumith Chintala's ganhacks, number 6.

    A target of 1 becomes U(`real`), a target of 0 becomes U(`fake`), drawn anew for each image; discriminator only.
    """

    traits = Traits(
        needs=facts(Fact.TARGETS),
        prefers=facts(Fact.PROBABILITY),
        sets=keys("the targets of reals", "the targets of fakes"),
    )

    def __init__(self, *, real: list[float], fake: list[float]):
        super().__init__()
        self.real, self.fake = _range("tricks.soft_labels.real", real), _range("tricks.soft_labels.fake", fake)

    def targets(self, targets: Targets) -> Targets:
        return Targets(self._soften(targets.real), self._soften(targets.fake))

    def _soften(self, target: Tensor) -> Tensor:
        return target * _uniform(target, *self.real) + (1 - target) * _uniform(target, *self.fake)

    def diagnostics(self, shape: BatchShape) -> Iterable[Diagnostic]:
        """Salimans et al. 2016, section 3.4: the optimal D is (a p_data + b p_g) / (p_data + p_g)."""
        low, high = self.fake
        if (low, high) != (0, 0):
            text = f"fake targets of {low:g} to {high:g} put p_g into the numerator of the best D"
            yield Diagnostic("C9", Level.NOTE, f"{text}. Try: tricks=[one_sided_smoothing] for smoothing that does not")


class OneSidedSmoothing(Trick):
    """Reals are asked for `real` instead of 1; fakes stay at 0. Salimans et al. 2016, section 3.4.

    Smoothing fakes too would put p_g into the numerator of the optimal discriminator.
    """

    traits = Traits(needs=facts(Fact.TARGETS), prefers=facts(Fact.PROBABILITY), sets=keys("the targets of reals"))

    def __init__(self, *, real: float):
        super().__init__()
        self.real = real

    def targets(self, targets: Targets) -> Targets:
        return Targets(targets.real * self.real, targets.fake * self.real)  # 0 stays 0; a swapped 1 is smoothed too


class AdaptiveSmoothing(Trick):
    """Smooth the targets of reals the more, the further D is ahead. The rule is ours; none is published.

    Reals are asked for 1 - smooth, smooth = largest * clip(1 - loss / chance, 0, 1). `loss` is a running mean of what D
    would pay for hard targets, so that smoothing does not feed on itself; `chance` is what a D that knows nothing pays.
    """

    traits = Traits(needs=facts(Fact.TARGETS), prefers=facts(Fact.PROBABILITY), sets=keys("the targets of reals"))
    loss: Tensor  # [] running mean
    smooth: Tensor  # [] at the last update

    def __init__(self, *, largest: float, chance: float, decay: float):
        super().__init__()
        where = "tricks.adaptive_smoothing"
        limits.number(f"{where}.largest", largest, 0, 1)
        limits.number(f"{where}.decay", decay, 0, 1)
        if not chance > 0:
            raise ConfigError(f"{where}.chance", f"{chance}", "a number above 0", f"{where}.chance=1.3863")
        self.largest, self.chance, self.decay = largest, chance, decay
        self.register_buffer("loss", torch.tensor(float(chance)))
        self.register_buffer("smooth", torch.zeros(()))

    def observe(self, context: Context) -> None:
        assert context.on_real is not None
        pair, real, fake = context.pair, context.on_real.score, context.on_fake.score
        hard = pair.tricks.fold(Trick.encode, Targets.clean(real, fake))
        self.loss.lerp_(pair.loss.discriminator(real, fake, hard), 1 - self.decay)
        self.smooth.copy_(self.largest * (1 - self.loss / self.chance).clamp(0, 1))

    def targets(self, targets: Targets) -> Targets:
        sure = 1 - self.smooth
        return Targets(targets.real * sure, targets.fake * sure)  # 0 stays 0; a swapped 1 is smoothed too

    def metrics(self) -> Mapping[str, Tensor]:
        return {"loss": self.loss, "smooth": self.smooth}


class NoisyLabels(Trick):
    """Ask of an image what is asked of the other kind, with probability `p`; discriminator only. ganhacks, number 6.

    By image, not by batch: int(p * batch) swaps would be none at all in a small batch. Targets are taken from the other
    side rather than mirrored, so that what other tricks make of 1 and 0 keeps its meaning, before or after.
    """

    traits = Traits(needs=facts(Fact.TARGETS), prefers=facts(Fact.PROBABILITY))
    swapped: Tensor  # [] swaps in the last discriminator update

    def __init__(self, *, p: float):
        super().__init__()
        if not 0 <= p <= 1:
            raise ConfigError("tricks.noisy_labels.p", f"{p}", "0 <= p <= 1", "tricks.noisy_labels.p=0.05")
        self.p = p
        self.register_buffer("swapped", torch.zeros(()))

    def targets(self, targets: Targets) -> Targets:
        real, fake = targets
        swap_real, swap_fake = torch.rand_like(real) < self.p, torch.rand_like(fake) < self.p
        self.swapped.copy_(swap_real.sum() + swap_fake.sum())
        return Targets(torch.where(swap_real, fake, real), torch.where(swap_fake, real, fake))

    def metrics(self) -> Mapping[str, Tensor]:
        return {"swapped": self.swapped}

    def diagnostics(self, shape: BatchShape) -> Iterable[Diagnostic]:
        """From one half on D learns the inverse; well before that it learns little."""
        text, remedy = f"p = {self.p}", "Try: .p=0.05"
        if self.p >= 0.5:
            yield Diagnostic("C10", Level.ERROR, f"{text} teaches D the inverse, or nothing. {remedy}")
        elif self.p > 0.2:
            yield Diagnostic("C10", Level.WARNING, f"{text} leaves D little to learn. {remedy}")
        yield Diagnostic(
            "C11", Level.NOTE, f"{text} swaps {2 * shape.images * self.p:.3g} of {2 * shape.images} targets"
        )


class Flip(Trick):
    """Generated is 1 and real is 0, for both players. A relabelling: it negates the discriminator's logit.

    Not ganhacks number 2, which is the non-saturating loss.
    """

    traits = Traits(needs=facts(Fact.TARGETS), prefers=facts(Fact.PROBABILITY))

    def encode(self, targets: Targets) -> Targets:
        return Targets(1 - targets.real, 1 - targets.fake)

    def diagnostics(self, shape: BatchShape) -> Iterable[Diagnostic]:
        """Whatever the other label tricks ask: cross-entropy of a score for t is that of minus the score for 1 - t."""
        yield Diagnostic("C41", Level.NOTE, "a relabelling; it negates D's logit and changes nothing else")
