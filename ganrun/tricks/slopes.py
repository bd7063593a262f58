"""How penalties read the slope of D at images: by a double backward, or along the gradient without one."""

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
from ganrun.core.images import Images, detached, each_scale, scales
from ganrun.core.traits import facts
from ganrun.core.trick import Trick


def gradients(context: Context, images: Images) -> tuple[Tensor, ...]:
    """The gradient of D's score with respect to images at each scale, itself differentiable. [B, C, H, W] each

    In the engine's precision: bf16 moves it by far less than other images would (docs/performance.md).
    """
    images = detached(images, differentiable=True)
    return read(images, context.pair.judge(images, context.condition).score)


def read(images: Images, score: Tensor, *, differentiable: bool = True) -> tuple[Tensor, ...]:
    """The same of scores [B, ...] that D has already given, in the precision they have. [B, C, H, W] each"""
    return torch.autograd.grad(score.sum(), scales(images), create_graph=differentiable)


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
        squares = [gradient.square().sum((1, 2, 3)) for gradient in read(images, output.score)]
        norms = [square.detach().sqrt().mean() for square in squares]
        return Slopes(mean([square.mean() for square in squares]), mean(norms))


class AlongGradient(ABC):
    """Base of slopes as the change of D's score along its own gradient, which needs no double backward.

    n = sqrt(N) grad D / |grad D|, of N numbers whose root mean square is 1, is taken first and held fixed; then
    n . grad D / sqrt(N) is |grad D|, and its gradient by D's weights is that of |grad D|. At every k-th image of the
    batch, k = 1 / `share` rounded, where D sees the images: after the views. In the engine's precision.
    """

    differentiates = False
    needs: frozenset[Fact] = facts(Fact.STEADY)  # n belongs to the dropout mask under which it was taken

    def __init__(self, share: float):
        """Raises ConfigError for a share that is not above 0 and at most 1."""
        limits.positive(".share", share)
        limits.number(".share", share, 0, 1 + 1e-9)
        self.stride = round(1 / share)

    def __call__(self, context: Context, images: Images, output: DiscriminatorOutput) -> Slopes:
        """Slopes [] at every k-th of these images, [B, C, H, W] at each scale; D scores them again."""
        some = each_scale(detached(images), lambda image: image[:: self.stride])
        seen = detached(context.pair.tricks.fold(Trick.view, some))
        numbers = sum(scale[0].numel() for scale in scales(seen))
        change = self.changes(context, seen, self.directions(context, seen)) / math.sqrt(numbers * len(scales(seen)))
        return Slopes(change.square().mean(), change.detach().abs().mean())

    def directions(self, context: Context, seen: Images) -> Images:
        """The direction n of each image, over all its scales together. [B, C, H, W] each"""
        seen = detached(seen, differentiable=True)
        found = read(seen, self.score(context, seen), differentiable=False)
        whole = torch.cat([gradient.flatten(1) for gradient in found], 1)
        size = whole.square().mean(1).sqrt().clamp_min(torch.finfo(whole.dtype).tiny).view(-1, 1, 1, 1)
        return each_scale(found if isinstance(seen, tuple) else found[0], lambda gradient: gradient / size)

    @abstractmethod
    def changes(self, context: Context, seen: Images, directions: Images) -> Tensor:
        """The product n . grad D of each image, of D's score or of the sum of its scores. [B]"""

    def score(self, context: Context, images: Images, repeats: int = 1) -> Tensor:
        """The scores [repeats * B, ...] of images, each of them in the batch this often."""
        condition = context.condition.each(lambda given: torch.cat([given[:: self.stride]] * repeats))
        return context.pair.discriminator(images, condition.tensor).score


class Directional(AlongGradient):
    """The change by forward-mode differentiation: the derivative in the direction n, the limit of differences.

    D is evaluated on dual numbers, whose second part is n: exact for every D, and, unlike a difference, blind to the
    kinks of ReLU beside x.
    """

    def __init__(self, share: float):
        """Raises ConfigError for a share that is not above 0 and at most 1."""
        super().__init__(share)
        with warnings.catch_warnings(), forward_ad.dual_level():
            warnings.simplefilter("ignore")  # torch scripts derivatives at the first dual number, which is deprecated
            forward_ad.make_dual(torch.zeros(()), torch.zeros(()))

    def changes(self, context: Context, seen: Images, directions: Images) -> Tensor:
        with forward_ad.dual_level():
            dual = each_scale(seen, forward_ad.make_dual, directions)
            change = forward_ad.unpack_dual(self.score(context, dual)).tangent
        assert change is not None  # D reads its images
        return change.float().flatten(1).sum(1) if change.dim() > 1 else change.float()


class FiniteDifference(AlongGradient):
    """The change by a finite difference, (D(x + epsilon n) - D(x - epsilon n)) / (2 epsilon).

    After Lin et al. 2025 (2511.22475), algorithm 2, who take (D(x + epsilon n) - D(x)) / epsilon with n ~ N(0, 1). Its
    square is right on average, but its gradient by D's weights is mostly noise. Here n has the same length, and the
    error is of the order of epsilon^2. One call of D scores both ends, so that it has the same weights for both.
    Between them there must be no kink of a ReLU, whose gradient by D's biases would be as large as 1 / epsilon.
    """

    needs = AlongGradient.needs | facts(Fact.SMOOTH)

    def __init__(self, share: float, epsilon: float):
        """Raises ConfigError for a share that is not above 0 and at most 1, and for an epsilon that is not above 0."""
        super().__init__(share)
        limits.positive(".epsilon", epsilon)
        self.epsilon = epsilon

    def changes(self, context: Context, seen: Images, directions: Images) -> Tensor:
        score = self.score(context, each_scale(seen, self._ends, directions), repeats=2).float()
        ahead, behind = score.reshape(2, len(score) // 2, -1).sum(2)  # of all patches, as where D is differentiated
        return (ahead - behind) / (2 * self.epsilon)

    def _ends(self, seen: Tensor, directions: Tensor) -> Tensor:
        """Images a step ahead, then the same images a step behind. [B, C, H, W] twice -> [2 B, C, H, W]"""
        step = self.epsilon * directions
        return torch.cat([seen + step, seen - step])
