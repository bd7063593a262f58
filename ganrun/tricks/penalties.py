"""Tricks that bound the discriminator's slope, or the level of its scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ganrun.core import limits
from ganrun.core.context import Context, DiscriminatorOutput, PairView, Role
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.schedule import Schedule, Scheduled
from ganrun.core.traits import Traits, facts
from ganrun.core.trick import Trick


def gradients(context: Context, images: Tensor) -> Tensor:
    """The gradient of D with respect to each of these images, itself differentiable. [B, C, H, W], [B, C, H, W]

    In float32 whatever the engine's precision, since it is differentiated again.
    """
    images = images.detach().requires_grad_()
    with torch.autocast(images.device.type, enabled=False):
        score = context.pair.judge(images, context.condition).score
        (gradient,) = torch.autograd.grad(score.sum(), images, create_graph=True)
    return gradient


class SlopePenalty(Trick):
    """What penalties on |grad D(x)| share: a norm for each image, over all but the batch; a weight; their turn."""

    traits = Traits(needs=facts(Fact.PER_SAMPLE), prefers=facts(Fact.ALONE, Fact.STEADY))
    slope: Tensor  # [] mean norm when the penalty was last due

    def __init__(self, where: str, key: str, weight: float | Schedule, every: int):
        super().__init__()
        if not isinstance(weight, Schedule):
            limits.number(f"{where}.{key}", weight, 0)
        limits.whole(f"{where}.every", every, 1)
        self.weight, self.every = Scheduled(weight), every
        if weight == 0:  # what is not there bounds nothing
            self.traits = replace(self.traits, provides=frozenset())
        self.register_buffer("slope", torch.zeros(()))

    def metrics(self) -> Mapping[str, Tensor]:
        return {"slope": self.slope}


class TargetedPenalty(SlopePenalty):
    """weight * E (|grad D(x)| - target)^2 at points of the subclass's choice. One-sided: only norms above it pay."""

    traits = replace(SlopePenalty.traits, needs=facts(Fact.PER_SAMPLE, Fact.FREE_WEIGHTS))

    def __init__(self, where: str, weight: float | Schedule, target: float, one_sided: bool, every: int):
        super().__init__(where, "weight", weight, every)
        limits.number(f"{where}.target", target, 0)
        self.target, self.one_sided = target, one_sided

    def points(self, context: Context) -> Tensor:
        """Where the slope is asked for. [B, C, H, W]"""
        raise NotImplementedError

    def discriminator_term(self, context: Context) -> Tensor:
        norms = torch.linalg.vector_norm(gradients(context, self.points(context)), dim=(1, 2, 3))
        self.slope.copy_(norms.detach().mean())
        excess = norms - self.target
        return self.weight() * (F.relu(excess) if self.one_sided else excess).square().mean()


class GradientPenalty(TargetedPenalty):
    """Pull the slope of D towards `target` between reals and fakes. WGAN-GP, Gulrajani et al. 2017, equation 3.

    weight * E (|grad D(x)| - target)^2 at x = e * real + (1 - e) * fake, e ~ U(0, 1) for each image. `one_sided`
    penalises only what is steeper, max(0, |grad D(x)| - target)^2: their section 4, "two-sided penalty".
    """

    traits = replace(TargetedPenalty.traits, provides=facts(Fact.LIPSCHITZ))

    def __init__(self, *, weight: float | Schedule, target: float, one_sided: bool, every: int):
        super().__init__("tricks.gp", weight, target, one_sided, every)

    def points(self, context: Context) -> Tensor:
        assert context.real is not None
        share = torch.rand(len(context.real), 1, 1, 1, device=context.real.device)
        return torch.lerp(context.fake.detach(), context.real.detach(), share)


