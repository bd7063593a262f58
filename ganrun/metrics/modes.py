"""Mode coverage of samples of a 2-D mixture, and the share of samples of high quality.

The rules of VEEGAN (Srivastava et al. 2017, section 4.1) and PacGAN (Lin et al. 2018, section 4.1), which both draw
2,500 samples: a sample is good when it lies within three standard deviations of the nearest mode, and a mode is covered
when it is the nearest one of at least one good sample. A perfect generator has 1 - exp(-9 / 2) = 98.9 % good samples.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.data.datasets.base import Dataset

SIGMAS = 3.0  # how far from a mode's centre a sample is good, in the mode's standard deviations
SAMPLES = 2500  # the papers' number


class Modes(NamedTuple):
    """Coverage and quality of samples of a mixture."""

    covered: int  # modes with at least one good sample
    total: int  # modes of the mixture
    good: float  # share of samples within three standard deviations of a mode, in [0, 1]
    least: float  # good samples of the rarest mode, over the number in each if all samples were good and evenly spread


def measure_modes(samples: Tensor, dataset: Dataset) -> Modes:
    """Coverage of the data set's modes by samples [N, 2] or [N, 2, 1, 1]. Raises ConfigError for other data."""
    counts = good_of_each(samples.flatten(1), *mixture(dataset))
    good, total = int(counts.sum()), len(counts)
    return Modes(
        covered=int((counts > 0).sum()),
        total=total,
        good=good / len(samples),
        least=int(counts.min()) * total / len(samples),
    )


def mixture(dataset: Dataset) -> tuple[Tensor, float]:
    """The centres [K, 2] and the standard deviation of a mixture. Raises ConfigError for other data sets."""
    modes = getattr(dataset, "modes", None)
    if modes is None:
        name = type(dataset).__name__
        raise ConfigError("dataset", f"{name}, which has no modes to count", "ring or grid", "dataset=ring")
    return modes, dataset.sigma  # type: ignore[attr-defined]


def nearest_of_each(points: Tensor, centres: Tensor) -> Tensor:
    """The number of points whose nearest mode is each; those that are not finite are left out. [N, 2], [K, 2] -> [K]"""
    points = points[points.isfinite().all(1)].double()
    distances = torch.cdist(points, centres.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return distances.argmin(1).bincount(minlength=len(centres))


def reverse_kl(counts: Tensor, expected: Tensor) -> float:
    """KL(q || p) in nats, of q the shares of samples in each mode from the data's p. [K], [K] -> 0 and up

    Metz et al. 2017, section 3.3, and Lin et al. 2018, section 4.1: 0 for the data's shares, log K for one of K equal
    modes. `counts` of samples, and `expected` counts or shares of the data. Of N samples it is (K - 1) / (2 N) too
    high in the mean: compare equal numbers. Infinite for samples where the data have none, NaN without samples.
    """
    q, p = counts.double() / counts.sum(), expected.double() / expected.sum()
    return float(torch.special.xlogy(q, q / p).nan_to_num(0.0, torch.inf).sum()) if int(counts.sum()) else torch.nan


def good_of_each(points: Tensor, centres: Tensor, sigma: float) -> Tensor:
    """The number of good points of each mode; points that are not finite are not good. [N, 2], [K, 2] -> [K]"""
    distances = torch.cdist(points.double(), centres.double(), compute_mode="donot_use_mm_for_euclid_dist")
    far, nearest = distances.min(1)
    return nearest[far <= SIGMAS * sigma].bincount(minlength=len(centres))
