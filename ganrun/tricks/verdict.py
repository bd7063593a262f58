"""What a score says, under the loss and the coding of the pair at hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ganrun.core.context import PairView, Targets
from ganrun.core.loss import Loss
from ganrun.core.modes import evaluating
from ganrun.core.trick import Trick

CONSTANTS = (-2.0, 2.0, 81)  # the scores at which a loss is probed: 0 and 0.5 are among them


def coded(pair: PairView, score: Tensor) -> Targets:
    """Hard targets for scores of this shape, in the numbers that stand for real and fake here."""
    targets: Targets = pair.tricks.fold(Trick.encode, Targets.clean(score, score))
    return targets


def leaning(pair: PairView, score: Tensor) -> Tensor:
    """How far D leans towards real: above 0 it takes an image for real, below 0 for fake. [B] -> [B]"""
    code, output = coded(pair, score), pair.loss.probability(score)
    middle = score if output is None else output - 0.5  # outputs are in the units of the targets, 0 to 1
    return middle * (code.real - code.fake)


def constant_losses(pair: PairView, device: torch.device) -> Tensor:
    """D's loss, with hard targets, when it gives every image one and the same score; for many such scores."""
    loss = pair.loss
    assert isinstance(loss, Loss)
    scores = [torch.full((4,), value) for value in torch.linspace(*CONSTANTS).tolist()]
    return torch.stack([loss.discriminator(s, s, coded(pair, s)) for s in (s.to(device) for s in scores)])


def chance(pair: PairView, device: torch.device) -> float:
    """D's loss when it cannot tell: ln 4 for cross-entropy, 1/4 for least squares, 2 for hinge; 0 for Wasserstein."""
    return constant_losses(pair, device).min().item()


def features(pair: PairView, images: Tensor) -> tuple[Tensor, ...]:
    """What D shows of these images; leaves its statistics alone. For `bind`, outside of updates."""
    net: nn.Module = pair.discriminator
    with evaluating(net):
        found: tuple[Tensor, ...] = net(images, pair.condition.tensor).features
    return found
