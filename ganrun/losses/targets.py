"""Losses with target labels: the two forms of the original GAN's loss, and least squares."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ganrun.core.context import Targets
from ganrun.core.facts import Fact
from ganrun.core.loss import Loss
from ganrun.core.traits import Traits, facts

WITH_TARGETS = facts(Fact.TARGETS, Fact.UNDECIDED, Fact.FAKES_ALONE)


class Minimax(Loss):
    """The saturating loss: both players share one value function. Goodfellow et al. 2014, equation 1.

    D minimises -E log D(x) - E log(1 - D(G(z))), G minimises E log(1 - D(G(z))), on logits: no logarithm of a sigmoid.
    """

    traits = Traits(provides=WITH_TARGETS | facts(Fact.PROBABILITY), needs=facts(Fact.SCORE))

    def discriminator(self, real: Tensor, fake: Tensor, targets: Targets) -> Tensor:
        cross_entropy = F.binary_cross_entropy_with_logits
        return cross_entropy(real, targets.real) + cross_entropy(fake, targets.fake)

    def generator(self, fake: Tensor, real: Tensor | None, targets: Targets) -> Tensor:
        return -F.binary_cross_entropy_with_logits(fake, targets.fake)

    def probability(self, score: Tensor) -> Tensor:
        return score.sigmoid()


class NonSaturating(Minimax):
    """The non-saturating loss: G maximises E log D(G(z)), whose slope lasts. Goodfellow et al. 2014, section 3."""

    def generator(self, fake: Tensor, real: Tensor | None, targets: Targets) -> Tensor:
        return F.binary_cross_entropy_with_logits(fake, targets.real)


class LeastSquares(Loss):
    """LSGAN: half the squared distance to the targets. Mao et al. 2017, equation 9 (a = 0, b = c = 1)."""

    traits = Traits(provides=WITH_TARGETS, needs=facts(Fact.SCORE))

    def discriminator(self, real: Tensor, fake: Tensor, targets: Targets) -> Tensor:
        return (F.mse_loss(real, targets.real) + F.mse_loss(fake, targets.fake)) / 2

    def generator(self, fake: Tensor, real: Tensor | None, targets: Targets) -> Tensor:
        return F.mse_loss(fake, targets.real) / 2

    def probability(self, score: Tensor) -> Tensor:
        return score
