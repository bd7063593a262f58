"""Latent sampling by Langevin dynamics: a Gaussian in closed form, the slope by differences, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import ScaleGenerator, built, pair_in, pair_of, tiny

import ganrun
from ganrun.core.context import BatchShape, Latent
from ganrun.core.errors import ConfigError
from ganrun.core.trick import Trick
from ganrun.games.latent import LatentGame
from ganrun.run.draw import BATCH, batches
from ganrun.run.langevin import Langevin, check_noise, step
from ganrun.run.load import load
from ganrun.run.samples import SampleForm, Samples
from ganrun.tricks.labels import Flip


def linear_game(prior: str = "normal", **tricks: Trick) -> LatentGame:
    """G(z) = z as 2x2 pixels, D(x) = 3 x_0 + 4 x_2."""
    pair = pair_of(generator=ScaleGenerator(1.0), **tricks)
    return LatentGame(pairs={"main": pair}, shape=BatchShape(4, 2), prior=prior, grid=4)


def drawn(game: LatentGame, count: int, steps: int, rate: float = 0.1) -> torch.Tensor:
    with game.drawing() as drawing:
        change = Langevin(game, seed=3, steps=steps, rate=rate).moved
        return torch.cat(list(batches(game, drawing, count, seed=3, change=change))).flatten(1)


def test_a_step_by_hand() -> None:
    """z - 0.04 / 2 * slope + 0.2 n."""
    found = step(torch.tensor([[1.0, 2.0]]), torch.tensor([[10.0, -5.0]]), torch.tensor([[1.0, -1.0]]), 0.04)
    torch.testing.assert_close(found, torch.tensor([[1.0 - 0.2 + 0.2, 2.0 + 0.1 - 0.2]]))


def test_a_linear_discriminator_moves_the_prior_by_its_weight() -> None:
    """exp(-|z|^2 / 2 + w z) is N(w, 1); the steps spread it by 1 / (1 - rate / 4)."""
    found = drawn(linear_game(), 4000, steps=200)
    torch.testing.assert_close(found.mean(0), torch.tensor([3.0, 0.0, 4.0, 0.0]), atol=0.08, rtol=0)
    torch.testing.assert_close(found.var(0), torch.full((4,), 1 / (1 - 0.1 / 4)), atol=0.1, rtol=0)


def test_where_0_stands_for_real_it_is_moved_the_same_way() -> None:
    pair = linear_game(flip=Flip())
    assert drawn(pair, 640, steps=200)[:, 0].mean().item() == pytest.approx(-3, abs=0.3), "this D scores fakes high"


def test_samples_follow_from_the_seed_and_their_number() -> None:
    game = linear_game()
    many, few = drawn(game, 2 * BATCH + 5, steps=3), drawn(game, 70, steps=3)
    assert torch.equal(many[:70], few)


def test_the_slope_is_that_of_the_energy() -> None:
    run = built("model.discriminator.norm=none", "model.generator.norm=none", tricks=[])
    pair = pair_in(run)
    latent = Latent(torch.randn(3, 8))
    walk = Langevin(run.game, seed=0, steps=1)  # type: ignore[arg-type]
    with pair.sampler() as net:
        found, nudge = walk.slope(net, latent), torch.zeros(3, 8)
        nudge[:, 2] = 1e-2

        def energy(noise: torch.Tensor) -> torch.Tensor:
            return noise.square().sum(1) / 2 - pair.log_odds(net(noise, None))

        with torch.no_grad():
            expected = (energy(latent.noise + nudge) - energy(latent.noise - nudge)) / 2e-2
    torch.testing.assert_close(found[:, 2], expected, atol=2e-3, rtol=2e-2)
    assert not any(p.grad is not None for p in pair.discriminator.parameters())


def test_the_command_draws_other_samples_and_refuses_what_does_not_go_with_it(tmp_path: Path) -> None:
    run = ganrun.train(ganrun.compose(tiny("steps=2", model="dcgan")), tmp_path / "run")
    lines = [Samples(load(run), SampleForm(count=3, ddls=ddls)).write() for ddls in (2, False)]
    files = [Path(line.split(": ", 1)[1]) for line in lines]
    assert "ddls_2" in files[0].name and files[0].read_bytes() != files[1].read_bytes()
    for more, key in (({"reject": True}, "reject"), ({"truncation": 0.5}, "truncation")):
        with pytest.raises(ConfigError, match=f"ddls: set, with {key}"):
            Samples(load(run), SampleForm(ddls=True, **more))  # type: ignore[arg-type]


def test_other_noise_and_other_scores_are_refused() -> None:
    game = linear_game("uniform")
    with pytest.raises(ConfigError, match=r"ddls: the noise of this run is uniform.*leaving ddls out"):
        check_noise(game, game.pair)
    run = built("model.generator.latent=20", tricks=["info_codes"])
    with pytest.raises(ConfigError, match="changed by its trick info_codes"):
        check_noise(run.game, pair_in(run))  # type: ignore[arg-type]
    run = built("loss=hinge")
    with pytest.raises(ConfigError, match="ddls: the scores of this run's D are no logits"):
        check_noise(run.game, pair_in(run))  # type: ignore[arg-type]
