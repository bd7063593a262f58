"""Statistics of a batch against closed forms, and what rules are given to know of a run."""

import math

import pytest
import torch
from support import built
from torch import Tensor

from ganrun.core.context import Observed
from ganrun.core.decision import margin, ordered
from ganrun.core.pair import Pair
from ganrun.diagnosis.statistics import alternating, contrast, distance, of_average, on_host, statistics
from ganrun.run.about import abouts
from ganrun.run.rehearsal import metric_names


def noise(count: int, seed: int, deviation: float = 1.0) -> Tensor:
    return deviation * torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


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


def test_points_have_no_spectrum() -> None:
    points = torch.rand(8, 2, 1, 1)
    assert "checkerboard" not in statistics(pair_of(), Observed(points, points[:, 0, 0, 0], points, points[:, 0, 0, 0]),
                                            decides=False)  # fmt: skip


def test_labels_that_change_nothing_have_no_effect() -> None:
    column = noise(4, 1)  # the noise of four columns
    same, real = column.repeat(3, 1, 1, 1), noise(4000, 2)
    assert of_average(same, real, 3)["label_effect"] == 0
    other = noise(4000, 3)
    assert of_average(other, real, 1000)["label_effect"].item() == pytest.approx(1.0, abs=0.02)
    assert "label_effect" not in of_average(same, real, None)


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
    wasserstein = built("loss=wasserstein", "model.discriminator.norm=layer", "tricks=[gp]")
    assert abouts(wasserstein.game, wasserstein.settings, None)[0].chance is None


def test_what_is_recorded_for_findings_may_be_an_objective() -> None:
    assert "diagnosis/distance" in metric_names(built("diagnosis=default"))
    assert not any(name.startswith("diagnosis/") for name in metric_names(built("diagnosis=none")))
