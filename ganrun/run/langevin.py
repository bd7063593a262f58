"""Discriminator driven latent sampling (DDLS): Langevin dynamics of noise by D's logit. Che et al. 2020.

arXiv 2003.06060.
"""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor, nn

from ganrun.core.context import Latent
from ganrun.core.errors import ConfigError
from ganrun.core.from_noise import FromNoise
from ganrun.core.images import each_scale
from ganrun.core.pair import Pair
from ganrun.core.seeding import generator
from ganrun.core.trick import Trick
from ganrun.run.rejection import check

STEPS = 1000  # of the dynamics, unless said otherwise
RATE = 0.01  # epsilon of a step


def step(noise: Tensor, slope: Tensor, normal: Tensor, rate: float) -> Tensor:
    """One step, z - rate / 2 * grad E(z) + sqrt(rate) * n with n ~ N(0, 1). [B, Z] each"""
    return noise - rate / 2 * slope + sqrt(rate) * normal


class Langevin:
    """Moves noise towards what D takes for real: E(z) = |z|^2 / 2 - d(G(z)), with d the logit of D.

    If D is the best one for G, exp(-E) is the density of the noises whose images are distributed as the data. Steps
    are not corrected by acceptance, so that is reached up to the length of a step.
    """

    def __init__(self, game: FromNoise, *, seed: int, steps: int, rate: float = RATE):
        """Raises ConfigError as `check_noise` does."""
        self.pair: Pair = next(iter(game.named_pairs().values()))
        check_noise(game, self.pair)
        self.seed, self.steps, self.rate = seed, steps, rate

    def moved(self, net: nn.Module, latent: Latent, number: int) -> Latent:
        """Batch `number` of latents [B, Z] after all steps; the generator `net` is in evaluation mode.

        Raises ConfigError where D's slope leads to what is no number.
        """
        noise, normals = latent.noise, generator(self.seed, "langevin", step=number)
        for _ in range(self.steps):
            normal = torch.randn(noise.shape, generator=normals).to(noise.device)
            noise = step(noise, self.slope(net, latent._replace(noise=noise)), normal, self.rate)
        if not noise.isfinite().all():
            raise ConfigError("ddls", "D's slope led to what is no number", "a D that scores all samples",
                              "leaving ddls out, or another checkpoint")  # fmt: skip
        return latent._replace(noise=noise)

    @torch.enable_grad()
    def slope(self, net: nn.Module, latent: Latent) -> Tensor:
        """The gradient of the energy at each noise. [B, Z]"""
        noise = latent.noise.detach().requires_grad_()
        images = each_scale(net(noise, latent.condition.tensor), Tensor.float)
        logits = self.pair.log_odds(images, latent.condition)
        energy = noise.square().sum() / 2 - logits.view(len(noise), -1).mean(1).sum()
        return torch.autograd.grad(energy, noise)[0]


def check_noise(game: FromNoise, pair: Pair) -> None:
    """Raises ConfigError where noise is not N(0, 1), and where D's score is not the logit of a probability."""
    check(pair, "ddls")
    changed = [name for name, _ in pair.tricks.at(Trick.latent)]
    prior = getattr(game, "prior_name", "")
    if changed or prior != "normal":
        found = f"the noise of this run is {f'changed by its trick {changed[0]}' if changed else prior}"
        raise ConfigError("ddls", found, "normal noise, whose density is known", "leaving ddls out")
