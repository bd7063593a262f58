"""How the discriminator decides: what its score means under the loss and the target encoding of its pair."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ganrun.core.context import PairView, Targets
from ganrun.core.images import Images
from ganrun.core.loss import Loss
from ganrun.core.modes import evaluating
from ganrun.core.trick import Trick

CONSTANTS = (-2.0, 2.0, 81)  # the constant scores that are tried: from, to, how many; 0 and 0.5 are among them


def hard_targets(pair: PairView, score: Tensor) -> Targets:
    """Targets 1 and 0 without smoothing, in the encoding of the pair's tricks. [B] -> [B] each"""
    targets: Targets = pair.tricks.fold(Trick.encode, Targets.clean(score, score))
    return targets


def margin(pair: PairView, score: Tensor) -> Tensor:
    """Signed distance to D's decision boundary: above 0 D takes an image for real, below 0 for fake. [B] -> [B]"""
    target, probability = hard_targets(pair, score), pair.loss.probability(score)
    distance = score if probability is None else probability - 0.5  # in units of the targets, 0 to 1
    return distance * (target.real - target.fake)


def ordered(pair: PairView, real: Tensor, fake: Tensor) -> Tensor:
    """The share of pairs of a real and a fake whose scores D has in the order that its loss asks for. [B], [B] -> []

    The area under the curve of its decisions, ties as half: 1/2 at chance. It needs no score that means undecided.
    """
    high, low = torch.ones_like(real), -torch.ones_like(real)
    targets, loss = hard_targets(pair, real), pair.loss
    assert isinstance(loss, Loss)
    rises = loss.discriminator(high, low, targets) < loss.discriminator(low, high, targets)
    gaps = real[:, None] - fake
    share = (gaps > 0).float().mean() + (gaps == 0).float().mean() / 2
    return torch.where(rises, share, 1 - share)


def constant_losses(pair: PairView, device: torch.device) -> Tensor:
    """D's loss with hard targets when every image has the same score, for each of CONSTANTS. [81]"""
    loss = pair.loss
    assert isinstance(loss, Loss)
    scores = [torch.full((4,), value, device=device) for value in torch.linspace(*CONSTANTS).tolist()]
    return torch.stack([loss.discriminator(score, score, hard_targets(pair, score)) for score in scores])


def chance_loss(pair: PairView, device: torch.device) -> float:
    """D's loss at chance level: ln 4 for cross-entropy, 1/4 for least squares, 2 for hinge; 0 for Wasserstein."""
    return constant_losses(pair, device).min().item()


def features(pair: PairView, images: Images) -> tuple[Tensor, ...]:
    """D's hidden activations for images [B, C, H, W], in evaluation mode. For `bind`, outside of updates."""
    net: nn.Module = pair.discriminator
    with evaluating(net):
        found: tuple[Tensor, ...] = net(images, pair.condition.tensor).features
    return found