class Dragan(TargetedPenalty):
    """Pull the slope of D towards `target` around reals, where sharp slopes end in collapse. Kodali et al. 2017.

    weight * E (|grad D(x)| - target)^2 at x = real + e * spread * std * u as in the authors' code: u ~ U(0, 1) for each
    value, e ~ U(0, 1) for each image, std over all values of the batch. (Algorithm 1 of the paper has normal noise.)
    """

    def __init__(self, *, weight: float | Schedule, target: float, spread: float, one_sided: bool, every: int):
        super().__init__("tricks.dragan", weight, target, one_sided, every)
        limits.number("tricks.dragan.spread", spread, 0)
        self.spread = spread

    def points(self, context: Context) -> Tensor:
        assert context.real is not None
        real = context.real.detach()
        share = torch.rand(len(real), 1, 1, 1, device=real.device)
        return real + share * self.spread * real.std(correction=0) * torch.rand_like(real)


class R1(SlopePenalty):
    """Flatten D at reals, so that it rests once fakes are right. Mescheder et al. 2018, equation 9.

    gamma / 2 * E |grad D(x)|^2 over reals. Lazy (`every`) as in StyleGAN2, Karras et al. 2020, appendix B. It
    differentiates the scores that the loss saw, with their views and dropout, in the engine's precision: in bf16 its
    gradient is as good as any other there (the others look at new points, and pay for float32).
    """

    traits = Traits(provides=facts(Fact.LIPSCHITZ), needs=facts(Fact.PER_SAMPLE), prefers=facts(Fact.ALONE))
    differentiates = True

    def __init__(self, *, gamma: float | Schedule, every: int):
        super().__init__("tricks.r1", "gamma", gamma, every)

    def discriminator_term(self, context: Context) -> Tensor:
        return self._flatten(context.real, context.on_real)

    def _flatten(self, images: Tensor | None, opinion: DiscriminatorOutput | None) -> Tensor:
        assert images is not None and opinion is not None
        (gradient,) = torch.autograd.grad(opinion.score.sum(), images, create_graph=True)
        squares = gradient.square().sum((1, 2, 3))
        self.slope.copy_(squares.detach().sqrt().mean())
        return self.weight() / 2 * squares.mean()


class R2(R1):
    """Flatten D at fakes. Mescheder et al. 2018, equation 10: gamma / 2 * E |grad D(x)|^2 over fakes."""

    traits = replace(R1.traits, provides=frozenset())

    def __init__(self, *, gamma: float | Schedule, every: int):
        SlopePenalty.__init__(self, "tricks.r2", "gamma", gamma, every)

    def discriminator_term(self, context: Context) -> Tensor:
        return self._flatten(context.fake, context.on_fake)


class Drift(Trick):
    """Keep the scores of reals near 0, which Wasserstein's loss leaves free. Progressive GAN, Karras et al. 2018, A.1.

    weight * E D(x)^2 over reals.
    """

    traits = Traits(needs=facts(Fact.SCORE))

    def __init__(self, *, weight: float | Schedule, every: int):
        super().__init__()
        if not isinstance(weight, Schedule):
            limits.number("tricks.drift.weight", weight, 0)
        limits.whole("tricks.drift.every", every, 1)
        self.weight, self.every = Scheduled(weight), every

    def discriminator_term(self, context: Context) -> Tensor:
        assert context.on_real is not None
        return self.weight() * context.on_real.score.square().mean()


class WeightClipping(Trick):
    """Clamp every parameter of D to [-bound, bound] around its updates. WGAN, Arjovsky et al. 2017, algorithm 1."""

    traits = Traits(
        provides=facts(Fact.LIPSCHITZ), invalidates=facts(Fact.FREE_WEIGHTS), prefers=facts(Fact.NO_MOMENTUM)
    )

    def __init__(self, *, bound: float):
        super().__init__()
        if bound <= 0:
            raise ConfigError("tricks.clip.bound", f"{bound}", "a number above 0", "tricks.clip.bound=0.01")
        self.bound = bound

    def bind(self, pair: PairView, real: Tensor, fake: Tensor) -> None:
        self.after(pair, "discriminator")  # the reference clamps before each update, hence before the first

    def after(self, pair: PairView, player: Role) -> None:
        if player == "discriminator":
            parameters: list[Tensor] = list(pair.discriminator.parameters())
            torch._foreach_clamp_min_(parameters, -self.bound)
            torch._foreach_clamp_max_(parameters, self.bound)
