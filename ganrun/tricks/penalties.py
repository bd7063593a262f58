"""Tricks that bound the discriminator's slope."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ganrun.core.context import Context, Role
from ganrun.core.facts import Fact
from ganrun.core.pair import Pair
from ganrun.core.traits import Traits, facts
from ganrun.core.trick import Trick
from ganrun.errors import Refused


class GradientPenalty(Trick):
    """Pull the slope of D towards `target` between reals and fakes. WGAN-GP, Gulrajani et al. 2017, equation 3.

    weight * E (|grad D(x)| - target)^2 at x = e * real + (1 - e) * fake, e ~ U(0, 1) for each image; the norm is over
    everything but the batch. In float32 whatever the engine's precision, since it is differentiated twice.
    """

    traits = Traits(provides=facts(Fact.LIPSCHITZ), needs=facts(Fact.PER_SAMPLE, Fact.FREE_WEIGHTS))
    slope: Tensor  # [] mean norm at the last update; about `target` when the penalty works

    def __init__(self, *, weight: float, target: float):
        super().__init__()
        if weight < 0 or target < 0:
            found = f"weight {weight}, target {target}"
            raise Refused("tricks.gp", found, "numbers of at least 0", "tricks.gp.weight=10 tricks.gp.target=1")
        self.weight, self.target = weight, target
        self.register_buffer("slope", torch.zeros(()))

    def discriminator_term(self, context: Context) -> Tensor:
        assert context.real is not None
        share = torch.rand(len(context.real), 1, 1, 1, device=context.real.device)
        between = torch.lerp(context.fake.detach(), context.real.detach(), share).requires_grad_()
        with torch.autocast(between.device.type, enabled=False):
            score = context.pair.judge(between, context.labels).score
            (gradient,) = torch.autograd.grad(score.sum(), between, create_graph=True)
        norms = torch.linalg.vector_norm(gradient, dim=(1, 2, 3))
        self.slope.copy_(norms.detach().mean())
        return self.weight * (norms - self.target).square().mean()

    def gauges(self) -> Mapping[str, Tensor]:
        return {"slope": self.slope}


class WeightClipping(Trick):
    """Clamp every parameter of D to [-bound, bound] around its updates. WGAN, Arjovsky et al. 2017, algorithm 1."""

    traits = Traits(provides=facts(Fact.LIPSCHITZ), spoils=facts(Fact.FREE_WEIGHTS))

    def __init__(self, *, bound: float):
        super().__init__()
        if bound <= 0:
            raise Refused("tricks.clip.bound", f"{bound}", "a number above 0", "tricks.clip.bound=0.01")
        self.bound = bound

    def bind(self, pair: Pair, real: Tensor, fake: Tensor) -> None:
        self.after(pair, "discriminator")  # the reference clamps before each update, hence before the first

    def after(self, pair: Pair, player: Role) -> None:
        if player == "discriminator":
            parameters: list[Tensor] = list(pair.discriminator.parameters())
            torch._foreach_clamp_min_(parameters, -self.bound)
            torch._foreach_clamp_max_(parameters, self.bound)
