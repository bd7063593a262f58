"""Diffusion-GAN and APA: distributions and levels of noise by hand, what is replaced, and how both follow D."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from support import LinearDiscriminator, built, pair_in, pair_of, play, progress, trick_of

from ganrun.core.context import BatchShape, Context, DiscriminatorOutput, Update
from ganrun.core.errors import ConfigError
from ganrun.core.pair import Pair
from ganrun.core.trick import Trick
from ganrun.run.state import restore, state_of
from ganrun.tricks.ada import Ada
from ganrun.tricks.adaptive import Adaptive
from ganrun.tricks.noise import DiffusionNoise
from ganrun.tricks.replay import Apa

RULE = {"start": 0.5, "target": 0.6, "interval": 2, "images": 80}
NOISE = {"least": 10, "most": 1000, "sigma": 0.05, "beta_start": 1e-4, "beta_end": 2e-2, "clean": 0.5}


def noise(**changes: Any) -> DiffusionNoise:
    return DiffusionNoise(**(RULE | NOISE | changes))


def apa(**changes: Any) -> Apa:
    return Apa(**(RULE | {"size": 4} | changes))


@pytest.fixture(autouse=True)
def _one_seed() -> None:
    torch.manual_seed(0)


def show(pair: Pair, trick: Adaptive, signs: list[float]) -> None:
    """One update of D in which it scores reals so."""
    output = DiscriminatorOutput(torch.tensor(signs))
    images = torch.zeros(len(signs), 1, 2, 2)
    with torch.no_grad():
        trick.observe(Context(pair=pair, real=images, fake=images, on_real=output, on_fake=output))


# How p follows D


@pytest.mark.parametrize("make", [noise, apa])
def test_p_follows_the_sign_of_what_stands_for_reals(make: Any) -> None:
    """Batch 4, 2 updates between changes, 80 images: p moves by 0.1, up where more than 0.6 of the signs say so."""
    trick = make()
    pair = pair_of(mine=trick)
    pair.bind(torch.zeros(4, 1, 2, 2), torch.zeros(4, 1, 2, 2))
    show(pair, trick, [1.0, 1.0, 1.0, 1.0])
    assert trick.p.item() == 0.5, "not yet"
    show(pair, trick, [1.0, 1.0, 1.0, -1.0])
    assert (trick.p.item(), trick.r_t.item()) == (pytest.approx(0.6), 0.75)
    for _ in range(2):
        show(pair, trick, [1.0, 1.0, 1.0, -1.0])
    assert (trick.p.item(), trick.r_t.item()) == (pytest.approx(0.5), 0.5)
    for _ in range(40):
        show(pair, trick, [1.0] * 4)
    assert trick.p.item() == 1.0, "and no further"


def test_all_three_share_one_rule() -> None:
    assert issubclass(Ada, Adaptive) and issubclass(Apa, Adaptive) and issubclass(DiffusionNoise, Adaptive)


# Diffusion-GAN


def kept_by_hand(steps: int, t: int) -> float:
    """The authors' table: betas by linspace over T steps, and the product of what each leaves."""
    betas = np.linspace(1e-4, 2e-2, steps)
    return float(np.prod(1 - betas[:t]))


