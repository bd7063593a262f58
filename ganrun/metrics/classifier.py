"""A small classifier of labelled reals, and what it says of samples: classes, confidence, inception score."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganrun.core.seeding import reseed

EPOCHS, BATCH, SIZE = 30, 64, 32
STEPS = 1000  # at most
HIDDEN = 64  # features before the last layer
REFUSED = 0.05  # the share of real images whose confidence is below the threshold of acceptance
CHUNK = 500  # images that are classified at once


class Classified(NamedTuple):
    """What a classifier says of N images."""

    classes: Tensor  # [N] the most probable one
    confidence: Tensor  # [N] its probability
    features: Tensor  # [N, 64] of the layer before the last


def classifier(channels: int = 1, classes: int = 10) -> nn.Sequential:
    """A convolutional network of two layers. [B, C, 32, 32] -> logits [B, classes]"""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(16, 32, 5, stride=2, padding=2),
        nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(32 * 8 * 8, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, classes),
    )  # fmt: skip


def train(
    images: Tensor,
    labels: Tensor,
    seed: int,
    *,
    classes: int = 10,
    most: int = STEPS,
    progress: Callable[[int, int], None] | None = None,
) -> nn.Sequential:
    """A classifier of these images [N, C, 32, 32] and labels [N], trained on random shifts of up to two pixels.

    In at most `most` steps; `progress` is called with the steps done and those to do. Leaves torch's generators as they
    were.
    """
    with torch.random.fork_rng(devices=[]):
        reseed(seed, "judge")
        net = classifier(images.shape[1], classes)
        steps = min(most, EPOCHS * len(images) // BATCH)
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for step in range(steps):
            chosen = torch.randint(len(images), (BATCH,))
            dx, dy = torch.randint(-2, 3, (2,)).tolist()
            logits = net(images[chosen].roll((dx, dy), (2, 3)))
            loss = F.cross_entropy(logits, labels[chosen], label_smoothing=0.01)  # its confidence ends at 0.99
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            if progress is not None:
                progress(step + 1, steps)
    return net.eval()


def resized(images: Tensor) -> Tensor:
    """The images at the resolution of the classifier. [N, C, R, R] -> [N, C, 32, 32]"""
    if images.shape[-1] == SIZE:
        return images.float().contiguous()
    return F.interpolate(images.float(), size=SIZE, mode="bilinear", antialias=True)


@torch.no_grad()
def classify(net: nn.Sequential, images: Tensor) -> Classified:
    """What the classifier says of images [N, C, R, R]."""
    features = torch.cat([net[:-1](resized(chunk)) for chunk in images.split(CHUNK)])
    confidence, classes = net[-1](features).softmax(1).max(1)
    return Classified(classes, confidence, features)


def predict(net: nn.Sequential, images: Tensor) -> tuple[Tensor, float]:
    """The most probable class of each image [N, C, R, R] -> [N], and the median of its probability."""
    found = classify(net, images)
    return found.classes, found.confidence.median().item()


def accepted(reals: Classified, fakes: Classified) -> float:
    """The share of samples at least as confident as all but the least confident 5 % of held-out reals, in [0, 1].

    Held-out reals themselves have 0.95.
    """
    threshold = reals.confidence.quantile(REFUSED)
    return (fakes.confidence >= threshold).double().mean().item()


@torch.no_grad()
def score(net: nn.Module, images: Tensor) -> float:
    """The inception score of images [N, C, 32, 32], from 1 to the number of classes, with this network as Inception.

    exp E KL(p(y | x) || p(y)), Salimans et al. 2016, section 4: highest where every image is of one certain class and
    the classes are equally frequent. 1 for images that are not finite.
    """
    if not bool(torch.isfinite(images).all()):
        return 1.0
    log_p = net(images).double().log_softmax(1)
    marginal = log_p.exp().mean(0).log()
    return (log_p.exp() * (log_p - marginal)).sum(1).mean().exp().item()
