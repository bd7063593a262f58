"""Discriminator rejection sampling against the paper's formula, closed forms, and where it is refused."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from support import ScaleGenerator, built, family, pair_in, pair_of, tiny

import ganrun
from ganrun.core.context import BatchShape
from ganrun.core.errors import ConfigError
from ganrun.games.latent import LatentGame
from ganrun.run.draw import BATCH
from ganrun.run.rejection import EPS, Rejection, Threshold, acceptance, check
from ganrun.tricks.labels import Flip


def by_hand(logit: float, largest: float, gamma: float) -> float:
    """Azadi et al. 2019, equation 8 and algorithm 1."""
    gap = logit - largest
    shifted = gap - math.log(1 - math.exp(gap - EPS)) - gamma
    return 1 / (1 + math.exp(-shifted))


@pytest.mark.parametrize("gamma", [0.0, 1.5, -2.0])
def test_the_acceptance_is_that_of_the_paper(gamma: float) -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -3.0, 1.999])
    found = acceptance(logits, torch.tensor(2.0), gamma)
    assert found.tolist() == pytest.approx([by_hand(x, 2.0, gamma) for x in logits.double().tolist()], rel=1e-5)


def test_without_gamma_it_is_the_ratio_of_densities_over_its_largest() -> None:
    """sigmoid(F) = exp(d - d_max) = p_data / (M p_g), the probability of plain rejection sampling."""
    logits = torch.linspace(-8, 3, 50)
    assert torch.allclose(acceptance(logits, torch.tensor(3.0), 0.0), (logits - 3).double().exp(), atol=1e-7)


def test_a_sample_at_the_percentile_is_accepted_every_second_time() -> None:
    logits = torch.linspace(-1, 1, 1001)
    threshold = Threshold.of(logits, 80)
    assert acceptance(logits[800:801], threshold.largest, threshold.gamma).item() == pytest.approx(0.5, abs=1e-6)


def log_ratio(x: torch.Tensor) -> torch.Tensor:
    """The logit of the best D for data N(1, 0.5) and samples N(0, 1)."""
    data, made = torch.distributions.Normal(1.0, 0.5), torch.distributions.Normal(0.0, 1.0)
    return data.log_prob(x) - made.log_prob(x)


def test_with_the_best_discriminator_accepted_samples_are_the_data() -> None:
    torch.manual_seed(0)
    x = torch.randn(40_000)
    best = log_ratio(torch.linspace(-5, 5, 100_001)).max()
    kept = x[Threshold(best, 0.0).accepted(log_ratio(x), torch.rand(len(x)))[0]]
    assert len(kept) / len(x) == pytest.approx(math.exp(-best), rel=0.05)
    assert stats.kstest(kept.numpy(), "norm", (1.0, 0.5)).pvalue > 0.01


def test_with_a_percentile_accepted_samples_move_towards_the_data() -> None:
    torch.manual_seed(0)
    x, data = torch.randn(40_000), torch.randn(40_000) * 0.5 + 1
    threshold = Threshold.of(log_ratio(torch.randn(10_000)), 95)
    kept = x[threshold.accepted(log_ratio(x), torch.rand(len(x)))[0]]
    distance = [stats.wasserstein_distance(some.numpy(), data.numpy()) for some in (x, kept)]
    assert distance[1] < 0.3 * distance[0]
    assert len(kept) < 0.3 * len(x)


def test_a_larger_logit_becomes_the_largest_in_the_order_of_the_samples() -> None:
    torch.manual_seed(0)
    logits, uniform = torch.randn(200), torch.rand(200)
    start = Threshold.of(logits[:20], 80)
    whole, after = start.accepted(logits, uniform)
    first, between = start.accepted(logits[:77], uniform[:77])
    second, end = between.accepted(logits[77:], uniform[77:])
    assert torch.equal(whole, torch.cat([first, second])) and after.largest == end.largest == logits.max()


def linear_game(**tricks) -> LatentGame:
    """G(z) = z as 2x2 pixels, D(x) = 3 x_0 + 4 x_2."""
    pair = pair_of(generator=ScaleGenerator(1.0), **tricks)
    return LatentGame(pairs={"main": pair}, shape=BatchShape(4, 2), prior="normal", grid=4)


def drawn(game: LatentGame, count: int, percentile: float = 95.0) -> tuple[torch.Tensor, Rejection]:
    with game.drawing() as drawing:
        rejection = Rejection(game, drawing, seed=3, percentile=percentile)
        return torch.cat(list(rejection.batches(count))), rejection


def test_a_game_keeps_samples_that_its_discriminator_scores_high() -> None:
    """The logit of a sample is N(0, 25): with the 95th percentile those near 1.64 of 5 are kept every second time."""
    game = linear_game()
    samples, rejection = drawn(game, 300)
    scores = game.pair.discriminator(samples).score
    assert scores.mean() > 5 and scores.min() > 0
    assert rejection.kept == 300 and 0.02 < rejection.kept / rejection.seen < 0.2
    few, _ = drawn(game, 40)
    assert torch.equal(few, samples[:40]), "the first of many"
    loose, _ = drawn(game, 300, percentile=20)
    assert game.pair.discriminator(loose).score.mean() < scores.mean() - 2


def test_the_logit_is_that_of_being_real_whatever_number_stands_for_real() -> None:
    plain, flipped = pair_of(), pair_of(flip=Flip())
    images = torch.randn(5, 1, 2, 2)
    assert torch.equal(plain.log_odds(images), -flipped.log_odds(images))
    assert torch.equal(plain.log_odds(images), plain.discriminator(images).score)


def test_classes_are_judged_each_by_itself(tmp_path: Path) -> None:
    run = ganrun.train(ganrun.compose(tiny("steps=2", model="cgan")), tmp_path / "run")
    game = ganrun.load(run).game
    labels = torch.tensor([2] * 3 + [5] * BATCH)
    with game.drawing() as drawing:
        both = torch.cat(list(Rejection(game, drawing, seed=1, percentile=50).batches(len(labels), labels)))
        assert both.shape == (67, 1, 16, 16)
    assert not torch.equal(both[:3], both[3:6])


@pytest.mark.parametrize("loss", sorted(set(family("loss")) - {"began", "ebgan", "minimax", "nonsaturating"}))
def test_it_is_refused_where_scores_are_no_logits(loss: str) -> None:
    tricks = ("gp",) if loss == "wasserstein" else ()
    over = ("model.discriminator.norm=layer",) if loss == "wasserstein" else ()
    with pytest.raises(ConfigError, match=r"^reject: the scores of this run's D are no logits .* Try: leaving reject"):
        check(pair_in(built(f"loss={loss}", *over, tricks=tricks)))


def test_scores_that_are_no_numbers_are_refused() -> None:
    game = linear_game()
    with torch.no_grad():
        game.pair.discriminator.weight.fill_(np.nan)
    with pytest.raises(ConfigError, match="no number"):
        drawn(game, 3)