@pytest.mark.parametrize(("p", "steps"), [(0.0, 10), (0.25, 258), (0.5, 505), (1.0, 1000)])
def test_the_levels_are_those_of_a_diffusion_of_t_steps(p: float, steps: int) -> None:
    trick = noise(start=p)
    assert trick.steps().item() == steps and trick.metrics()["steps"].item() == steps
    kept = trick._kept()
    for t in (0, 1, 2, steps // 2, steps):
        assert kept[t].item() == pytest.approx(kept_by_hand(steps, t), rel=1e-9)


def test_steps_are_drawn_as_likely_as_they_are_large() -> None:
    trick = noise(least=4, most=4, clean=0.25)
    drawn = trick._drawn(200_000)
    shares = torch.bincount(drawn, minlength=5).double() / len(drawn)
    expected = torch.tensor([0.25, *(0.75 * t / 10 for t in (1, 2, 3, 4))], dtype=torch.float64)
    torch.testing.assert_close(shares, expected, atol=0.005, rtol=0)


def test_a_diffused_image_keeps_its_share_and_gets_noise_of_the_rest() -> None:
    """All images take t = T = 1: sqrt(1 - b) x + sqrt(b) sigma n."""
    trick = noise(least=1, most=1, clean=0.0, sigma=0.5, beta_start=0.36, beta_end=0.36)
    seen = trick.view(torch.full((2000, 1, 4, 4), 1.0))
    assert seen.mean().item() == pytest.approx(0.8, abs=0.01)
    assert seen.std().item() == pytest.approx(0.6 * 0.5, abs=0.01)


def test_clean_images_stay_bit_for_bit_and_gradients_pass() -> None:
    trick = noise(start=1.0)
    images = torch.randn(400, 1, 2, 2, requires_grad=True)
    seen = trick.view(images)
    same = (seen == images).flatten(1).all(1)
    assert same.float().mean().item() == pytest.approx(0.5, abs=0.1)
    seen.sum().backward()
    assert images.grad is not None and (images.grad > 0).all() and (images.grad[same] == 1).all()


def test_the_scales_of_an_image_share_their_step() -> None:
    trick = noise(start=1.0, sigma=0.0, clean=0.0)
    small, large = trick.view((torch.ones(6, 1, 2, 2), torch.ones(6, 1, 4, 4)))
    assert torch.equal(small[:, 0, 0, 0], large[:, 0, 0, 0]) and len(small[:, 0, 0, 0].unique()) > 3


@pytest.mark.parametrize("changes", [{"least": 0}, {"most": 9}, {"sigma": -1.0}, {"beta_start": 1.0}, {"clean": 1.0},
                                     {"beta_end": 1e-5}, {"start": 2.0}, {"interval": 0}])  # fmt: skip
def test_numbers_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refusal:
        noise(**changes)
    assert refusal.value.where.removeprefix(".") in changes


# APA


def bound(trick: Apa) -> Pair:
    pair = pair_of(LinearDiscriminator([1.0, 0.0, 0.0, 0.0]), mine=trick)
    pair.bind(torch.zeros(4, 1, 2, 2), torch.full((4, 1, 2, 2), -1.0))
    return pair


def test_reals_are_replaced_with_probability_p_by_fakes_that_d_saw() -> None:
    trick = apa(start=0.3)
    pair = bound(trick)
    update = Update(player="discriminator", role="discriminator", shape=BatchShape(4, 2))
    replaced, old = 0, torch.full((4, 1, 2, 2), -1.0)
    for number in range(300):
        trick.p.fill_(0.3)
        real, fake = torch.full((4, 1, 2, 2), 1.0), torch.full((4, 1, 2, 2), -2.0 - number)
        seen = pair.discriminator_outcome(update, real, fake).observed[""].real
        assert seen is not None
        pseudo = seen[:, 0, 0, 0] != 1
        assert (seen[pseudo] == old[0]).all(), "with room for 4, the fakes of the update before"
        replaced, old = replaced + int(pseudo.sum()), fake
    assert replaced / 1200 == pytest.approx(0.3, abs=0.05)


def test_the_last_fakes_are_kept_in_a_ring() -> None:
    trick = apa(size=3)
    pair = bound(trick)
    for first in (0, 2):
        fake = torch.arange(first, first + 2.0).view(2, 1, 1, 1).expand(2, 1, 2, 2)
        output = DiscriminatorOutput(torch.ones(2))
        trick.observe(Context(pair=pair, real=fake, fake=fake, on_real=output, on_fake=output))
    assert trick.fakes[:, 0, 0, 0].tolist() == [3, 1, 2] and trick.seen == 4
    fake = torch.arange(10, 15.0).view(5, 1, 1, 1).expand(5, 1, 2, 2)
    trick.observe(Context(pair=pair, real=fake, fake=fake, on_real=output, on_fake=output))
    assert sorted(trick.fakes[:, 0, 0, 0].tolist()) == [12, 13, 14], "a batch that is larger than the ring"


@pytest.mark.parametrize(("p", "value"), [(0.0, 1.0), (1.0, -1.0)])
def test_at_0_all_reals_stay_and_at_1_none(p: float, value: float) -> None:
    trick = apa(start=p)
    bound(trick)
    assert torch.equal(trick.reals(torch.ones(4, 1, 2, 2)), torch.full((4, 1, 2, 2), value))
    assert trick.reals(torch.ones(7, 1, 2, 2)).shape == (7, 1, 2, 2), "G's batch may be larger than D's"


def test_a_run_resumes_with_another_batch_size() -> None:
    run = built(tricks=["apa"])
    play(run, 0, 2)
    saved = copy.deepcopy(state_of(run, progress(run, 2)))
    again = built("batch=6", tricks=["apa"])
    restore(again, saved, "test")
    assert torch.equal(trick_of(again, "apa").fakes, trick_of(run, "apa").fakes)
    assert play(again, 2, 3).rows


def test_both_go_with_ada() -> None:
    run = built("model.discriminator.norm=none", "tricks.ada.start=0.5", tricks=["ada", "apa", "diffusion_noise"])
    assert play(run, 0, 2).rows and math.isfinite(trick_of(run, "apa").r_t.item())
    assert len(pair_in(run).tricks.at(Trick.view)) == 2
