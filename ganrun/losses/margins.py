"""Losses of scores without target labels: Wasserstein and hinge."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ganrun.core.context import Targets
from ganrun.core.facts import Fact
from ganrun.core.loss import Loss
from ganrun.core.traits import Traits, facts


class Wasserstein(Loss):
    """WGAN: the critic estimates the earth mover's distance, if its slope is bounded. Arjovsky et al. 2017, equation 3.

    D minimises E D(G(z)) - E D(x), G minimises -E D(G(z)).
    """

    traits = Traits(provides=facts(Fact.FAKES_ALONE), needs=facts(Fact.SCORE, Fact.LIPSCHITZ))

    def discriminator(self, real: Tensor, fake: Tensor, targets: Targets) -> Tensor:
        return fake.mean() - real.mean()

    def generator(self, fake: Tensor, real: Tensor | None, targets: Targets) -> Tensor:
        return -fake.mean()


class Hinge(Loss):
    """Hinge loss: D learns only from scores within a margin of 1. Lim and Ye 2017; Miyato et al. 2018, (16, 17).

    D minimises E max(0, 1 - D(x)) + E max(0, 1 + D(G(z))), G minimises -E D(G(z)).
    """

    traits = Traits(provides=facts(Fact.UNDECIDED, Fact.FAKES_ALONE), needs=facts(Fact.SCORE))

    def discriminator(self, real: Tensor, fake: Tensor, targets: Targets) -> Tensor:
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()

    def generator(self, fake: Tensor, real: Tensor | None, targets: Targets) -> Tensor:
        return -fake.mean()
