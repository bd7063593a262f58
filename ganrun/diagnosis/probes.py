"""Exact probes of networks before a run: what depends on what. Plain functions on networks and tensors.

A probe that asks whether something can depend on something else is given `stirred` networks: at their initial weights
many do not, as a gain or an embedding begins at 0. Torch's generators are left alone; networks that keep statistics
(batch norm, spectral norm) keep those of a probe too, so give copies.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn

from ganrun.core.seeding import generators_kept, reseed

STIR = 0.1  # noise on each parameter, of its root mean square; 0.01 in place of it where that is 0
ROUNDING = 1e-5  # a difference that counts is above this, as a fraction of the largest value: float32 has 6e-8
M = TypeVar("M", bound=nn.Module)


@torch.no_grad()
def stirred(module: M) -> M:
    """A copy whose parameters have a little noise added, so that what depends on nothing does so by its structure."""
    copy, parameters = deepcopy(module), list(module.parameters())
    if not parameters:
        return copy
    with generators_kept(parameters[0].device):
        reseed(0, "stirred")
        for parameter in copy.parameters():
            size = parameter.square().mean().sqrt()
            parameter.add_(torch.randn_like(parameter) * torch.where(size > 0, STIR * size, 0.01))
    return copy


def coupling(score: Callable[[Tensor], Tensor], images: Tensor) -> float:
    """How much the score of the first image depends on the other images of its batch. [B, C, H, W] -> [B] or [B, ...]

    The largest |dD(x_0) / dx_j| over j > 0, as a fraction of the largest |dD(x_0) / dx_0|. Exact: 0 where each image is
    scored on its own. A penalty on the slope at each image (WGAN-GP, R1) reads dD(x_i) / dx_i, and needs that.
    Gulrajani et al. 2017, section 4, "no critic batch normalization".
    """
    given = images.detach().clone().requires_grad_()
    with torch.enable_grad(), generators_kept(given.device):
        (slope,) = torch.autograd.grad(score(given)[0].sum(), given)
    own, others = float(slope[0].abs().max()), float(slope[1:].abs().max())
    return others / own if own else float(others > 0)


def mates(make: Callable[[Tensor], Tensor], given: Tensor, others: Tensor) -> float:
    """How much the outputs for the first half of a batch change when `others` take the place of the second half.

    The largest change, as a fraction of the largest value; 0 where that is rounding. [B, ...] -> [B, ...]; the second
    half of `others` is used. Layers that draw random numbers draw the same ones both times.
    """
    half = len(given) // 2
    first = _same_draws(make, given)[:half]
    second = _same_draws(make, torch.cat([given[:half], others[half:]]))[:half]
    return difference(first, second)


def batch_leak(score: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> float:
    """How far the scores of reals move when half of their batch are fakes: what batch statistics tell of a batch.

    The mean change of D(x), in standard deviations of D over the batch of reals. [B, C, H, W] each -> [B] or [B, ...]
    0 where each image is scored on its own.
    """
    half = len(real) // 2
    pure = _same_draws(score, real)
    mixed = _same_draws(score, torch.cat([real[:half], fake[half : len(real)]]))
    if difference(pure[:half], mixed[:half]) == 0:
        return 0.0
    return float((pure[:half] - mixed[:half]).abs().mean() / pure.std().clamp_min(1e-12))


def label_effect(make: Callable[[Tensor], Tensor], labels: Tensor, classes: int) -> float:
    """How much an output changes when each label becomes the next class; 0 where labels do not reach it. [B] -> [...]

    The largest change, as a fraction of the largest value.
    """
    return difference(_same_draws(make, labels), _same_draws(make, (labels + 1) % classes))


def out_of_reach(images: Tensor, low: float, high: float) -> float:
    """The share of values that no output in [low, high] can be, beyond half a grey level. [N, C, H, W]"""
    level = 1 / 255
    return float(((images < low - level) | (images > high + level)).double().mean())


def difference(one: Tensor, other: Tensor) -> float:
    """The largest difference as a fraction of the largest value; 0 up to rounding, infinite for NaN. [N, ...] both"""
    largest, apart = float(one.abs().max()), float((one - other).abs().max())
    if apart != apart:
        return float("inf")
    return apart / largest if largest and apart > ROUNDING * largest else 0.0


@torch.no_grad()
def _same_draws(make: Callable[[Tensor], Tensor], given: Tensor) -> Tensor:
    """What it makes, with torch's generators at the same point each time. Without gradients."""
    with generators_kept(given.device):
        reseed(0, "probe")
        return make(given).float()
