"""Statistics of one update's images and scores: what rules read and no loss shows. All on the device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ganrun.core.context import Metrics, Observed, PairView
from ganrun.core.decision import margin, ordered
from ganrun.core.images import at_resolution

FEWEST = 4  # images of a batch, below which its mean and deviation say nothing
SMALLEST = 8  # pixels to a side, below which images have no spectrum worth a look, such as 2-D points
TINY = 1e-12  # of a variance: of images that are all the same


@torch.no_grad()
def statistics(pair: PairView, seen: Observed, *, decides: bool) -> Metrics:
    """Numbers [] by name, of the images [B, C, H, W] and scores [B] of an update of D; none where it saw no reals.

    `spread`: the distance of two fakes of the batch, in root mean square, over that of two reals.
    `distance`: between fakes and reals as `distance` has it, of batches that are large enough.
    `contrast`: the deviation of pixels within a fake, over that within a real, means over the images of the batch.
    `checkerboard`: power of fakes over that of reals at the highest frequency of rows and columns, where transposed
    convolutions leave a pattern (Odena et al. 2016; Schwarz et al. 2021, arXiv 2111.02447).
    `accuracy_real`, `accuracy_fake`: the shares that D tells right, where some score means undecided (`decides`).
    `order`, elsewhere: the share of pairs of a real and a fake whose scores are in the order that D's loss asks for.
    """
    if seen.real is None or seen.real_score is None:
        return {}
    fake, real = seen.fake.float(), seen.real.float()
    found = {"distance": distance(fake, real)} if min(len(fake), len(real)) >= FEWEST else {}
    if len(fake) > 1:
        found["spread"] = (fake.var(0).mean() / real.var(0).mean().clamp(min=TINY)).sqrt()
    if min(real.shape[-2:]) >= SMALLEST:
        found["contrast"] = contrast(fake) / contrast(real).clamp(min=TINY)
        found["checkerboard"] = alternating(fake) / alternating(real).clamp(min=TINY)
    if decides:
        found["accuracy_real"] = (margin(pair, seen.real_score) > 0).float().mean()
        found["accuracy_fake"] = (margin(pair, seen.fake_score) < 0).float().mean()
    else:
        found["order"] = ordered(pair, seen.real_score, seen.fake_score)
    return found


def distance(fake: Tensor, real: Tensor) -> Tensor:
    """Distance of two batches, each taken for a Gaussian with independent pixels. [B, C, H, W] twice -> []

    The Fréchet distance of the two, over the root mean square of the deviation of reals: 0 for equal means and
    deviations, 1 for a single image that is the mean of reals. What chance alone gives it is subtracted: variance / B
    for each mean, and variance / 2B for each deviation. Of two batches that are alike it is 0 but for noise, which of
    fewer than `FEWEST` images drowns all else.
    """
    (mean_fake, of_fakes), (mean_real, of_reals) = [(images.mean(0), images.var(0)) for images in (fake, real)]
    squared = (mean_fake - mean_real).square() + (of_fakes.sqrt() - of_reals.sqrt()).square()
    chance = 1.5 * (of_fakes / len(fake) + of_reals / len(real))
    return ((squared - chance).mean().clamp(min=0) / of_reals.mean().clamp(min=TINY)).sqrt()


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
def of_average(averaged: Tensor, real: Tensor, rows: int | None) -> Metrics:
    """Numbers [] by name, of samples [N, C, H, W] as the grid has them, at the size of reals [B, C, H, W].

    `average_distance`: between samples, of averaged weights where there are such, and reals. `label_effect`, of a grid
    with a row for each class and the same noise in each row: how far samples of the same noise and another class are
    from each other, over how far reals are.
    """
    real = real.float()
    averaged = at_resolution(averaged.float(), real.shape[-1])
    found = {"average_distance": distance(averaged, real)} if min(len(averaged), len(real)) >= FEWEST else {}
    if rows is not None and rows > 1 and len(averaged) % rows == 0 and len(averaged) > rows:
        grid = averaged.unflatten(0, (rows, -1))  # [rows, columns, C, H, W]
        found["label_effect"] = (grid.var(0).mean() / real.var(0).mean().clamp(min=TINY)).sqrt()
    return found


def on_host(found: Mapping[str, Tensor]) -> dict[str, float]:
    """The numbers [] by name, by one copy to the host."""
    return dict(zip(found, torch.stack(tuple(found.values())).tolist(), strict=True)) if found else {}
