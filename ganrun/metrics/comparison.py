"""Samples of a run against held-out reals: every measure that needs no trained weights, by name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.metrics.features import LEAST, features, standardised
from ganrun.metrics.mmd import TwoSample
from ganrun.metrics.modes import good_of_each, nearest_of_each, reverse_kl
from ganrun.metrics.neighbours import NEIGHBOURS, Neighbourhoods, neighbourhoods
from ganrun.metrics.published import HELD_OUT, TRAIN
from ganrun.metrics.quality import compare, quality
from ganrun.metrics.variety import closest_pair, duplicates, spread_ratio

QUALITY = "quality"  # the name of the one number that summarises the others
POINTS = "points"  # the only space of data that are no images
RISING = ("precision", "recall", "density", "coverage", "spread", "class_coverage", "class_spread", "modes", "good",
          "is_inception", "accepted", "confidence", "asked_class_seen", "copying")  # fmt: skip
Features = Mapping[str, Tensor]


def spaces(images: Tensor) -> dict[str, Tensor]:
    """The features of images [N, C, H, W] in [-1, 1] in each space, by its name; points as they are. [N, D], float64

    Raises ConfigError for images that are not finite.
    """
    if min(images.shape[2:]) >= LEAST:
        return features(images)
    if not bool(images.isfinite().all()):
        raise ConfigError("images", "NaN or infinity", "finite values")
    return {POINTS: images.flatten(1).double()}


def joined(pieces: Iterable[Features]) -> dict[str, Tensor]:
    """The features of several batches as one. [N, D] in each space"""
    found = list(pieces)
    return {name: torch.cat([piece[name] for piece in found]) for name in found[0]}


def check_count(reals: int) -> None:
    """Raises ConfigError for fewer than 6 held-out reals: neighbours are counted among them."""
    if reals <= NEIGHBOURS:
        expected = f"{NEIGHBOURS + 1} or more, to compare samples with"
        raise ConfigError("dataset.held_out", f"{reals} held-out images", expected, "metrics=none")


class Comparison:
    """Held-out reals that samples are compared with. What depends on them alone is computed once."""

    def __init__(
        self,
        reals: Features,
        *,
        labels: Tensor | None = None,
        mixture: tuple[Tensor, float] | None = None,
    ):
        """`reals` from `spaces`, [N, D] each; `labels` [N]; `mixture`: centres [K, 2] and deviation of their modes.

        Raises ConfigError for fewer than 6 reals.
        """
        check_count(len(next(iter(reals.values()))))
        self.reals, self.labels, self.mixture = dict(reals), labels, mixture
        self.space = list(reals)[-1]  # in which neighbours are counted
        self.own = standardised(self.reals[self.space], self.reals[self.space])[0]
        self.closest = closest_pair(self.own)

    def measure(self, fakes: Features, labels: Tensor | None = None) -> dict[str, float]:
        """Every measure of samples by name, `quality` first. [M, D] in each space

        `labels` [M]: the classes that samples were made for, which are compared class by class too. Raises ConfigError
        for spaces or sizes that do not fit the reals.
        """
        tests = compare(self.reals, fakes)
        near = standardised(self.reals[self.space], fakes[self.space])[1]
        found = {QUALITY: quality(tests)} | _distances(tests) | neighbourhoods(self.own, near)._asdict()
        found |= {"spread": self._spread(self.own, near), "duplicates": self._duplicates(near)}
        if labels is not None and self.labels is not None:
            found |= self._in_classes(near, labels)
        if self.mixture is not None:
            found |= _modes(fakes[POINTS], *self.mixture)
        return found

    def _duplicates(self, fakes: Tensor) -> float:
        """Pairs of samples nearer to each other than the nearest two reals. [M, D]"""
        return float(duplicates(fakes, within=self.closest).pairs)

    def _in_classes(self, fakes: Tensor, labels: Tensor) -> dict[str, float]:
        """Coverage and spread within each class, the mean over classes that have enough of both. [M, D], [M]

        A generator that draws one picture of each class has coverage 0 and spread 0 here, however right its classes.
        """
        assert self.labels is not None
        found: list[tuple[Neighbourhoods, float]] = []
        for label in self.labels.unique():
            reals, made = self.own[self.labels == label], fakes[labels == label]
            if min(len(reals), len(made)) > NEIGHBOURS:
                found.append((neighbourhoods(reals, made), self._spread(reals, made)))
        if not found:
            return {}
        coverage, spread = [one[0].coverage for one in found], [one[1] for one in found]
        return {"class_coverage": math.fsum(coverage) / len(found), "class_spread": math.fsum(spread) / len(found)}

    @staticmethod
    def _spread(reals: Tensor, fakes: Tensor) -> float:
        """The mean distance of two samples over that of two reals; 1 for reals that are all equal. [N, D], [M, D]"""
        return spread_ratio(reals, fakes) if bool((reals != reals[0]).any()) else 1.0


def tag(name: str, samples: int) -> str:
    """The name under which a run records a measure of a number of samples: metrics/quality_500, metrics/recall_1k.

    What a measure compares with comes last: metrics/fid_inception_500_held_out, metrics/fid_inception_50k_train.
    """
    against = next((end for end in (HELD_OUT, TRAIN) if name.endswith(end)), "")
    stem = name.removesuffix(against)
    return f"metrics/{stem}_{f'{samples // 1000}k' if samples % 1000 == 0 else samples}{against}"


def falls_as_samples_get_better(name: str) -> bool:
    """Whether less of this metric is better: true but for shares of what is covered, and of what is good."""
    if name.startswith("translation/"):
        return not name.rpartition("/")[2].startswith("content")
    return not any(name == f"metrics/{one}" or name.startswith(f"metrics/{one}_") for one in RISING)


def _distances(tests: Mapping[str, TwoSample]) -> dict[str, float]:
    return {f"mmd_{space}": test.z for space, test in tests.items()}


def _modes(points: Tensor, centres: Tensor, sigma: float) -> dict[str, float]:
    """Modes with a good sample, the share of good samples, and the reverse KL of nearest modes. [M, 2], [K, 2]"""
    centres = centres.to(points.device)
    good, nearest = good_of_each(points, centres, sigma), nearest_of_each(points, centres)
    shares = {"modes": float((good > 0).sum()), "good": float(good.sum()) / len(points)}
    return shares | {"reverse_kl": reverse_kl(nearest, torch.ones(len(centres), device=points.device))}
