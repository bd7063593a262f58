"""Relativistic losses: only differences between scores of reals and of fakes count, for both players."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ganrun.core import across
from ganrun.core.context import Targets
from ganrun.core.facts import Fact
from ganrun.core.loss import Loss
from ganrun.core.traits import Traits, facts


class Relativistic(Loss):
    """RpGAN: each real against a fake of its own. Jolicoeur-Martineau 2018, section 4.1; Huang et al. 2024, equation 2.

    With f(t) = -log(1 + e^-t), D minimises -E f(D(x) - D(G(z))) and G minimises -E f(D(G(z)) - D(x)), where x and z are
    drawn independently and -f is softplus(-t): no logarithm of a sigmoid, so that large differences keep their slope.
    """

    traits = Traits(needs=facts(Fact.SCORE))
    paired = True

    def discriminator(self, real: Tensor, fake: Tensor, targets: Targets) -> Tensor:
        return F.softplus(fake - real).mean()

    def generator(self, fake: Tensor, real: Tensor | None, targets: Targets) -> Tensor:
        assert real is not None
        return F.softplus(real - fake).mean()


class RelativisticAverage(Loss):
    """RaGAN: each image against the mean of the other kind. Jolicoeur-Martineau 2018, section 4.2.

    With a = D(x) - E D(G(z)) and b = D(G(z)) - E D(x), D minimises -E log s(a) - E log(1 - s(b)), where s is the
    sigmoid; G minimises the same with the roles of a and b exchanged. The means are over the batch.
    """

    traits = Traits(needs=facts(Fact.SCORE))
    paired = True

    def discriminator(self, real: Tensor, fake: Tensor, targets: Targets) -> Tensor:
        return _against_the_mean(real, fake)

    def generator(self, fake: Tensor, real: Tensor | None, targets: Targets) -> Tensor:
        assert real is not None
        return _against_the_mean(fake, real)


class RelativisticAverageHinge(Loss):
    """RaHingeGAN: hinge loss of each image against the mean of the other kind. Jolicoeur-Martineau 2018, appendix.

    With a = D(x) - E D(G(z)) and b = D(G(z)) - E D(x), D minimises E max(0, 1 - a) + E max(0, 1 + b), and G the same
    with the roles of a and b exchanged. The loss of akanimax/BMSG-GAN (MSG-GAN, Karnewar & Wang 2020).
    """

    traits = Traits(needs=facts(Fact.SCORE))
    paired = True

    def discriminator(self, real: Tensor, fake: Tensor, targets: Targets) -> Tensor:
        return _margin_to_the_mean(real, fake)

    def generator(self, fake: Tensor, real: Tensor | None, targets: Targets) -> Tensor:
        assert real is not None
        return _margin_to_the_mean(fake, real)


def _margin_to_the_mean(better: Tensor, worse: Tensor) -> Tensor:
    """What these [B] lack to be 1 above the mean of those [B], and those to be 1 below the mean of these. []"""
    low, high = across.mean(torch.stack([worse.mean(), better.mean()]))
    return F.relu(1 + low - better).mean() + F.relu(1 + worse - high).mean()


def _against_the_mean(better: Tensor, worse: Tensor) -> Tensor:
    """Cross-entropy of "above the mean of the others" for these [B], and of "below it" for those [B]. []"""
    low, high = across.mean(torch.stack([worse.mean(), better.mean()]))
    return F.softplus(low - better).mean() + F.softplus(worse - high).mean()
