"""Modes of stacked images, whose class is the number that their channels write. Metz et al. 2017, section 3.3."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ganrun.metrics.classifier import predict
from ganrun.metrics.modes import reverse_kl


def digits_of(numbers: Tensor, channels: int, base: int) -> Tensor:
    """The class of each channel, the first the most significant. [N] -> [N, C]"""
    powers = base ** torch.arange(channels - 1, -1, -1)
    return numbers[:, None] // powers % base


def numbers_of(digits: Tensor, base: int) -> Tensor:
    """The number that the classes of the channels write. [N, C] -> [N]"""
    return (digits * base ** torch.arange(digits.shape[1] - 1, -1, -1)).sum(1)


def channels_of(images: Tensor) -> Tensor:
    """Each channel as an image of its own. [N, C, H, W] -> [N * C, 1, H, W]"""
    return images.flatten(0, 1)[:, None]


class StackedModes:
    """Which of the data's modes samples are in, by a classifier of single channels."""

    def __init__(self, net: nn.Sequential, labels: Tensor, names: Sequence[str], base: int):
        """`net` tells the `base` classes of a channel apart. `labels` [N] of the data; `names` are their numbers."""
        self.net, self.base = net, base
        self.numbers = torch.tensor([int(name) for name in names])  # [K] of each mode
        self.expected = labels.bincount(minlength=len(names)) + 1  # [K]; none is impossible

    def measure(self, images: Tensor) -> dict[str, float]:
        """How many modes samples are in, and their reverse KL; those in no mode of the data are left out. [N, C, H, W]

        Srivastava et al. 2017, section 4.2, take 26,000 samples of 1,000 modes: fewer cannot be in all of them.
        """
        digits = predict(self.net, channels_of(images))[0].view(len(images), -1)
        counts = numbers_of(digits, self.base).bincount(minlength=int(self.numbers.max()) + 1)[self.numbers]
        return {"modes": float((counts > 0).sum()), "reverse_kl": reverse_kl(counts, self.expected)}
