"""How different fakes are from each other: their spread against the reals' one, and near duplicates in a batch."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.metrics.features import check_features
from ganrun.metrics.neighbours import pairwise


class Duplicates(NamedTuple):
    """Near duplicates among samples, and how many distinct samples they suggest."""

    pairs: int  # pairs of samples at most `within` apart
    support: float  # distinct samples, were all equally frequent; infinite without a pair


def spread_ratio(reals: Tensor, fakes: Tensor) -> float:
    """The mean distance between two fakes over that between two reals; below 1, fakes vary less. [N, D], [M, D]

    After Odena et al. 2017, section 4.2, who compare the MS-SSIM of pairs. Raises ConfigError for sizes that do not
    fit, or reals that are all equal.
    """
    check_features(reals, fakes)
    usual = float(pairwise(reals).mean())
    if not usual:
        raise ConfigError("reals", "all equal", "reals that differ")
    return float(pairwise(fakes).mean()) / usual


def closest_pair(points: Tensor) -> float:
    """The least distance between two points: among reals, a threshold for `duplicates`. [N, D]

    Raises ConfigError for fewer than two points.
    """
    check_features(points)
    return float(pairwise(points).min())


def duplicates(points: Tensor, *, within: float) -> Duplicates:
    """The birthday test: pairs of points at most `within` apart, and the support that they suggest. [N, D]

    Two draws from S equally frequent samples are equal with probability 1 / S, so N (N - 1) / 2 pairs over those found
    estimates S; where some samples are more frequent, it is a lower bound. Arora and Zhang 2017 (arXiv 1706.08224), who
    look for the batch in which a pair appears. Raises ConfigError for fewer than two points.
    """
    check_features(points)
    apart = pairwise(points)
    pairs = int((apart <= within).sum())
    return Duplicates(pairs, len(apart) / pairs if pairs else math.inf)
