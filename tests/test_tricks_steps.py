"""Lookahead-minmax and optimism: algorithms by hand, games that rotate, and resuming between two returns."""

from __future__ import annotations

import copy

import pytest
import torch
from support import built, drawn, nets_of, pair_in, play, progress, trick_of, update_of
from torch import Tensor, nn

from ganrun.config.build import Run
from ganrun.core.errors import ConfigError
from ganrun.core.trick import Trick
from ganrun.run.state import restore, state_of
from ganrun.tricks.averaging import Lookahead
from ganrun.tricks.optimism import Optimistic

LOOK = ("tricks.lookahead.steps=3", "tricks.lookahead.alpha=0.25")


def weights(run: Run) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in nets_of(run).items() if name != "samples"}


# Lookahead


def test_both_players_go_back_together_as_in_algorithm_1() -> None:
    """The same updates without it, and the interpolation by hand after 3 and 6 steps."""
    run, plain = built(*LOOK, tricks=["lookahead"]), built(tricks=[])
    slow = weights(plain)
    for first in (0, 3):
        play(plain, first, first + 3)
        fast = weights(plain)
        slow = {name: slow[name] + 0.25 * (fast[name] - slow[name]) for name in slow}
        with torch.no_grad():
            for role in ("generator", "discriminator"):
                for name, parameter in getattr(pair_in(plain), role).named_parameters():
                    parameter.copy_(slow[f"{role}.{name}"])
    play(run, 0, 6)
    before = weights(run)
    run.game.begin(progress(run, 6))
    after = weights(run)
    for name, value in slow.items():
        torch.testing.assert_close(after[name], value, atol=1e-6, rtol=1e-4)
        assert name.endswith(("bias",)) or not torch.equal(before[name], after[name]), name


def test_between_two_returns_nothing_changes() -> None:
    run = built(*LOOK, tricks=["lookahead"])
    play(run, 0, 2)
    before = weights(run)
    for step in (0, 1, 2, 4):
        trick_of(run, "lookahead").begin(pair_in(run), step)
    assert all(torch.equal(before[name], value) for name, value in weights(run).items())


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_run_resumes_exactly_before_and_after_a_return(at: int) -> None:
    whole, again = built(*LOOK, tricks=["lookahead"]), built(*LOOK, tricks=["lookahead"])
    play(whole, 0, at)
    saved = copy.deepcopy(state_of(whole, progress(whole, at)))
    play(whole, at, 7)
    restore(again, saved, "test")
    play(again, at, 7)
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(whole).items())


class Plane(nn.Module):
    def __init__(self, at: float):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([at], dtype=torch.float64))


class Rotation:
    """The game min over x, max over y of x y, with gradient steps of one after the other."""

    condition = None

    def __init__(self, *tricks: Trick):
        self.generator, self.discriminator = Plane(1.0), Plane(1.0)
        for trick in tricks:
            for role in ("generator", "discriminator"):
                trick.modify(getattr(self, role), role)  # type: ignore[arg-type]
            trick.bind(self, torch.empty(0), torch.empty(0))  # type: ignore[arg-type]
        self.tricks = tricks

    @torch.no_grad()
    def play(self, steps: int, rate: float = 0.1) -> float:
        """How far from the solution (0, 0) it ends."""
        for step in range(steps):
            for trick in self.tricks:
                trick.begin(self, step)  # type: ignore[arg-type]
            x, y = self.generator.weight.clone(), self.discriminator.weight.clone()
            for role, net, slope in (("discriminator", self.discriminator, -x), ("generator", self.generator, y)):
                for trick in self.tricks:
                    trick.before(self, role)  # type: ignore[arg-type]
                net.weight -= rate * slope
                for trick in self.tricks:
                    trick.after(self, role)  # type: ignore[arg-type]
        return float((self.generator.weight**2 + self.discriminator.weight**2).sqrt())


def test_it_turns_a_rotation_into_a_spiral_inwards() -> None:
    """Simultaneous gradient steps on x y leave the solution; with lookahead they reach it."""
    assert Rotation().play(500) > 10
    assert Rotation(Lookahead(steps=10, alpha=0.5)).play(500) < 0.01


@pytest.mark.parametrize(("settings", "where"), [({"steps": 0}, ".steps"), ({"alpha": 1.0}, ".alpha"),
                                                 ({"alpha": 0.0}, ".alpha")])  # fmt: skip
def test_numbers_out_of_range_are_refused(settings: dict[str, float], where: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        Lookahead(**({"steps": 5, "alpha": 0.5} | settings))  # type: ignore[arg-type]
    assert refusal.value.where == where


def test_two_tricks_on_the_weights_between_steps_are_refused() -> None:
    with pytest.raises(ConfigError, match="the weights that a step begins with"):
        built(tricks=["lookahead", "checkpoint_swap"])


# Optimism


def test_with_adam_it_is_the_algorithm_of_the_paper() -> None:
    """theta_t = theta_(t-1) - 2 eta m_t / (sqrt v_t + eps) + eta m_(t-1) / (sqrt v_(t-1) + eps), by hand."""
    slopes, rate, (beta1, beta2), eps = [1.0, -0.5, 2.0, 0.3], 0.1, (0.5, 0.9), 1e-8
    game = Rotation(Optimistic())
    trick, net = game.tricks[0], game.generator
    optimizer = torch.optim.Adam(net.parameters(), lr=rate, betas=(beta1, beta2), eps=eps)
    at, first, second, step_before = 1.0, 0.0, 0.0, 0.0
    for number, slope in enumerate(slopes, 1):
        net.weight.grad = torch.tensor([slope], dtype=torch.float64)
        with torch.no_grad():
            trick.before(game, "generator")  # type: ignore[arg-type]
            optimizer.step()
            trick.after(game, "generator")  # type: ignore[arg-type]
        first, second = beta1 * first + (1 - beta1) * slope, beta2 * second + (1 - beta2) * slope**2
        step = rate * first / (1 - beta1**number) / ((second / (1 - beta2**number)) ** 0.5 + eps)
        at, step_before = at - 2 * step + step_before, step
        assert net.weight.item() == pytest.approx(at, rel=1e-9)


def test_the_last_iterate_reaches_the_solution_of_a_rotation() -> None:
    """Gradient steps on x y leave the solution, optimistic ones reach it. Daskalakis et al. 2018, theorem 1."""
    assert Rotation().play(2000) > 1000
    assert Rotation(Optimistic()).play(2000) < 0.01


@torch.no_grad()
def test_what_stands_still_is_left_alone() -> None:
    game = Rotation(Optimistic())
    for role in ("generator", "discriminator"):
        game.tricks[0].before(game, role)  # type: ignore[arg-type]
        game.tricks[0].after(game, role)  # type: ignore[arg-type]
    assert game.generator.weight.item() == game.discriminator.weight.item() == 1.0


@pytest.mark.parametrize("optim", ["adam", "rmsprop", "momentum_sgd"])
def test_every_optimiser_becomes_optimistic(optim: str) -> None:
    """The first step is twice that of the run without it."""
    run, plain = (built(f"optim={optim}", tricks=tricks) for tricks in (["optimistic_adam"], []))
    start = weights(plain)
    for one in (run, plain):
        update = update_of(one, "discriminator")
        torch.manual_seed(0)
        one.engine.run(update, drawn(one, update))
    for name, value in start.items():
        step, double = weights(plain)[name] - value, weights(run)[name] - value
        torch.testing.assert_close(double, 2 * step, atol=1e-6, rtol=1e-3)
