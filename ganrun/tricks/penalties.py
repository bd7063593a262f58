"""Penalties on the discriminator: on the norm of its gradient (WGAN-GP, R1, DigGAN and others), and on its scores."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ganrun.core import across, limits
from ganrun.core.context import Context, DiscriminatorOutput
from ganrun.core.facts import Fact
from ganrun.core.images import Images, detached, each_scale, largest
from ganrun.core.schedule import Schedule, Scheduled
from ganrun.core.traits import Traits, facts
from ganrun.core.trick import Trick
from ganrun.tricks.slopes import AlongGradient, Directional, Exact, FiniteDifference, gradients, mean, read


class SlopePenalty(Trick):
    """Base of penalties on |grad D(x)|, the norm of each image's own gradient: a weight, and how often it is added.

    Where an image has several scales, each has a gradient, and the penalty is the mean of what it would be for each
    alone: as MSG-GAN has it, Karnewar & Wang 2020, section 2 (akanimax/BMSG-GAN for WGAN-GP, akanimax/msg-stylegan-tf
    for R1).
    """

    traits = Traits(needs=facts(Fact.PER_SAMPLE), prefers=facts(Fact.ALONE, Fact.STEADY))
    slope: Tensor  # [] mean norm when the penalty was last due

    def __init__(self, key: str, weight: float | Schedule, every: int):
        """`key` is the name of the setting that holds the weight. Raises ConfigError for a negative weight."""
        super().__init__()
        if not isinstance(weight, Schedule):
            limits.number(f".{key}", weight, 0)
        limits.whole(".every", every, 1)
        self.weight, self.every = Scheduled(weight), every
        if weight == 0:  # a penalty of weight 0 bounds nothing
            self.traits = replace(self.traits, provides=frozenset())
        self.register_buffer("slope", torch.zeros(()))

    def metrics(self) -> Mapping[str, Tensor]:
        return {"slope": self.slope}


class TargetedPenalty(SlopePenalty):
    """Base of weight * E (|grad D(x)| - target)^2 at points that subclasses choose.

    One-sided: only norms above the target are penalised, max(0, |grad D(x)| - target)^2.
    """

    traits = replace(SlopePenalty.traits, needs=SlopePenalty.traits.needs | {Fact.FREE_WEIGHTS})

    def __init__(self, *, weight: float | Schedule, target: float, one_sided: bool, every: int):
        """Raises ConfigError for a negative weight or target, and for `every` below 1."""
        super().__init__("weight", weight, every)
        limits.number(".target", target, 0)
        self.target, self.one_sided = target, one_sided

    @abstractmethod
    def points(self, context: Context) -> Images:
        """The images at which the gradient is taken. [B, C, H, W]"""

    def discriminator_term(self, context: Context) -> Tensor:
        found = gradients(context, self.points(context))
        norms = [torch.linalg.vector_norm(gradient, dim=(1, 2, 3)) for gradient in found]
        self.slope.copy_(across.mean(mean([norm.detach().mean() for norm in norms])))
        return self.weight() * mean([self._penalty(norm - self.target) for norm in norms])

    def _penalty(self, excess: Tensor) -> Tensor:
        return (F.relu(excess) if self.one_sided else excess).square().mean()


class GradientPenalty(TargetedPenalty):
    """Gradient penalty between reals and fakes. WGAN-GP, Gulrajani et al. 2017, equation 3.

    weight * E (|grad D(x)| - target)^2 at x = e * real + (1 - e) * fake, e ~ U(0, 1) for each image. `one_sided`
    penalises only norms above the target, max(0, |grad D(x)| - target)^2: their section 4, "two-sided penalty".
    """

    traits = replace(TargetedPenalty.traits, provides=facts(Fact.LIPSCHITZ))

    def points(self, context: Context) -> Images:
        real, fake = detached(context.real), detached(context.fake)
        share = torch.rand(len(largest(real)), 1, 1, 1, device=largest(real).device)  # of an image, at all its scales
        return each_scale(fake, lambda fake, real: torch.lerp(fake, real, share), real)


class Dragan(TargetedPenalty):
    """DRAGAN: gradient penalty around reals. Kodali et al. 2017, algorithm 1.

    weight * E (|grad D(x)| - target)^2 at x = real + e * spread * std * u as in the authors' code: u ~ U(0, 1) for each
    value, e ~ U(0, 1) for each image, std over all values of the batch. (The paper's algorithm 1 has normal noise.)
    """

    traits = replace(TargetedPenalty.traits, needs=TargetedPenalty.traits.needs | {Fact.SINGLE_SCALE})

    def __init__(self, *, weight: float | Schedule, target: float, spread: float, one_sided: bool, every: int):
        """Raises ConfigError for a negative weight, target or spread, and for `every` below 1."""
        super().__init__(weight=weight, target=target, one_sided=one_sided, every=every)
        limits.number(".spread", spread, 0)
        self.spread = spread

    def points(self, context: Context) -> Tensor:
        assert context.real is not None
        real = context.real.detach()
        share = torch.rand(len(real), 1, 1, 1, device=real.device)
        return real + share * self.spread * across.whole(real).std(correction=0) * torch.rand_like(real)


class R1(SlopePenalty):
    """R1: zero-centred gradient penalty on reals. Mescheder et al. 2018, equation 9.

    gamma / 2 * E |grad D(x)|^2 over reals. Lazy (`every`) as in StyleGAN2, Karras et al. 2020, appendix B.

    `method=exact` differentiates the scores that the loss reads, with their views and dropout, in the engine's
    precision: in bf16 its gradient is as exact as the loss's. The other methods need no double backward and cost a
    fraction: at a `share` of the batch they take D's gradient first, hold its direction fixed, and read the slope as
    the change of D's score along it. `directional` differentiates in forward mode, so that a share of 1 is the exact
    penalty. `finite_difference` compares the scores at both ends of a small step, after adversarial flow models (Lin et
    al. 2025), whose steps are random; it needs a D without kinks, such as one with activation=silu.
    """

    traits = replace(SlopePenalty.traits, provides=facts(Fact.LIPSCHITZ), prefers=facts(Fact.ALONE))

    def __init__(self, *, gamma: float | Schedule, every: int, method: str, share: float, epsilon: float):
        """Raises ConfigError for a negative gamma, `every` below 1, an unknown method, and a share not in (0, 1]."""
        super().__init__("gamma", gamma, every)
        difference = FiniteDifference(share, epsilon)  # which checks both, also where another method is chosen
        methods: dict[str, Callable[[], Exact | AlongGradient]]
        methods = {"exact": Exact, "directional": lambda: Directional(share), "finite_difference": lambda: difference}
        limits.choice(".method", method, methods)
        self.slopes = methods[method]()
        self.differentiates = self.slopes.differentiates
        self.traits = replace(self.traits, needs=self.traits.needs | self.slopes.needs)

    def discriminator_term(self, context: Context) -> Tensor:
        return self._penalty(context, context.real, context.on_real)

    def _penalty(self, context: Context, images: Images | None, output: DiscriminatorOutput | None) -> Tensor:
        assert images is not None and output is not None
        found = self.slopes(context, images, output)
        self.slope.copy_(across.mean(found.norm))
        return self.weight() / 2 * found.square


class R2(R1):
    """R2: zero-centred gradient penalty on fakes, gamma / 2 * E |grad D(x)|^2. Mescheder et al. 2018, equation 10."""

    traits = replace(R1.traits, provides=frozenset())

    def discriminator_term(self, context: Context) -> Tensor:
        return self._penalty(context, context.fake, context.on_fake)


class DigGan(SlopePenalty):
    """DigGAN: D's slopes at reals and at fakes are kept alike. Fang et al. 2022 (arXiv 2211.14694).

    weight * E (|grad D(x)| - |grad D(G(z))|)^2 over pairs of a real and the fake at its place. Each slope may be as
    large as it likes, so nothing bounds D. The authors' code adds it in the first of D's updates in a step only, and
    takes each norm half and half with that at the same place of the batch before; here are neither.
    """

    traits = replace(SlopePenalty.traits, prefers=facts(Fact.ALONE))
    differentiates = True

    def __init__(self, *, weight: float | Schedule, every: int):
        """Raises ConfigError for a negative weight, and for `every` below 1."""
        super().__init__("weight", weight, every)

    def discriminator_term(self, context: Context) -> Tensor:
        pairs = zip(self._norms(context.real, context.on_real), self._norms(context.fake, context.on_fake), strict=True)
        gaps = [real - fake for real, fake in pairs]
        self.slope.copy_(across.mean(mean([gap.detach().mean() for gap in gaps])))
        return self.weight() * mean([gap.square().mean() for gap in gaps])

    @staticmethod
    def _norms(images: Images | None, output: DiscriminatorOutput | None) -> list[Tensor]:
        """The norm of each image's gradient, at each scale. [B] each"""
        assert images is not None and output is not None
        return [torch.linalg.vector_norm(gradient, dim=(1, 2, 3)) for gradient in read(images, output.score)]

    def metrics(self) -> Mapping[str, Tensor]:
        return {"gap": self.slope}


class Drift(Trick):
    """Drift penalty: weight * E D(x)^2 over reals. Progressive GAN, Karras et al. 2018, appendix A.1.

    It keeps scores near 0, whose level the Wasserstein loss leaves free.
    """

    traits = Traits(needs=facts(Fact.SCORE))

    def __init__(self, *, weight: float | Schedule, every: int):
        """Raises ConfigError for a negative weight, and for `every` below 1."""
        super().__init__()
        if not isinstance(weight, Schedule):
            limits.number(".weight", weight, 0)
        limits.whole(".every", every, 1)
        self.weight, self.every = Scheduled(weight), every

    def discriminator_term(self, context: Context) -> Tensor:
        assert context.on_real is not None
        return self.weight() * context.on_real.score.square().mean()


class LogitCentering(Drift):
    """Logit centring: scores of reals and fakes are kept around 0, by pairs. Lin et al. 2025 (adversarial flow models).

    weight * E (D(x) + D(G(z)))^2 over pairs of a real and the fake at its place. Relativistic losses read differences
    alone, so the level of their scores is free; this fixes it and leaves the differences. arXiv 2511.22475.
    """

    def discriminator_term(self, context: Context) -> Tensor:
        assert context.on_real is not None
        return self.weight() * (context.on_real.score + context.on_fake.score).square().mean()
