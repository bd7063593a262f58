"""Whether fakes are copies of the training set: the share that is memorised, and the three-sample test C_T.

C_T (Meehan et al. 2020, arXiv 2004.05675) far below 0 means copies only when the fakes also fit the data: no number
tells memorisation from other misfits by itself (Stein et al. 2023, arXiv 2306.04675). Blurred fakes are near to all
images, to those of the training set too. A copy is near to one: Carlini et al. 2023 (arXiv 2301.13188), section 5.
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
AROUND = 50  # training images nearest to a fake, of Carlini et al.
RARE = 0.01  # the share of new reals that would count as memorised


class Memorised:
    """The share of fakes that are copies: nearer to one training image than the others around it allow.

    Compared is the distance to the nearest training image, over the mean distance to the 50 nearest (`relative`), with
    the 1 % of held-out reals where it is least: of a generator as good as the data 0.01 are such fakes, of one that
    blurs fewer. Carlini et al. 2023, section 5, with a bound from the data in place of their 0.5.
    """

    def __init__(self, train: Tensor, test: Tensor):
        """Features of the training set [N, D] and of held-out reals [M, D]. Raises ConfigError for others."""
        check_features(train, test, least=1)
        self.train, self.bound = train, float(relative(test, train).quantile(RARE))

    def share(self, fakes: Tensor) -> float:
        """The share of these fakes [K, D] that are memorised, in [0, 1]. Raises ConfigError for other features."""
        check_features(self.train, fakes, least=1)
        return float((relative(fakes, self.train) < self.bound).double().mean())


def relative(points: Tensor, train: Tensor) -> Tensor:
    """The distance of points to their nearest in the training set, over the mean of their 50 nearest. [M, D] -> [M]

    Of a small training set, half of it in place of 50.
    """
    near = distances(points, train).topk(min(AROUND, -(-len(train) // 2)), largest=False).values
    return near[:, 0] / near.mean(1).clamp_min(torch.finfo(near.dtype).tiny)


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
