"""Samples of digits as a small convolutional network of real digits sees them: which classes, how sure, what score."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganrun.core.seeding import reseed

EPOCHS, BATCH, SIZE = 30, 64, 32


def classifier() -> nn.Sequential:
    """[B, 1, 32, 32] -> logits [B, 10]"""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(16, 32, 5, stride=2, padding=2), nn.ReLU(),
        nn.Dropout(0.3), nn.Flatten(), nn.Linear(32 * 8 * 8, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def train(images: Tensor, labels: Tensor, seed: int) -> nn.Sequential:
    """A classifier of these images [N, 1, 32, 32]; each is shifted by up to two pixels whenever it is seen."""
    reseed(seed, "judge")
    net = classifier()
    steps = EPOCHS * len(images) // BATCH
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        chosen = torch.randint(len(images), (BATCH,))
        dx, dy = torch.randint(-2, 3, (2,)).tolist()
        logits = net(images[chosen].roll((dx, dy), (2, 3)))
        loss = F.cross_entropy(logits, labels[chosen], label_smoothing=0.01)  # sure to 0.99, not beyond
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return net.eval()


def sized(images: Tensor) -> Tensor:
    """The images at the size that the classifier knows."""
    if images.shape[-1] == SIZE:
        return images.float().contiguous()
    return F.interpolate(images.float(), size=SIZE, mode="bilinear", antialias=True)


def figures(net: nn.Module, images: Tensor) -> tuple[Tensor, float]:
    """The class of each image [N] and the median of the classifier's confidence in it."""
    with torch.no_grad():
        confidence, classes = net(images).softmax(1).max(1)
    return classes, confidence.median().item()


@torch.no_grad()
def score(net: nn.Module, images: Tensor) -> float:
    """The inception score with this network in Inception's place, from 1 to 10. Salimans et al. 2016, section 4.

    exp E KL(p(y | x) || p(y)): images of one certain class each, and of all classes alike, score highest. Images with
    a number that is not finite score 1.
    """
    if not bool(torch.isfinite(images).all()):
        return 1.0
    answers = net(images).double().log_softmax(1)
    spread = answers.exp().mean(0).log()
    return (answers.exp() * (answers - spread)).sum(1).mean().exp().item()
