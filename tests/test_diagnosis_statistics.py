"""Statistics of a batch against closed forms, and what rules are given to know of a run."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from support import built, loop
from torch import Tensor

from ganrun.core.callbacks import Callback
from ganrun.core.context import Metrics, Observed, Progress, UpdateResult
from ganrun.core.decision import margin, ordered
from ganrun.core.pair import Pair
from ganrun.diagnosis import statistics as measures
from ganrun.diagnosis.statistics import Images, Moments, alternating, contrast, of_average, on_host
from ganrun.run.about import abouts
from ganrun.run.rehearsal import metric_names
from ganrun.run.statistics import images_of, statistics_of


def noise(count: int, seed: int, deviation: float = 1.0) -> Tensor:
    return deviation * torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def distance(fake: Tensor, real: Tensor) -> Tensor:
    return measures.distance(Moments.of(fake).gaussian, Moments.of(real).gaussian)


def statistics(pair: Pair, seen: Observed, *, decides: bool) -> Metrics:
    images = Images.of(seen)
    return measures.statistics(pair, seen, images, decides=decides) if images else {}


def pair_of(*overrides: str) -> Pair:
    pair = built(*overrides).game.pairs["main"]
    assert isinstance(pair, Pair)
    return pair


@pytest.mark.parametrize("count", [16, 64, 512])
def test_batches_of_one_distribution_are_not_apart_whatever_their_size(count: int) -> None:
    """Its square is estimated without a bias, so that it is near 0; without the correction it is sqrt(3 / count)."""
    found = torch.stack([distance(noise(count, 2 * n), noise(count, 2 * n + 1)) for n in range(20)])
    assert found.mean() < 0.35 * math.sqrt(3 / count)


@pytest.mark.parametrize(("shift", "deviation"), [(0.5, 1.0), (0.0, 2.0), (1.0, 0.25), (-2.0, 1.5)])
def test_the_distance_of_two_gaussians_is_frechets(shift: float, deviation: float) -> None:
    found = distance(noise(20_000, 1, deviation) + shift, noise(20_000, 2))
    assert found.item() == pytest.approx(math.hypot(shift, deviation - 1), abs=0.02)


def test_one_image_that_is_the_mean_of_reals_is_one_deviation_away() -> None:
    real = noise(5000, 1)
    assert distance(real.mean(0, keepdim=True).expand(64, -1, -1, -1), real).item() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("sizes", [[1, 1, 1, 1], [2, 5, 3], [16, 16]])
def test_moments_of_parts_are_those_of_the_whole(sizes: list[int]) -> None:
    images = noise(sum(sizes), 1) + 7
    first, *rest = map(Moments.of, images.split(sizes))
    for other in rest:
        first = first.joined(other)
    assert first.size == sum(sizes)
    torch.testing.assert_close(first.mean, images.mean(0))
    torch.testing.assert_close(first.variance, images.var(0))


def test_alternating_columns_and_rows_are_found_and_waves_are_not() -> None:
    columns = (1 - 2 * (torch.arange(8.0) % 2)).expand(3, 1, 8, 8)
    assert alternating(columns).item() == pytest.approx(0.5)  # all power of rows, none of columns
    assert alternating(columns.transpose(2, 3)).item() == pytest.approx(0.5)
    wave = torch.cos(torch.arange(8.0) * math.pi / 2).expand(3, 1, 8, 8)
    assert alternating(wave).item() == pytest.approx(0.0, abs=1e-6) and alternating(torch.ones(3, 1, 8, 8)) == 0


def test_contrast_is_the_deviation_within_an_image() -> None:
    """Of images of one value it is 0, however different they are; half as strong an image has half of it."""
    flat = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 8, 8)
    halves = torch.cat([torch.ones(4, 1, 8, 4), -torch.ones(4, 1, 8, 4)], 3)
    assert contrast(flat) == 0 and contrast(halves) == 1 and contrast(halves / 2 + flat) == 0.5
    score = torch.zeros(4)
    seen = Observed(halves / 4 - 0.5, score, halves / 2, score)
    assert statistics(pair_of(), seen, decides=True)["contrast"].item() == 0.5


@pytest.mark.parametrize(
    ("loss", "tricks"),
    [("nonsaturating", "[]"), ("nonsaturating", "[flip]"), ("least_squares", "[flip]"), ("hinge", "[]")],
)
def test_what_d_tells_right_and_how_alike_fakes_are(loss: str, tricks: str) -> None:
    pair = pair_of(f"loss={loss}", f"tricks={tricks}")
    real, fake = noise(8, 1), noise(8, 2, 0.5)
    score = torch.tensor([5.0, 5, 5, -5, 5, 5, 5, -5])
    sign = 1 if margin(pair, torch.tensor([5.0])).item() > 0 else -1  # `flip` makes 0 stand for real
    found = on_host(statistics(pair, Observed(fake, -sign * score, real, sign * score), decides=True))
    assert found["accuracy_real"] == found["accuracy_fake"] == 0.75
    expected = math.sqrt(fake.var(0).mean() / real.var(0).mean())
    assert found["spread"] == pytest.approx(expected, rel=1e-5) and {"distance", "checkerboard"} < found.keys()
    assert "accuracy_real" not in statistics(pair, Observed(fake, score, real, score), decides=False)
    assert statistics(pair, Observed(fake, score), decides=True) == {}


@pytest.mark.parametrize(
    ("loss", "tricks"),
    [("wasserstein", "[clip]"), ("relativistic", "[]"), ("relativistic_average", "[]"), ("nonsaturating", "[flip]")],
)
def test_the_order_of_scores_is_counted_by_pairs(loss: str, tricks: str) -> None:
    """Of reals 3, 1 and fakes 2, 1 three of four pairs are in order, one of them by half: (1 + 1 + 0 + 1/2) / 4."""
    pair = pair_of(f"loss={loss}", f"tricks={tricks}")
    sign = -1 if tricks == "[flip]" else 1  # it makes 0 stand for real
    real, fake = torch.tensor([3.0, 1.0]) * sign, torch.tensor([2.0, 1.0]) * sign
    assert ordered(pair, real, fake).item() == 0.625
    assert ordered(pair, real + sign * 9, fake).item() == 1 and ordered(pair, real - sign * 9, fake).item() == 0
    seen = Observed(noise(2, 1), fake, noise(2, 2), real)
    assert statistics(pair, seen, decides=False)["order"].item() == 0.625


@pytest.mark.parametrize(("batch", "steps"), [(1, 6), (2, 5), (16, 3)])
def test_small_batches_are_joined_and_large_ones_stand_alone(batch: int, steps: int) -> None:
    """By hand: all fakes and reals of the steps so far; of a batch that is large enough, those of the last step."""
    words = (f"batch={batch}", "model.generator.norm=none", "model.discriminator.norm=none", "updates.discriminator=2")
    run = built(*words)
    seen: list[Observed] = []
    images: dict[str, Images] = {}

    class Collects(Callback):
        name = "collects"

        def after_step(self, now: Progress, results: Sequence[UpdateResult], *, last: bool) -> None:
            seen.extend(one.observed["main"] for one in results if one.update.role == "discriminator")
            images.update(images_of(run.game, results, images))
            if last:
                found.update(on_host(statistics_of(run.game, results, images)))

    found: dict[str, float] = {}
    loop(run, 0, steps, Collects())
    assert len(seen) == 2 * steps
    of_last = 1 if batch == 16 else len(seen)
    fake, real = (torch.cat([getattr(one, name) for one in seen[-of_last:]]) for name in ("fake", "real"))
    assert found["diagnosis/distance"] == pytest.approx(distance(fake, real).item(), rel=1e-3, abs=1e-4)
    assert found["diagnosis/spread"] == pytest.approx(math.sqrt(fake.var(0).mean() / real.var(0).mean()), rel=1e-3)


def test_three_images_say_nothing_of_a_distance_and_four_do() -> None:
    pair, score = pair_of(), torch.zeros(1)
    for count, named in ((3, False), (4, True)):
        images = Images(Moments.of(noise(count, 1)), Moments.of(noise(count, 2)))
        found = measures.statistics(pair, Observed(noise(1, 1), score, noise(1, 2), score), images, decides=True)
        assert ("distance" in found) == ("spread" in found) == named and "accuracy_real" in found
        assert ("average_distance" in of_average(noise(4, 3), images.real, None)) == named


def test_points_have_no_spectrum() -> None:
    points = torch.rand(8, 2, 1, 1)
    assert "checkerboard" not in statistics(pair_of(), Observed(points, points[:, 0, 0, 0], points, points[:, 0, 0, 0]),
                                            decides=False)  # fmt: skip


def test_labels_that_change_nothing_have_no_effect() -> None:
    column = noise(4, 1)  # the noise of four columns
    same, real = column.repeat(3, 1, 1, 1), noise(4000, 2)
    assert of_average(same, Moments.of(real), 3)["label_effect"] == 0
    other = noise(4000, 3)
    assert of_average(other, Moments.of(real), 1000)["label_effect"].item() == pytest.approx(1.0, abs=0.02)
    assert "label_effect" not in of_average(same, Moments.of(real), None)


@pytest.mark.parametrize("shared", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("columns", [2, 3, 6])
def test_samples_that_share_noise_are_not_apart_for_that(shared: float, columns: int) -> None:
    """Ten classes of one distribution, a column for each noise, which makes this share of what a sample looks like.

    Taken for independent draws they would be at a distance of sqrt(1.5 (1 / columns - 1 / (10 columns))) and more.
    """
    found = []
    for seed in range(40):
        own, other = noise(10 * columns, 3 * seed), noise(columns, 3 * seed + 1).repeat(10, 1, 1, 1)
        samples = math.sqrt(1 - shared) * own + math.sqrt(shared) * other
        found.append(of_average(samples, Moments.of(noise(64, 3 * seed + 2)), 10)["average_distance"].item())
    assert np.mean(found) < 0.4 * math.sqrt(1.5 / columns)
    if shared == 1:
        apart = [distance(noise(columns, n).repeat(10, 1, 1, 1), noise(64, 99 + n)).item() for n in range(40)]
        assert np.mean(apart) > 0.9 * math.sqrt(1.5 * 0.9 / columns)


@pytest.mark.parametrize("rows", [1, 10])
def test_mean_and_variance_of_images_that_share_noise_have_no_bias(rows: int) -> None:
    """Of three columns with a variance of 4: it is found, and the variance of their mean is a third of it."""
    grids = [noise(3, seed, 2.0).expand(rows, -1, -1, -1, -1) for seed in range(200)]
    found = [measures.Gaussian.of_columns(grid) for grid in grids]
    assert np.mean([one.variance.mean() for one in found]) == pytest.approx(4, rel=0.03)
    assert np.mean([one.error.mean() for one in found]) == pytest.approx(4 / 3, rel=0.03)


def test_samples_that_share_noise_and_are_apart_are_as_far_as_they_are() -> None:
    samples = noise(300, 1).repeat(10, 1, 1, 1) * 0.5 + 1
    found = of_average(samples, Moments.of(noise(5000, 2)), 10)["average_distance"]
    assert found.item() == pytest.approx(math.hypot(1, 0.5), abs=0.03)


def test_rules_are_given_the_loss_at_chance_and_the_targets_of_penalties() -> None:
    run = built("loss=hinge", "model.discriminator.norm=layer", "tricks=[gp,r1]", "updates.head_start_steps=7")
    (about,) = abouts(run.game, run.settings, "metrics/quality_500")
    assert about.chance == pytest.approx(2.0) and about.slopes == (("tricks/gp/slope", 1.0),)
    assert (about.steps, about.ready, about.quality, about.pair) == (
        run.settings["steps"],
        7,
        "metrics/quality_500",
        "",
    )
    averaged = built("tricks=[ema]")
    assert not about.averaged and abouts(averaged.game, averaged.settings, None)[0].averaged
    wasserstein = built("loss=wasserstein", "model.discriminator.norm=layer", "tricks=[gp]")
    assert abouts(wasserstein.game, wasserstein.settings, None)[0].chance is None


def test_what_is_recorded_for_findings_may_be_an_objective() -> None:
    assert "diagnosis/distance" in metric_names(built("diagnosis=default"))
    assert "diagnosis/distance" in metric_names(built("diagnosis=default", "batch=2"))
    assert not any(name.startswith("diagnosis/") for name in metric_names(built("diagnosis=none")))
