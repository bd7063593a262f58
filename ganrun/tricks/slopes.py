"""How penalties read the slope of D at images: exactly, or in random directions without a double backward."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ganrun.core import limits
from ganrun.core.context import Context, DiscriminatorOutput
from ganrun.core.facts import Fact
from ganrun.core.images import Images, detached, each_scale, largest, scales
from ganrun.core.traits import facts
from ganrun.core.trick import Trick


def gradients(context: Context, images: Images) -> tuple[Tensor, ...]:
    """The gradient of D's score with respect to images at each scale, itself differentiable. [B, C, H, W] each

    In the engine's precision: bf16 moves it by far less than other images would (docs/performance.md).
    """
    images = detached(images, differentiable=True)
    return read(images, context.pair.judge(images, context.condition))


def read(images: Images, output: DiscriminatorOutput) -> tuple[Tensor, ...]:
    """The same of a score that D has already given, in the precision it has. [B, C, H, W] each"""
    return torch.autograd.grad(output.score.sum(), scales(images), create_graph=True)


def mean(values: Sequence[Tensor]) -> Tensor:
    """The mean of these [], one of each scale."""
    return sum(values[1:], start=values[0]) / len(values)


class Slopes(NamedTuple):
    """What R1 and R2 read of D's gradients with respect to images; the mean over scales where there are several."""

    square: Tensor  # [] mean of |grad D(x)|^2, differentiable
    norm: Tensor  # [] mean of |grad D(x)|, without gradients


class Exact:
    """Slopes by a backward pass through the scores that the loss reads, itself differentiated: a double backward."""

    differentiates = True
    needs: frozenset[Fact] = frozenset()

    def __call__(self, context: Context, images: Images, output: DiscriminatorOutput) -> Slopes:
        """Slopes [] at these images, [B, C, H, W] at each scale, from the scores that D has already given them."""
        squares = [gradient.square().sum((1, 2, 3)) for gradient in read(images, output)]
        norms = [square.detach().sqrt().mean() for square in squares]
        return Slopes(mean([square.mean() for square in squares]), mean(norms))


class Sampled(ABC):
    """Base of slopes in one random direction n ~ N(0, 1), which need no double backward.

    E (n . grad D)^2 is |grad D|^2. They are taken at every k-th image of the batch, k = 1 / `share` rounded, where D
    sees the images: after the views.
    """

    differentiates = False
    needs: frozenset[Fact] = frozenset()

    def __init__(self, share: float):
        """Raises ConfigError for a share that is not above 0 and at most 1."""
        limits.positive(".share", share)
        limits.number(".share", share, 0, 1 + 1e-9)
        self.stride = round(1 / share)

    def __call__(self, context: Context, images: Images, output: DiscriminatorOutput) -> Slopes:
        """Slopes [] at every n-th of these images, [B, C, H, W] at each scale; D scores them again."""
        some = each_scale(detached(images), lambda image: image[:: self.stride])
        seen = context.pair.tricks.fold(Trick.view, some)
        change = self.changes(context, seen) / math.sqrt(len(scales(images)))
        return Slopes(change.square().mean(), change.detach().abs().mean() * math.sqrt(math.pi / 2))

    @abstractmethod
    def changes(self, context: Context, seen: Images) -> Tensor:
        """The changes [B] of D's score, or of the sum of its scores, along n."""

    def score(self, context: Context, images: Images, repeats: int = 1) -> Tensor:
        """The scores [repeats * B, ...] of images, each of them in the batch this often."""
        condition = context.condition.each(lambda given: torch.cat([given[:: self.stride]] * repeats))
        return context.pair.discriminator(images, condition.tensor).score


class Directional(Sampled):
    """Slopes by forward-mode differentiation: the derivative in the direction n, which is the limit of differences.

    D is evaluated on dual numbers, whose second part is n: exact for every D, and, unlike a difference, blind to the
    kinks of ReLU between x and x + epsilon n. In the engine's precision.
    """

    def __init__(self, share: float):
        """Raises ConfigError for a share that is not above 0 and at most 1."""
        super().__init__(share)
        with warnings.catch_warnings(), forward_ad.dual_level():
            warnings.simplefilter("ignore", FutureWarning)  # torch scripts derivatives at the first dual number
            forward_ad.make_dual(torch.zeros(()), torch.zeros(()))

    def changes(self, context: Context, seen: Images) -> Tensor:
        with forward_ad.dual_level():
            dual = each_scale(seen, lambda image: forward_ad.make_dual(image, torch.randn_like(image)))
            change = forward_ad.unpack_dual(self.score(context, dual)).tangent
        assert change is not None  # D reads its images
        return change.float().flatten(1).sum(1) if change.dim() > 1 else change.float()


class FiniteDifference(Sampled):
    """Slopes by finite differences, (D(x + epsilon n) - D(x)) / epsilon. Lin et al. 2025 (2511.22475), algorithm 2.

    Its square is |grad D(x)|^2 on average, up to terms in epsilon^2; the authors' code takes the first images of the
    batch and puts the noise after the views too. One call of D scores both, so that it has the same weights for both,
    and it is in float32: with the paper's epsilon the rounding of bf16 is as large as the difference. Where a kink of
    a ReLU lies between both, the gradient of D's biases is as large as 1 / epsilon.
    """

    needs = facts(Fact.STEADY)  # a dropout mask of its own for x + epsilon n would be all that is measured

    def __init__(self, share: float, epsilon: float):
        """Raises ConfigError for a share that is not above 0 and at most 1, and for an epsilon that is not above 0."""
        super().__init__(share)
        limits.positive(".epsilon", epsilon)
        self.epsilon = epsilon

    def __call__(self, context: Context, images: Images, output: DiscriminatorOutput) -> Slopes:
        with torch.autocast(largest(images).device.type, enabled=False):
            return super().__call__(context, images, output)

    def changes(self, context: Context, seen: Images) -> Tensor:
        both = each_scale(seen, lambda image: torch.cat([image, image + self.epsilon * torch.randn_like(image)]))
        score = self.score(context, both, repeats=2).float()
        here, moved = score.reshape(2, len(score) // 2, -1).sum(2)  # of all patches, as where D is differentiated
        return (moved - here) / self.epsilon
