"""Target labels of the discriminator: smoothing, noise, and which number means real.

Targets are probabilities of being real until `Flip` encodes them, so these tricks do the same in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ganrun.core import across, limits
from ganrun.core.context import BatchShape, Context, Targets
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.traits import Diagnostic, Level, Traits, facts, keys
from ganrun.core.trick import Trick


def _uniform(like: Tensor, low: float, high: float) -> Tensor:
    return torch.rand_like(like) * (high - low) + low


def _range(name: str, bounds: list[float]) -> tuple[float, float]:
    if len(bounds) != 2 or bounds[0] > bounds[1]:
        raise ConfigError(f".{name}", str(bounds), "a low and a high number", f".{name}=[0.9,1.0]")
    return bounds[0], bounds[1]


class SoftLabels(Trick):
    """Soft labels: random targets in place of 1 and 0. Chintala et al. 2016 (ganhacks), number 6.

    A target of 1 becomes U(`real`), a target of 0 becomes U(`fake`), drawn anew for each image; in D's loss only.
    """

    traits = Traits(
        needs=facts(Fact.TARGETS),
        prefers=facts(Fact.PROBABILITY),
        sets=keys("the targets of reals", "the targets of fakes"),
    )

    def __init__(self, *, real: list[float], fake: list[float]):
        """Raises ConfigError for bounds that are not a low and a high number."""
        super().__init__()
        self.real, self.fake = _range("real", real), _range("fake", fake)

    def targets(self, targets: Targets) -> Targets:
        return Targets(self._soften(targets.real), self._soften(targets.fake))

    def _soften(self, target: Tensor) -> Tensor:
        return target * _uniform(target, *self.real) + (1 - target) * _uniform(target, *self.fake)

    def diagnostics(self, shape: BatchShape) -> Iterable[Diagnostic]:
        """Note softened fakes: the best D is (a p_data + b p_g) / (p_data + p_g). Salimans et al. 2016, section 3.4."""
        low, high = self.fake
        if (low, high) != (0, 0):
            text = f"fake targets of {low:g} to {high:g} put p_g into the numerator of the best D"
            yield Diagnostic("C9", Level.NOTE, f"{text}. Try: tricks=[one_sided_smoothing] for smoothing that does not")


class OneSidedSmoothing(Trick):
    """One-sided label smoothing: the target of reals is `real`, not 1. Salimans et al. 2016, section 3.4.

    Fakes keep 0: smoothing fakes too would put p_g into the numerator of the optimal discriminator.
    """

    traits = Traits(needs=facts(Fact.TARGETS), prefers=facts(Fact.PROBABILITY), sets=keys("the targets of reals"))

    def __init__(self, *, real: float):
        super().__init__()
        self.real = real

    def targets(self, targets: Targets) -> Targets:
        return Targets(targets.real * self.real, targets.fake * self.real)  # 0 stays 0; swapped 1s too are smoothed


class AdaptiveSmoothing(Trick):
    """Adaptive label smoothing: the lower D's loss, the more its targets are smoothed. After Utkarsh Desai 2018.

    The rule is ours; none is published. The target of reals is 1 - smooth, smooth = largest * clip(1 - loss / chance,
    0, 1). `loss` is a running mean of D's loss with hard targets, so smoothing does not act on its own measure;
    `chance` is the loss of a D that gives every image the probability 1/2.
    """

    traits = Traits(needs=facts(Fact.TARGETS), prefers=facts(Fact.PROBABILITY), sets=keys("the targets of reals"))
    loss: Tensor  # [] running mean
    smooth: Tensor  # [] at the last update

    def __init__(self, *, largest: float, chance: float, decay: float):
        """Raises ConfigError for `largest` or `decay` outside [0, 1), and for a `chance` that is not above 0."""
        super().__init__()
        limits.number(".largest", largest, 0, 1)
        limits.number(".decay", decay, 0, 1)
        if not chance > 0:
            raise ConfigError(".chance", f"{chance}", "a number above 0", ".chance=1.3863")
        self.largest, self.chance, self.decay = largest, chance, decay
        self.register_buffer("loss", torch.tensor(float(chance)))
        self.register_buffer("smooth", torch.zeros(()))

    def observe(self, context: Context) -> None:
        assert context.on_real is not None
        pair, real, fake = context.pair, context.on_real.score, context.on_fake.score
        hard = pair.tricks.fold(Trick.encode, Targets.clean(real, fake))
        self.loss.lerp_(across.mean(pair.loss.discriminator(real, fake, hard)), 1 - self.decay)
        self.smooth.copy_(self.largest * (1 - self.loss / self.chance).clamp(0, 1))

    def targets(self, targets: Targets) -> Targets:
        largest = 1 - self.smooth
        return Targets(targets.real * largest, targets.fake * largest)  # 0 stays 0; swapped 1s too are smoothed

    def metrics(self) -> Mapping[str, Tensor]:
        return {"loss": self.loss, "smooth": self.smooth}


class NoisyLabels(Trick):
    """Noisy labels: with probability `p` an image has the other kind's target. Chintala et al. 2016 (ganhacks), 6.

    In D's loss only. Drawn for each image: int(p * batch) swaps would be none in a small batch. Targets are exchanged
    with the other kind's rather than mirrored, so that targets softened by other tricks keep their meaning.
    """

    traits = Traits(needs=facts(Fact.TARGETS), prefers=facts(Fact.PROBABILITY))
    swapped: Tensor  # [] swaps in the last discriminator update

    def __init__(self, *, p: float):
        """Raises ConfigError for a probability outside [0, 1]."""
        super().__init__()
        if not 0 <= p <= 1:
            raise ConfigError(".p", f"{p}", "0 <= p <= 1", ".p=0.05")
        self.p = p
        self.register_buffer("swapped", torch.zeros(()))

    def targets(self, targets: Targets) -> Targets:
        real, fake = targets
        swap_real, swap_fake = torch.rand_like(real) < self.p, torch.rand_like(fake) < self.p
        self.swapped.copy_(across.total(swap_real.sum() + swap_fake.sum()))
        return Targets(torch.where(swap_real, fake, real), torch.where(swap_fake, real, fake))

    def metrics(self) -> Mapping[str, Tensor]:
        return {"swapped": self.swapped}

    def diagnostics(self, shape: BatchShape) -> Iterable[Diagnostic]:
        """Refuse p >= 0.5, from which on D learns the inverse, and warn of p > 0.2."""
        text, remedy = f"p = {self.p}", "Try: .p=0.05"
        if self.p >= 0.5:
            yield Diagnostic("C10", Level.ERROR, f"{text} teaches D the inverse, or nothing. {remedy}")
        elif self.p > 0.2:
            yield Diagnostic("C10", Level.WARNING, f"{text} leaves D little to learn. {remedy}")
        yield Diagnostic(
            "C11", Level.NOTE, f"{text} swaps {2 * shape.images * self.p:.3g} of {2 * shape.images} targets"
        )


class Flip(Trick):
    """Flipped labels: 1 means fake and 0 means real, for both players. After Utkarsh Desai 2018.

    A relabelling that negates D's logit. Not ganhacks number 2, which is the non-saturating loss.
    """

    traits = Traits(needs=facts(Fact.TARGETS), prefers=facts(Fact.PROBABILITY))

    def encode(self, targets: Targets) -> Targets:
        return Targets(1 - targets.real, 1 - targets.fake)

    def diagnostics(self, shape: BatchShape) -> Iterable[Diagnostic]:
        """Note that it changes nothing: the cross-entropy of a score for t is that of minus the score for 1 - t."""
        yield Diagnostic("C41", Level.NOTE, "a relabelling; it negates D's logit and changes nothing else")
