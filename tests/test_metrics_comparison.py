"""Samples compared with held-out reals: each measure where its value is known, and the names it is kept under."""

import math

import pytest
import torch
from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.core.seeding import generator
from ganrun.metrics.comparison import Comparison, falls_as_samples_get_better, joined, spaces, tag


def pictures(count: int, seed: int = 0) -> Tensor:
    """Bars at random places and of random brightness. [count, 1, 16, 16] in [-1, 1]"""
    random = generator(seed, "bars")
    places, light = torch.randint(12, (count,), generator=random), torch.rand(count, generator=random)
    images = torch.full((count, 1, 16, 16), -1.0)
    for image, place, value in zip(images, places.tolist(), light.tolist(), strict=True):
        image[0, :, place : place + 4] = value
    return images + 0.05 * torch.randn(images.shape, generator=random)


def test_reals_in_place_of_samples_are_all_that_samples_can_be() -> None:
    reals = spaces(pictures(60))
    found = Comparison(reals).measure(reals)
    shares = {key: found[key] for key in ("precision", "recall", "coverage", "spread")}
    assert shares == pytest.approx(dict.fromkeys(shares, 1.0))
    assert found["duplicates"] == 1  # the nearest two reals themselves
    assert list(found)[:4] == ["quality", "mmd_pixels", "mmd_spectrum", "mmd_convolutions"]
    assert all(found[key] < 0 for key in list(found)[:4])  # nearer than other reals can be


def test_damaged_samples_are_farther_than_other_reals() -> None:
    comparison = Comparison(spaces(pictures(60)))
    others = comparison.measure(spaces(pictures(60, seed=1)))
    dimmed = comparison.measure(spaces(0.5 * pictures(60, seed=1) - 0.5))
    assert others["quality"] < 1.5 < 5 < dimmed["quality"]


def test_one_picture_of_each_class_covers_nothing_within_a_class() -> None:
    """However right the classes are: the mean over two classes of coverage and spread, by hand."""
    reals, labels = pictures(80), torch.arange(80) % 2
    comparison = Comparison(spaces(reals), labels=labels)
    wanted = torch.arange(60) % 2
    one = comparison.measure(spaces(reals[:2][wanted]), wanted)
    assert one["class_spread"] == pytest.approx(0, abs=1e-6)
    assert one["class_coverage"] < 0.3
    same = comparison.measure(spaces(reals), labels)
    assert (same["class_spread"], same["class_coverage"]) == pytest.approx((1, 1))
    assert "class_spread" not in comparison.measure(spaces(reals))  # not made for classes


def test_classes_of_which_there_are_too_few_are_left_out() -> None:
    reals, labels = pictures(80), torch.tensor([0] * 75 + [1] * 5)
    comparison = Comparison(spaces(reals), labels=labels)
    assert comparison.measure(spaces(reals), labels)["class_spread"] == pytest.approx(1)
    assert "class_spread" not in comparison.measure(spaces(reals), torch.ones(80, dtype=torch.int64))


def test_points_are_compared_as_they_are_and_their_modes_are_counted() -> None:
    centres = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    noise = 0.01 * torch.randn(100, 2, generator=generator(0, "points"))
    points = (centres[torch.arange(100) % 2] + noise)[:, :, None, None]
    comparison = Comparison(spaces(points), mixture=(centres, 0.01))
    left = comparison.measure(spaces(points[::2]))
    assert (left["modes"], left["good"]) == (1, pytest.approx(0.98, abs=0.04))
    assert comparison.measure(spaces(points))["modes"] == 2
    assert left["reverse_kl"] == pytest.approx(math.log(2)) and comparison.measure(spaces(points))["reverse_kl"] == 0
    assert left["mmd_points"] > 10 and left["quality"] > 5


def test_batches_are_joined_in_each_space() -> None:
    images = pictures(10)
    whole, pieces = spaces(images), joined(spaces(part) for part in images.split(4))
    assert all(torch.allclose(whole[name], pieces[name], atol=1e-6) for name in whole)


def test_too_few_reals_and_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"dataset.held_out: 5 held-out images, expected 6 or more"):
        Comparison(spaces(pictures(5)))
    with pytest.raises(ConfigError, match=r"images: NaN or infinity"):
        spaces(torch.full((4, 2, 1, 1), math.nan))


@pytest.mark.parametrize(
    ("name", "samples", "expected"),
    [("quality", 500, "metrics/quality_500"), ("recall", 1000, "metrics/recall_1k"), ("a", 1500, "metrics/a_1500")],
)
def test_a_measure_is_named_with_the_number_of_its_samples(name: str, samples: int, expected: str) -> None:
    assert tag(name, samples) == expected


def test_shares_of_what_is_right_rise_and_all_else_falls() -> None:
    measured = Comparison(spaces(pictures(60)), labels=torch.arange(60) % 2).measure(
        spaces(pictures(60)), torch.arange(60) % 2
    )
    rising = {name for name in measured if not falls_as_samples_get_better(tag(name, 500))}
    assert rising == {"precision", "recall", "density", "coverage", "class_coverage", "spread", "class_spread"}
    assert falls_as_samples_get_better("loss/generator/total")


@pytest.mark.parametrize("name", ["accepted", "confidence", "asked_class_seen", "copying"])
def test_what_an_evaluation_adds_rises_as_samples_get_better(name: str) -> None:
    assert not falls_as_samples_get_better(tag(name, 1))
    assert falls_as_samples_get_better(tag("fid_classifier", 1))
