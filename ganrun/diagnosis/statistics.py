"""Statistics of an update's images and scores: what rules read and no loss shows. All on the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ganrun.core.context import Metrics, Observed, PairView
from ganrun.core.decision import margin, ordered
from ganrun.core.images import at_resolution

FEWEST = 4  # images, of fewer of which mean and deviation say nothing
SMALLEST = 8  # pixels to a side, below which images have no spectrum worth a look, such as 2-D points
TINY = 1e-12  # of a variance: of images that are all the same


class Gaussian(NamedTuple):
    """Images as independent pixels: mean, variance, and the variance that the mean has by chance. [C, H, W]"""

    mean: Tensor
    variance: Tensor
    error: Tensor

    @classmethod
    def of_columns(cls, images: Tensor) -> Gaussian:
        """That of a grid of images [rows, columns, C, H, W], a noise for each column, of two columns or more.

        Columns are clusters, whose images are no independent draws: the variance of the mean of all is that of the
        means of columns, over their number (Kish 1965, Survey Sampling, chapter 5). Neither it nor the variance is
        biased, whether the images of a column are all the same or nothing alike.
        """
        error = images.mean(0).var(0) / images.shape[1]
        all_of_them = images.flatten(0, 1)
        return cls(all_of_them.mean(0), all_of_them.var(0, correction=0) + error, error)


class Moments(NamedTuple):
    """What is known of some images, without the images: how many, their mean, and how far from it they are."""

    size: int
    mean: Tensor  # [C, H, W]
    squares: Tensor  # the sum of squared deviations from the mean. [C, H, W]

    @classmethod
    def of(cls, images: Tensor) -> Moments:
        """Those of images [B, C, H, W]."""
        images = images.float()
        mean = images.mean(0)
        return cls(len(images), mean, (images - mean).square().sum(0))

    def joined(self, other: Moments) -> Moments:
        """Those of the images of both (Chan et al. 1983)."""
        size = self.size + other.size
        step = other.mean - self.mean
        between = step.square() * (self.size * other.size / size)
        return Moments(size, self.mean + step * (other.size / size), self.squares + other.squares + between)

    def to(self, device: torch.device) -> Moments:
        """The same on a device."""
        return Moments(self.size, self.mean.to(device), self.squares.to(device))

    @property
    def variance(self) -> Tensor:
        """Without bias, of two images or more. [C, H, W]"""
        return self.squares / (self.size - 1)

    @property
    def gaussian(self) -> Gaussian:
        """That of images that were drawn independently, of two or more."""
        return Gaussian(self.mean, self.variance, self.variance / self.size)


class Images(NamedTuple):
    """The fakes and the reals of an update of D, or of several."""

    fake: Moments
    real: Moments

    @classmethod
    def of(cls, seen: Observed) -> Images | None:
        """Those of an update; None where D saw no reals."""
        return None if seen.real is None else cls(Moments.of(seen.fake), Moments.of(seen.real))

    @property
    def fewest(self) -> int:
        """How many there are of those that are fewer."""
        return min(self.fake.size, self.real.size)

    def joined(self, other: Images) -> Images:
        """Those of both; the other's alone where their sizes differ, as when images grow."""
        if other.real.mean.shape != self.real.mean.shape:
            return other
        return Images(self.fake.joined(other.fake), self.real.joined(other.real))


