"""MS-SSIM of random pairs: how alike images are, from 0 to 1. Wang et al. 2003, as Odena et al. 2017 use it.

Odena et al. (arXiv 1610.09585), section 4.2, compare pairs within a class; Karras et al. 2018, section 6.1, pairs of
all images, 10,000 of them. Both took TensorFlow's msssim.py: the standard five scales, a Gaussian window of 11 pixels
that shrinks with small images, halving by means of 2x2 pixels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.core.seeding import generator

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, the finest first; of Wang et al.
WINDOW, SIGMA = 11, 1.5  # pixels
BRIGHTNESS, CONTRAST = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # keep quotients of small numbers stable
LEAST = 8  # pixels to a side of the smallest scale: those that five scales of 128 pixels end with
PAIRS = 10_000
CHUNK = 250  # pairs at once


def scales(resolution: int) -> int:
    """How many scales images of this resolution have: five from 128 pixels on, 3 of 32 pixels; 0 below 8."""
    count = int(resolution >= LEAST)
    while count and count < len(WEIGHTS) and resolution % 2 == 0 and resolution // 2 >= LEAST:
        count, resolution = count + 1, resolution // 2
    return count


def similarity(images: Tensor, labels: Tensor | None = None, *, seed: int = 0) -> float:
    """The mean MS-SSIM of 10,000 random pairs of different images, below that of reals where these are more varied.

    [N, C, H, W] in [-1, 1], rounded to 8 bits. With `labels` [N] both images of a pair are of one class, equally many
    pairs of each class that has two or more; without such a class, NaN. Raises ConfigError for fewer than two images.
    """
    if len(images) < 2:
        raise ConfigError("images", f"{len(images)}", "two or more")
    one, other = random_pairs(len(images), labels, seed).to(images.device).unbind(1)
    values = ((images.detach().float().clamp(-1, 1) + 1) * 127.5).round()
    parts = [ms_ssim(values[i], values[j]) for i, j in zip(one.split(CHUNK), other.split(CHUNK), strict=True)]
    return float(torch.cat(parts).double().mean())


def random_pairs(count: int, labels: Tensor | None, seed: int) -> Tensor:
    """Random pairs of different numbers below `count`; with labels [N], both of one class. [at most 10,000, 2]"""
    drawn = generator(seed, "pairs")
    kinds = torch.zeros(count) if labels is None else labels.cpu()
    groups = [rows for kind in kinds.unique() if len(rows := (kinds == kind).nonzero()[:, 0]) > 1]
    found = [torch.empty(0, 2, dtype=torch.int64)]
    for rows in groups:
        first = torch.randint(len(rows), (PAIRS // len(groups),), generator=drawn)
        further = torch.randint(1, len(rows), first.shape, generator=drawn)
        found.append(torch.stack([rows[first], rows[(first + further) % len(rows)]], 1))
    return torch.cat(found)


def ms_ssim(one: Tensor, other: Tensor) -> Tensor:
    """The multi-scale structural similarity of each pair of images. [N, C, H, W] of values from 0 to 255 -> [N]

    As many of the five scales as leave 8 pixels to a side; the weights of fewer are divided by their sum. Negative
    contrasts count as 0, as in TensorFlow's. Raises ConfigError for images of fewer pixels, or of different shapes.
    """
    count = scales(one.shape[-1])
    if not count or one.shape != other.shape:
        found = " and ".join(str(list(some.shape)) for some in (one, other))
        raise ConfigError("images", found, f"[N, C, H, W] of one shape, {LEAST} pixels a side or more")
    total = 1.0 if count == len(WEIGHTS) else math.fsum(WEIGHTS[:count])
    weights = [weight / total for weight in WEIGHTS[:count]]
    result = one.new_ones(len(one))
    for number, weight in enumerate(weights, 1):
        whole, contrast = ssim(one, other)
        result = result * (whole if number == count else contrast).clamp_min(0) ** weight
        one, other = (F.avg_pool2d(images, 2) for images in (one, other))
    return result


def ssim(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """The structural similarity of each pair, and its part without brightness. [N, C, H, W], 0 to 255 -> [N], [N]

    Wang et al. 2004, equations 13 and 6 with their constants; means over all places of the window and all channels.
    """
    row = _window(min(WINDOW, *one.shape[2:])).to(one)
    moments = torch.stack([one, other, one * one, other * other, one * other])
    mean, means, square, squares, product = _filtered(moments, row)
    brightness = (2 * mean * means + BRIGHTNESS) / (mean * mean + means * means + BRIGHTNESS)
    variances = square - mean * mean + squares - means * means
    contrast = (2 * (product - mean * means) + CONTRAST) / (variances + CONTRAST)
    return (brightness * contrast).mean((1, 2, 3)), contrast.mean((1, 2, 3))


def _window(size: int) -> Tensor:
    """A Gaussian over this many pixels, narrower where there are fewer than 11. [size]"""
    places = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    found = (-(places / (SIGMA * size / WINDOW)).square() / 2).exp()
    return found / found.sum()


def _filtered(maps: Tensor, row: Tensor) -> Tensor:
    """Means within the window wherever it fits. [..., H, W] -> [..., H - size + 1, W - size + 1]

    By products with banded matrices, which on a CPU take a sixth of the time of convolutions of one channel.
    """
    across, down = (_banded(row, side) for side in (maps.shape[-1], maps.shape[-2]))
    return down.T @ (maps @ across)


def _banded(row: Tensor, side: int) -> Tensor:
    """The window at each of its places, in a column of its own. [side, side - size + 1]"""
    places = torch.arange(side - len(row) + 1, device=row.device)
    found = row.new_zeros(side, len(places))
    for offset, weight in enumerate(row):
        found[places + offset, places] = weight
    return found
