"""Whether fakes are copies of the training set: the three-sample test C_T. Meehan et al. 2020 (arXiv 2004.05675).

A number far below 0 means copies only when the fakes also fit the data: no number tells memorisation from other misfits
by itself (Stein et al. 2023, arXiv 2306.04675).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.core.seeding import generator
from ganrun.metrics.features import check_features
from ganrun.metrics.neighbours import distances

LEAST = 20  # fakes of a cell that counts, of the paper
ROUNDS = 20  # of k-means


def copying(train: Tensor, test: Tensor, fakes: Tensor, *, cells: int, seed: int = 0) -> float:
    """C_T: mean over cells of the z of fakes being farther from the training set than held-out reals. [N, D] each

    About 0 for a generator as good as the data. Far below 0 (-3 and less), fakes are nearer to the training set than
    new reals are: they copy. Far above, they are off the data. Cells are those of k-means on the training set; each
    weighs as its share of the test set, and those with fewer than 20 fakes or no test image are left out. Meehan et al.
    2020, section 4; distances are to the whole training set. Raises ConfigError for sizes that do not fit, and where
    no cell is left.
    """
    check_features(train, test, fakes, least=1)
    centres = cell_centres(train, cells, seed)
    of_test, of_fakes = (distances(points, centres).argmin(1) for points in (test, fakes))
    near_test, near_fakes = (distances(points, train).min(1).values for points in (test, fakes))
    weights = of_test.bincount(minlength=cells) * (of_fakes.bincount(minlength=cells) >= LEAST)
    if not int(weights.sum()):
        raise ConfigError("cells", str(cells), f"cells with {LEAST} fakes or more and test images", "cells=1")
    scores = [
        weight * mann_whitney(near_fakes[of_fakes == cell], near_test[of_test == cell])
        for cell, weight in enumerate(weights.tolist())
        if weight
    ]
    return sum(scores) / int(weights.sum())


def mann_whitney(one: Tensor, other: Tensor) -> float:
    """The z of the Mann-Whitney U statistic: positive when the first numbers are larger. [M], [N]

    Ties count half; the variance is the one without ties. Mann and Whitney 1947.
    """
    m, n = len(one), len(other)
    ordered = other.sort().values
    below, to = (torch.searchsorted(ordered, one.contiguous(), right=right).sum() for right in (False, True))
    u = float(below + to) / 2
    return (u - m * n / 2) / math.sqrt(m * n * (m + n + 1) / 12)


def cell_centres(points: Tensor, cells: int, seed: int) -> Tensor:
    """The centres of k-means with distinct random points as first centres. [N, D] -> [cells, D], float64

    Lloyd 1982; a cell that becomes empty keeps its centre. Raises ConfigError for more cells than points.
    """
    if not 1 <= cells <= len(points):
        raise ConfigError("cells", str(cells), f"1 to {len(points)}, the training images", "cells=1")
    points = points.double()
    centres = points[torch.randperm(len(points), generator=generator(seed, "cells"))[:cells].to(points.device)]
    for _ in range(ROUNDS):
        nearest = distances(points, centres).argmin(1)
        counts = nearest.bincount(minlength=cells)[:, None]
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        centres = torch.where(counts > 0, sums / counts.clamp_min(1), centres)
    return centres
