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
    """Euclidean distances in float64, exactly 0 between equal points. [N, D], [M, D] -> [N, M]"""
    return torch.cdist(one.double(), other.double(), compute_mode="donot_use_mm_for_euclid_dist")


def _radii(points: Tensor, k: int) -> Tensor:
    """The distance of each point to its k-th nearest neighbour, itself not counted. [N, D] -> [N]"""
    return distances(points, points).kthvalue(k + 1, 1).values


def _share(marks: Tensor) -> float:
    """The share of marks that are set."""
    return float(marks.double().mean())
