"""Sliced Wasserstein distance between patches of two sets of images, for each level of their Laplacian pyramids.

Karras et al. 2018 (arXiv 1710.10196), section 5; constants of the authors' code, metrics/sliced_wasserstein.py. Patches
of the smallest level show large structures, those of the largest one sharpness and noise at the size of pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.core.seeding import generator
from ganrun.metrics.features import check_features

SMALLEST = 16  # pixels to a side of the smallest level
PATCH = 7  # pixels to a side of a patch
PATCHES = 128  # of each image and level
DIRECTIONS = 512  # random ones that patches are projected on: four repeats of 128 in the authors' code
TOGETHER = 32  # directions at once
CHUNK = 250  # images at once
MOST = 16_384  # images of either set, as in the paper
TIMES = 1e3  # what the paper's figures are multiplied by
BLUR = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)  # along each axis, before a side is halved and after it is doubled


def sides(resolution: int) -> list[int]:
    """The sides of the levels in pixels: the resolution, half of it and so on, down to 16; none for smaller images."""
    found = [resolution] if resolution >= SMALLEST else []
    while found and found[-1] % 2 == 0 and found[-1] // 2 >= SMALLEST:
        found.append(found[-1] // 2)
    return found


def swd(reals: Tensor, fakes: Tensor, *, seed: int = 0) -> dict[int, float]:
    """1,000 times the sliced Wasserstein distance of each level of the pyramid, by its side in pixels.

    [N, C, H, W], [M, C, H, W] in [-1, 1], rounded to 8 bits; of either set the first min(N, M, 16,384), as the distance
    depends on the number. Each level's patches are standardised channel by channel, by their own set's mean and
    deviation. Of two samples of one distribution it is above 0. Raises ConfigError for images below 16 pixels.
    """
    levels = sides(reals.shape[-1])
    if not levels or reals.shape[1:] != fakes.shape[1:]:
        found = " and ".join(str(list(some.shape)) for some in (reals, fakes))
        raise ConfigError("images", found, f"[N, C, H, W] of one shape, {SMALLEST} pixels a side or more")
    count = min(len(reals), len(fakes), MOST)
    distances = {}
    for level, side in enumerate(levels):
        one, other = (
            standard(patches(images[:count], level, generator(seed, f"patches of {name}", step=side)))
            for name, images in (("reals", reals), ("fakes", fakes))
        )
        distances[side] = TIMES * sliced_wasserstein(one, other, generator(seed, "directions", step=side))
    return distances


def sliced_wasserstein(one: Tensor, other: Tensor, drawn: torch.Generator) -> float:
    """The mean over 512 random directions of the Wasserstein-1 distance of the projections. [N, D] each

    Rabin et al. 2011. Raises ConfigError for sets of different sizes.
    """
    check_features(one, other)
    if one.shape != other.shape:
        raise ConfigError("points", f"{len(one)} and {len(other)}", "equally many")
    total = 0.0
    for _ in range(DIRECTIONS // TOGETHER):
        directions = F.normalize(torch.randn(TOGETHER, one.shape[1], generator=drawn)).to(one)
        ordered = [_ordered(directions @ points.T) for points in (one, other)]
        total += float((ordered[0] - ordered[1]).abs().mean(1).sum())
    return total / DIRECTIONS


def patches(images: Tensor, level: int, drawn: torch.Generator) -> Tensor:
    """128 patches of 7x7 pixels at random places of one level of each pyramid. [N, C, H, W] -> [128 N, C, 7, 7]"""
    return torch.cat([_cut(chunk, drawn) for chunk in _levels(images, level)])


def standard(points: Tensor) -> Tensor:
    """Patches [N, C, 7, 7] with mean 0 and deviation 1 in each channel, as rows [N, 49 C]; a flat channel is 0."""
    deviation, mean = torch.std_mean(points, (0, 2, 3), correction=0, keepdim=True)
    tiny = torch.finfo(points.dtype).tiny
    return ((points - mean) / deviation.clamp_min(tiny)).flatten(1)


def laplacian(images: Tensor, levels: int) -> list[Tensor]:
    """The Laplacian pyramid: what half the size lacks of each size, and the smallest one. [N, C, H, W] each

    Burt and Adelson 1983.
    """
    found = [images]
    for _ in range(levels - 1):
        found.append(halved(found[-1]))
        found[-2] = found[-2] - doubled(found[-1])
    return found


def halved(images: Tensor) -> Tensor:
    """Every second pixel of the blurred images. [N, C, H, W] -> [N, C, H / 2, W / 2]"""
    return _blurred(images)[:, :, ::2, ::2]


def doubled(images: Tensor) -> Tensor:
    """The pixels with zeros between, blurred and four times as bright. [N, C, H, W] -> [N, C, 2 H, 2 W]"""
    count, channels, height, width = images.shape
    between = images.new_zeros(count, channels, 2 * height, 2 * width)
    between[:, :, ::2, ::2] = images
    return 4 * _blurred(between)


def _levels(images: Tensor, level: int) -> Iterator[Tensor]:
    """One level of the pyramids of some images at a time. [N, C, H, W] of values from 0 to 255"""
    for chunk in images.split(CHUNK):
        values = ((chunk.detach().float().clamp(-1, 1) + 1) * 127.5).round()
        yield laplacian(_down(values, level), min(2, len(sides(chunk.shape[-1])) - level))[0]


def _down(images: Tensor, times: int) -> Tensor:
    for _ in range(times):
        images = halved(images)
    return images


def _cut(maps: Tensor, drawn: torch.Generator) -> Tensor:
    """Patches at random places, each with all of its channels. [N, C, H, W] -> [128 N, C, 7, 7]"""
    windows = maps.unfold(2, PATCH, 1).unfold(3, PATCH, 1).movedim(1, 3)  # [N, H - 6, W - 6, C, 7, 7]
    rows = torch.arange(len(maps)).repeat_interleave(PATCHES)
    places = (torch.randint(windows.shape[axis], (len(rows),), generator=drawn) for axis in (1, 2))
    found: Tensor = windows[tuple(one.to(maps.device) for one in (rows, *places))]
    return found


def _ordered(rows: Tensor) -> Tensor:
    """Each row in rising order. [R, N] NumPy's sort takes a tenth of the time of torch's on a CPU."""
    return torch.from_numpy(np.sort(rows.numpy(), axis=1)) if rows.device.type == "cpu" else rows.sort(1).values


def _blurred(images: Tensor) -> Tensor:
    """The images through a small binomial filter, mirrored at their edges. [N, C, H, W]"""
    row = images.new_tensor(BLUR)
    padded = F.pad(images.flatten(0, 1)[:, None], (2, 2, 2, 2), mode="reflect")
    found = F.conv2d(F.conv2d(padded, row.view(1, 1, 1, -1)), row.view(1, 1, -1, 1))
    return found[:, 0].unflatten(0, images.shape[:2])
