"""Losses on energies: how badly an auto-encoder, which is the discriminator, rebuilds an image."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ganrun.core import across, limits
from ganrun.core.context import Targets
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.loss import Loss
from ganrun.core.traits import Traits, facts

NEEDS = facts(Fact.ENERGY)
PROVIDES = facts(Fact.READS_ENERGY, Fact.FAKES_ALONE)


class EnergyMargin(Loss):
    """EBGAN: energies of reals are lowered, those of fakes raised up to a margin. Zhao et al. 2017, equations 1 and 2.

    D minimises D(x) + max(0, margin - D(G(z))), G minimises D(G(z)): means over the batch.
    Raises ConfigError unless the margin is above 0.
    """

    traits = Traits(provides=PROVIDES, needs=NEEDS)
    output_name = "energy"

    def __init__(self, *, margin: float):
        super().__init__()
        if margin <= 0:
            raise ConfigError(".margin", f"{margin}", "an energy above 0", ".margin=10")
        self.margin = margin

    def discriminator(self, real: Tensor, fake: Tensor, targets: Targets) -> Tensor:
        return real.mean() + F.relu(self.margin - fake).mean()

    def generator(self, fake: Tensor, real: Tensor | None, targets: Targets) -> Tensor:
        return fake.mean()


class BoundaryEquilibrium(Loss):
    """BEGAN: keep the energies of fakes at `gamma` times those of reals. Berthelot et al. 2017, sections 3.3 and 3.4.

    D minimises L(x) - k L(G(z)), G minimises L(G(z)); after each update of D, k changes by
    lambda_k (gamma L(x) - L(G(z))) and stays in [0, 1]. The convergence measure M = L(x) + |gamma L(x) - L(G(z))| falls
    as training goes on. All from D's batch, as in the paper's algorithm. Raises ConfigError unless 0 < gamma <= 1 and
    lambda_k >= 0.
    """

    traits = Traits(provides=PROVIDES, needs=NEEDS)
    output_name = "energy"
    k: Tensor  # [] the weight of fakes in D's loss
    convergence: Tensor  # [] M of D's last update

    def __init__(self, *, gamma: float, lambda_k: float):
        super().__init__()
        if not 0 < gamma <= 1:
            raise ConfigError(".gamma", f"{gamma}", "a diversity ratio, 0 < gamma <= 1", ".gamma=0.5")
        limits.number(".lambda_k", lambda_k, 0)
        self.gamma, self.lambda_k = gamma, lambda_k
        self.register_buffer("k", torch.zeros(()))
        self.register_buffer("convergence", torch.zeros(()))

    def discriminator(self, real: Tensor, fake: Tensor, targets: Targets) -> Tensor:
        real, fake = real.mean(), fake.mean()
        k = self.k.clone()  # of this update: the gradient is taken after k has changed
        on_real, on_fake = across.mean(torch.stack([real.detach(), fake.detach()]))
        balance = self.gamma * on_real - on_fake
        self.convergence.copy_(on_real + balance.abs())
        self.k.add_(self.lambda_k * balance).clamp_(0, 1)
        return real - k * fake

    def generator(self, fake: Tensor, real: Tensor | None, targets: Targets) -> Tensor:
        return fake.mean()

    def metrics(self) -> Mapping[str, Tensor]:
        return {"k": self.k, "convergence": self.convergence}
