"""What is wrong with real images: copies, images and channels of one value, labels that say nothing about them.

Plain functions on tensors; `ganrun.diagnosis.data` draws the conclusions.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ganrun.core.seeding import generator
from ganrun.metrics.neighbours import distances

SIDE = 16  # pixels of a side at which images are compared with each other
SHUFFLES = 999  # of labels, against which the agreement of neighbours is held


class Agreement(NamedTuple):
    """How often the nearest other image has the same label, beside what labels at random would give."""

    share: float  # of images whose nearest neighbour has their label, in [0, 1]
    chance: float  # the mean of that over shuffled labels, in [0, 1]
    p: float  # share of shuffles that agree at least as well, these labels counted as one: in [1 / 1000, 1]


def copies(images: Tensor) -> int:
    """How many images are the same, bit for bit, as one before them. [N, C, H, W]"""
    return len(images) - len(_distinct(images))


def of_one_value(images: Tensor) -> int:
    """How many images have one value in each channel, such as black ones. [N, C, H, W]"""
    flat = images.flatten(2)
    return int((flat == flat[..., :1]).all(-1).all(-1).sum())


def dead_channels(images: Tensor) -> list[int]:
    """The channels that have one value in all images, such as an alpha channel. [N, C, H, W]"""
    channels = images.transpose(0, 1).flatten(1)
    return (channels == channels[:, :1]).all(1).nonzero().flatten().tolist()


def class_counts(labels: Tensor, classes: int) -> list[int]:
    """How many images each class has; none counts too. [N] int64"""
    return labels.bincount(minlength=classes).tolist()


def agreement(images: Tensor, labels: Tensor) -> Agreement:
    """Whether neighbours have the same label more often than by chance. [N, C, H, W], [N] int64

    The nearest other image by Euclidean distance of pixels, reduced to 16x16 at most; copies do not count, as they have
    one label whatever labels mean. Shuffling labels keeps their counts and the neighbours, so `p` is exact: labels that
    have nothing to do with the images have p <= 0.01 in one of 100 cases. Fewer than two images agree on nothing.
    """
    rows = _distinct(images)
    if len(rows) < 2:
        return Agreement(0.0, 0.0, 1.0)
    labels = labels.cpu()[rows]
    nearest = _nearest(_points(images[rows.to(images.device)]))
    found = int((labels[nearest] == labels).sum())
    shuffled = _shuffled(labels, nearest)
    p = (1 + sum(one >= found for one in shuffled)) / (1 + len(shuffled))
    return Agreement(found / len(labels), sum(shuffled) / len(shuffled) / len(labels), p)


def _shuffled(labels: Tensor, nearest: Tensor) -> Sequence[int]:
    """How many neighbours agree under each of 999 shuffles of the labels, the same at every call."""
    drawn, found = generator(0, "labels shuffled"), []
    for _ in range(SHUFFLES):
        other = labels[torch.randperm(len(labels), generator=drawn)]
        found.append(int((other[nearest] == other).sum()))
    return found


def _distinct(images: Tensor) -> Tensor:
    """The indices of the first of each group of equal images. [N, C, H, W] -> [M]"""
    first: dict[bytes, int] = {}
    for index, row in enumerate(images.detach().cpu().contiguous().flatten(1).numpy()):
        first.setdefault(blake2b(row.tobytes(), digest_size=16).digest(), index)
    return torch.tensor(list(first.values()), dtype=torch.int64)


def _points(images: Tensor) -> Tensor:
    """Images as vectors of at most 16x16 pixels a channel. [N, C, H, W] -> [N, D]"""
    images = images.float()
    if images.shape[-1] > SIDE:
        images = F.interpolate(images, size=(SIDE, SIDE), mode="bilinear", antialias=True)
    return images.flatten(1)


def _nearest(points: Tensor) -> Tensor:
    """The index of the nearest other point. [N, D] -> [N]"""
    between = distances(points, points)
    between.fill_diagonal_(float("inf"))
    return between.argmin(1).cpu()
