"""A small classifier of real digits, and what it measures of samples: classes, confidence, inception score."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganrun.core.seeding import reseed

EPOCHS, BATCH, SIZE = 30, 64, 32


def classifier() -> nn.Sequential:
    """A convolutional network of two layers. [B, 1, 32, 32] -> logits [B, 10]"""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(16, 32, 5, stride=2, padding=2), nn.ReLU(),
        nn.Dropout(0.3), nn.Flatten(), nn.Linear(32 * 8 * 8, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def train(images: Tensor, labels: Tensor, seed: int) -> nn.Sequential:
    """A classifier of these images [N, 1, 32, 32] and labels [N], trained on random shifts of up to two pixels."""
    reseed(seed, "judge")
    net = classifier()
    steps = EPOCHS * len(images) // BATCH
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        chosen = torch.randint(len(images), (BATCH,))
        dx, dy = torch.randint(-2, 3, (2,)).tolist()
        logits = net(images[chosen].roll((dx, dy), (2, 3)))
        loss = F.cross_entropy(logits, labels[chosen], label_smoothing=0.01)  # its confidence ends at 0.99
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return net.eval()


def resized(images: Tensor) -> Tensor:
    """The images at the resolution of the classifier. [N, 1, R, R] -> [N, 1, 32, 32]"""
    if images.shape[-1] == SIZE:
        return images.float().contiguous()
    return F.interpolate(images.float(), size=SIZE, mode="bilinear", antialias=True)


def predict(net: nn.Module, images: Tensor) -> tuple[Tensor, float]:
    """The most probable class of each image [N, 1, 32, 32] -> [N], and the median of its probability."""
    with torch.no_grad():
        confidence, classes = net(images).softmax(1).max(1)
    return classes, confidence.median().item()


@torch.no_grad()
def score(net: nn.Module, images: Tensor) -> float:
    """The inception score of images [N, 1, 32, 32], from 1 to 10, with this network as Inception.

    exp E KL(p(y | x) || p(y)), Salimans et al. 2016, section 4: highest where every image is of one certain class and
    the classes are equally frequent. 1 for images that are not finite.
    """
    if not bool(torch.isfinite(images).all()):
        return 1.0
    log_p = net(images).double().log_softmax(1)
    marginal = log_p.exp().mean(0).log()
    return (log_p.exp() * (log_p - marginal)).sum(1).mean().exp().item()
