"""Precision, recall, density and coverage: what share of fakes is among the reals, and of reals among the fakes.

Balls around each sample reach to its k-th nearest neighbour in its own sample and are closed, as in Kynkäänniemi et al.
2019 (arXiv 1904.06991), equation 1. Density and coverage: Naeem et al. 2020 (arXiv 2002.09797), equations 2 and 3.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ganrun.metrics.features import check_features

NEIGHBOURS = 5  # of Naeem et al. 2020
ROUNDING = 1e-12  # of squared distances, over the size of the points
SLACK = 1e-9  # of a radius, so that a distance equal to it is within it


class Neighbourhoods(NamedTuple):
    """Shares of reals and fakes in each other's neighbourhoods."""

    precision: float  # share of fakes in a ball of any real, in [0, 1]
    recall: float  # share of reals in a ball of any fake, in [0, 1]
    density: float  # balls of reals that a fake is in, over k; about 1 for equal distributions, may exceed it
    coverage: float  # share of reals whose ball holds a fake, in [0, 1]; 1 - 2^-k expected for equal distributions


def neighbourhoods(reals: Tensor, fakes: Tensor, *, k: int = NEIGHBOURS) -> Neighbourhoods:
    """Precision, recall, density and coverage of features [N, D] and [M, D].

    The expected coverage of equal distributions and numbers of samples is near 1 - 2^-k. Raises ConfigError for sizes
    that do not fit, or fewer than k + 1 samples.
    """
    check_features(reals, fakes, least=k + 1)
    between = distances(reals, fakes)  # [N, M]
    among_reals = between <= _radii(reals, k)[:, None]
    among_fakes = between <= _radii(fakes, k)
    return Neighbourhoods(
        precision=_share(among_reals.any(0)),
        recall=_share(among_fakes.any(1)),
        density=_share(among_reals) * len(reals) / k,
        coverage=_share(among_reals.any(1)),
    )


def distances(one: Tensor, other: Tensor) -> Tensor:
    """Euclidean distances in float64, 0 between points that are equal but for rounding. [N, D], [M, D] -> [N, M]

    By a product of matrices: an order of magnitude quicker than differences, and as exact where points differ by more
    than a millionth of their size.
    """
    centre = one.double().mean(0)
    one, other = one.double() - centre, other.double() - centre
    norms, others = one.square().sum(1)[:, None], other.square().sum(1)
    squared = torch.addmm(norms + others, one, other.T, alpha=-2)
    return torch.where(squared > ROUNDING * (norms + others), squared, 0.0).sqrt()


def pairwise(points: Tensor) -> Tensor:
    """The distance of each pair of points. [N, D] -> [N (N - 1) / 2]"""
    rows, columns = torch.triu_indices(len(points), len(points), 1, device=points.device)
    return distances(points, points)[rows, columns]


def _radii(points: Tensor, k: int) -> Tensor:
    """The distance of each point to its k-th nearest neighbour, itself not counted, and rounding. [N, D] -> [N]"""
    return distances(points, points).kthvalue(k + 1, 1).values * (1 + SLACK)


def _share(marks: Tensor) -> float:
    """The share of marks that are set."""
    return float(marks.double().mean())
