"""Maximum mean discrepancy: whether two samples of features come from one distribution. Gretton et al. 2012.

The statistic is the unbiased one, which may be negative. All calculations are in float64 on one Gram matrix of both
samples, 8 (N + M)^2 bytes: 128 MB for 2,000 against 2,000.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ganrun.core.seeding import generator
from ganrun.metrics.features import check_features

PERMUTATIONS = 500
LEVEL = 0.95  # the quantile of the permutations that is the floor
TWO = 0.97725  # the share of a normal distribution below two standard deviations


class TwoSample(NamedTuple):
    """A permutation test between reals and fakes."""

    z: float  # the statistic: 2 is what 97.7 % of its values under permutations stay below, -2 what 2.3 % do
    floor: float  # the z that 95 % of the permutations stay below: what equal distributions reach by chance
    mmd: float  # the unbiased squared MMD itself


def two_sample(reals: Tensor, fakes: Tensor, *, seed: int = 0, permutations: int = PERMUTATIONS) -> TwoSample:
    """Permutation test of the RBF MMD with the median bandwidth. [N, D], [M, D]

    z is 2 where 97.7 % of `permutations` values stay below, as for a normal distribution, and -2 where 2.3 % do; it is
    linear on each side of 0, which is exactly the mean of the unbiased statistic under permutations. Two scales,
    because the statistic is skewed to the right. z, floor and mmd are 0 when all features are equal. z grows with the
    number of samples, up to about 0.95 N for N against N that do not overlap: compare equal numbers only. Gretton et
    al. 2012, equation 3 and section 5. Raises ConfigError for sizes that do not fit.
    """
    check_features(reals, fakes)
    gram = rbf_gram(torch.cat([reals, fakes]))
    total = len(gram)
    first = torch.arange(total, device=gram.device)[None] < len(reals)
    order = torch.rand(permutations, total, generator=generator(seed, "permutations")).argsort(1).to(gram.device)
    values = squared_mmd(gram, torch.cat([first, order < len(reals)]))
    observed, under = values[0], values[1:]
    if not bool(under.any()):
        return TwoSample(0.0, 0.0, 0.0)
    above, below = _scale(values), _scale(-values)  # the split at hand is one of the permutations: the test is exact
    z = observed / (above if observed > 0 else below)
    return TwoSample(float(z), float(under.quantile(LEVEL) / above), float(observed))


def _scale(values: Tensor) -> Tensor:
    """Half of what 97.7 % of the values stay below; their root mean square where that is not above 0. [P] -> []"""
    half = values.quantile(TWO) / 2
    return half if half > 0 else values.square().mean().sqrt()


def squared_mmd(gram: Tensor, first: Tensor) -> Tensor:
    """The unbiased squared MMD for each way to split the rows of a Gram matrix in two. [N, N], bool [P, N] -> [P]

    `first` marks the rows of the first sample, equally many in each way. Gretton et al. 2012, equation 3.
    """
    gram = gram - torch.diag(gram.diagonal())
    ones = first.to(gram)
    n = ones[0].sum()
    m = len(gram) - n
    within = (ones @ gram * ones).sum(1)
    across = ones @ gram.sum(0) - within
    rest = gram.sum() - within - 2 * across
    return within / (n * (n - 1)) + rest / (m * (m - 1)) - 2 * across / (n * m)


def rbf_gram(points: Tensor) -> Tensor:
    """The RBF kernel exp(-|x - y|^2 / (2 s^2)), where s is the median distance of two points. [N, D] -> [N, N]

    In float64. Where half of the distances or more are 0, the root mean square distance takes the median's place. All
    ones when all points are equal. Gretton et al. 2012, section 8.
    """
    points = points.double() - points.double().mean(0)
    norms = points.square().sum(1)
    squared = (norms[:, None] + norms - 2 * points @ points.T).clamp_min(0).fill_diagonal_(0)
    rows, columns = torch.triu_indices(len(points), len(points), 1, device=points.device)
    pairs = squared[rows, columns]
    rounding = 1e-12 * float(norms.max())  # a squared distance below it is that of equal points
    width = float(pairs.median()) if float(pairs.median()) > rounding else float(pairs.mean())
    return (squared / (-2 * width)).exp() if width > rounding else torch.ones_like(squared)


def kid(reals: Tensor, fakes: Tensor) -> float:
    """Kernel inception distance: unbiased squared MMD of the kernel (x . y / D + 1)^3. [N, D], [M, D]

    Bińkowski et al. 2018, section 4, on all samples at once in place of the mean over random subsets. Raises
    ConfigError for sizes that do not fit.
    """
    check_features(reals, fakes)
    points = torch.cat([reals, fakes]).double()
    gram = (points @ points.T / points.shape[1] + 1) ** 3
    first = torch.arange(len(points), device=points.device)[None] < len(reals)
    return float(squared_mmd(gram, first))