@torch.no_grad()
def statistics(pair: PairView, seen: Observed, images: Images, *, decides: bool) -> Metrics:
    """Numbers [] by name, of the images [B, C, H, W] and scores [B] of an update of D; none where it saw no reals.

    `images` are those of the same update, and of others before it where one update has few. Of 4 and more:
    `spread`: the distance of two fakes, in root mean square, over that of two reals.
    `distance`: between fakes and reals, as `distance` has it.
    `contrast`: the deviation of pixels within a fake, over that within a real, means over the images of the batch.
    `checkerboard`: power of fakes over that of reals at the highest frequency of rows and columns, where transposed
    convolutions leave a pattern (Odena et al. 2016; Schwarz et al. 2021, arXiv 2111.02447).
    `accuracy_real`, `accuracy_fake`: the shares that D tells right, where some score means undecided (`decides`).
    `order`, elsewhere: the share of pairs of a real and a fake whose scores are in the order that D's loss asks for.
    """
    if seen.real is None or seen.real_score is None:
        return {}
    fake, real = seen.fake.float(), seen.real.float()
    found = {}
    if images.fewest >= FEWEST:
        found["distance"] = distance(images.fake.gaussian, images.real.gaussian)
        found["spread"] = spread(*images)
    if min(real.shape[-2:]) >= SMALLEST:
        found["contrast"] = contrast(fake) / contrast(real).clamp(min=TINY)
        found["checkerboard"] = alternating(fake) / alternating(real).clamp(min=TINY)
    if decides:
        found["accuracy_real"] = (margin(pair, seen.real_score) > 0).float().mean()
        found["accuracy_fake"] = (margin(pair, seen.fake_score) < 0).float().mean()
    else:
        found["order"] = ordered(pair, seen.real_score, seen.fake_score)
    return found


def distance(fake: Gaussian, real: Gaussian) -> Tensor:
    """Distance of two sets of images, each taken for a Gaussian with independent pixels. []

    The Fréchet distance of the two, over the root mean square of the deviation of reals: 0 for equal means and
    deviations, 1 for a single image that is the mean of reals. What chance alone gives it is subtracted: its variance,
    which is variance / N of independent images, for each mean, and half of that for each deviation. Of two sets that
    are alike it is 0 but for noise, which of fewer than `FEWEST` images drowns all else.
    """
    squared = (fake.mean - real.mean).square() + (fake.variance.sqrt() - real.variance.sqrt()).square()
    chance = 1.5 * (fake.error + real.error)
    return ((squared - chance).mean().clamp(min=0) / real.variance.mean().clamp(min=TINY)).sqrt()


def spread(fake: Moments, real: Moments) -> Tensor:
    """How far two fakes are from each other, in root mean square, over how far two reals are. []"""
    return (fake.variance.mean() / real.variance.mean().clamp(min=TINY)).sqrt()


def contrast(images: Tensor) -> Tensor:
    """Standard deviation of an image's numbers, the mean over images. [B, C, H, W] -> []"""
    return images.flatten(1).std(1, correction=0).mean()


def alternating(images: Tensor) -> Tensor:
    """Mean power of columns and of rows at the Nyquist frequency. [B, C, H, W] -> []"""
    power = []
    for dim in (-2, -1):
        sign = 1.0 - 2.0 * (torch.arange(images.shape[dim], device=images.device) % 2)
        signed = images * (sign[:, None] if dim == -2 else sign)
        power.append(signed.mean(dim).square().mean())
    return torch.stack(power).mean()


@torch.no_grad()
def of_average(averaged: Tensor, real: Moments, rows: int | None) -> Metrics:
    """Numbers [] by name, of samples [N, C, H, W] as the grid has them, at the size of the reals.

    `average_distance`: between samples, of averaged weights where there are such, and reals. `label_effect`, of a grid
    with a row for each class and the same noise in each row: how far samples of the same noise and another class are
    from each other, over how far reals are.
    """
    if real.size < FEWEST:
        return {}
    averaged = at_resolution(averaged.float(), real.mean.shape[-1])
    if rows is not None and rows > 1 and len(averaged) % rows == 0 and len(averaged) > rows:
        grid = averaged.unflatten(0, (rows, -1))  # [rows, columns, C, H, W]
        effect = (grid.var(0).mean() / real.variance.mean().clamp(min=TINY)).sqrt()
        return {"average_distance": distance(Gaussian.of_columns(grid), real.gaussian), "label_effect": effect}
    known = len(averaged) >= FEWEST
    return {"average_distance": distance(Moments.of(averaged).gaussian, real.gaussian)} if known else {}


def on_host(found: Mapping[str, Tensor]) -> dict[str, float]:
    """The numbers [] by name, by one copy to the host."""
    return dict(zip(found, torch.stack(tuple(found.values())).tolist(), strict=True)) if found else {}
