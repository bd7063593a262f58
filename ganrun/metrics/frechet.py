"""Fréchet distance between Gaussians fitted to features. Dowson and Landau 1982; FID: Heusel et al. 2017.

The bias depends on the number of samples and on the generator (Chong and Forsyth 2020, arXiv 1911.07023): compare equal
numbers only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ganrun.metrics.features import check_features


def frechet_distance(reals: Tensor, fakes: Tensor) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) of the samples' means and covariances. [N, D], [M, D]

    In float64 and without the root of a matrix: S = A^T A with A the centred samples over sqrt(N - 1), so the trace of
    the root is the sum of the singular values of A1 A2^T. That holds for fewer samples than features as well, and the
    distance of equal samples is 0 up to rounding. Heusel et al. 2017, equation 6. Raises ConfigError for sizes that
    do not fit.
    """
    check_features(reals, fakes)
    one, other = reals.double(), fakes.double()
    a, b = _root(one), _root(other)
    means = (one.mean(0) - other.mean(0)).square().sum()
    overlap = torch.linalg.svdvals(a @ b.T).sum()
    return max(0.0, float(means + a.square().sum() + b.square().sum() - 2 * overlap))


def _root(points: Tensor) -> Tensor:
    """A matrix A whose A^T A is the covariance of the points, with the fewest rows. [N, D] -> [min(N, D), D]"""
    centred = (points - points.mean(0)) / (len(points) - 1) ** 0.5
    return torch.linalg.qr(centred, mode="r")[1] if len(centred) > centred.shape[1] else centred
