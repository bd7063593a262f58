"""CHAIN: the norm and its gradient by hand, the penalty of means, and the share that follows D's signs."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch
from support import built, drawn, pair_in, play, update_of
from torch import Tensor

from ganrun.config.build import Run
from ganrun.core.errors import ConfigError
from ganrun.tricks.chain import CENTRE, BoundedNorm, Chain

EPS = 1e-5


def norm(p: float, *, training: bool = True) -> BoundedNorm:
    layer = BoundedNorm(eps=EPS).train(training)
    layer.p.fill_(p)
    return layer


def psi_of(x: Tensor) -> list[float]:
    """The root mean square of each channel, a number at a time."""
    found = []
    for channel in range(x.shape[1]):
        numbers = x[:, channel].flatten().tolist()
        found.append(math.sqrt(sum(number * number for number in numbers) / len(numbers) + EPS))
    return found


@pytest.mark.parametrize("shape", [(4, 3, 2, 2), (5, 3)])
def test_all_is_normed_to_the_least_root_mean_square(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape) * torch.tensor([1.0, 3.0, 0.2]).view(1, 3, *[1] * (len(shape) - 2)) + 0.5
    psi = psi_of(x)
    made = norm(1.0)(x)
    for channel in range(3):
        torch.testing.assert_close(made[:, channel], x[:, channel] * min(psi) / psi[channel])


def test_nothing_is_normed_at_the_start() -> None:
    x = torch.randn(4, 3, 2, 2)
    assert torch.equal(norm(0.0)(x), x)


def test_each_map_is_normed_whole_or_not_at_all() -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 3, 2, 2) * torch.tensor([1.0, 3.0, 2.0]).view(1, 3, 1, 1)
    psi = torch.tensor(psi_of(x)).view(1, 3, 1, 1)
    changed = (norm(0.3)(x) != x).flatten(2)
    normed, plain = changed.all(2), (~changed).all(2)
    least = psi.flatten().argmin()
    assert (normed | plain)[:, torch.arange(3) != least].all()
    share = normed[:, torch.arange(3) != least].float().mean().item()
    assert share == pytest.approx(0.3, abs=0.07)  # 400 draws: three standard deviations


def test_in_evaluation_it_is_the_mean_of_what_training_gives() -> None:
    x = torch.randn(6, 3, 2, 2)
    torch.testing.assert_close(norm(0.25, training=False)(x), 0.75 * x + 0.25 * norm(1.0)(x))


def test_the_gradient_holds_the_least_constant() -> None:
    """(g - y mean(g y)) times least / psi, by channel: the closed form of the authors' backward pass."""
    x = torch.randn(4, 3, 2, 2, dtype=torch.float64).requires_grad_()
    g = torch.randn(4, 3, 2, 2, dtype=torch.float64)
    (norm(1.0)(x) * g).sum().backward()
    psi = torch.tensor(psi_of(x), dtype=torch.float64).view(1, 3, 1, 1)
    y = x.detach() / psi
    expected = (g - y * (g * y).mean((0, 2, 3), keepdim=True)) * psi.min() / psi
    torch.testing.assert_close(x.grad, expected)


def test_its_slope_is_at_most_one() -> None:
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    jacobian: Tensor = torch.autograd.functional.jacobian(norm(1.0), x)  # type: ignore[assignment]
    assert torch.linalg.matrix_norm(jacobian.reshape(24, 24), 2).item() <= 1 + 1e-9


def chained(*overrides: str) -> tuple[Run, Chain]:
    run = built(*overrides, model="dcgan", tricks=["chain"])
    trick = pair_in(run).tricks["chain"]
    assert isinstance(trick, Chain)
    return run, trick


def test_the_penalty_is_of_the_means_before_the_norm() -> None:
    run, trick = chained("tricks.chain.weight=3", "tricks.chain.least=0.1")
    trick.p.fill_(0.4)
    pair = pair_in(run)
    net = deepcopy(pair.discriminator)
    seen: list[Tensor] = []
    for layer in net.modules():
        if isinstance(layer, BoundedNorm):
            layer.register_forward_pre_hook(lambda layer, given: seen.append(given[0]))
    update = update_of(run, "discriminator")
    outcome = run.game.outcome(update, drawn(run, update)[0], {})
    (observed,) = outcome.observed.values()
    with torch.no_grad():
        for images in (observed.real, observed.fake):
            net(images)
    assert len(seen) >= 2
    means = sum(x.mean((0, 2, 3)).square().sum() for x in seen)
    torch.testing.assert_close(outcome.terms["chain"], 3 * (0.4 + 0.1) * means, rtol=1e-4, atol=1e-7)


def test_the_share_follows_the_running_sign_of_reals() -> None:
    """Signs all +1: r = 1 - 0.9^n is above the target of 0.5 from the seventh update on; below it p stays at 0."""
    run, trick = chained("tricks.chain.change=0.01")
    last = pair_in(run).discriminator.head.score  # type: ignore[union-attr]
    torch.nn.init.zeros_(last.weight)  # type: ignore[union-attr, arg-type]
    pair_in(run).discriminator.register_forward_hook(lambda net, given, made: made._replace(score=made.score + 1))
    shares = []
    for _ in range(9):
        update = update_of(run, "discriminator")
        run.engine.run(update, drawn(run, update))
        torch.nn.init.zeros_(last.weight)  # type: ignore[union-attr, arg-type]
        shares.append(round(trick.p.item(), 4))
    assert shares == [0, 0, 0, 0, 0, 0, 0.01, 0.02, 0.03]
    assert trick.r.item() == pytest.approx(1 - 0.9**9)
    layers = [layer for layer in pair_in(run).discriminator.modules() if isinstance(layer, BoundedNorm)]
    assert layers and all(layer.p == trick.p and layer.centre is None for layer in layers)


def test_the_head_is_left_to_games_that_show_it() -> None:
    run, _ = chained()
    made = pair_in(run).judge(torch.randn(3, 1, 16, 16))
    assert made.heads[CENTRE].shape == (3,) and made.heads[CENTRE].unique().numel() == 1


def test_a_discriminator_without_batch_norm_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"has no batch norm to replace. Try: model\.discriminator\.norm=batch"):
        built("model.discriminator.norm=none", model="dcgan", tricks=["chain"])


def test_a_penalty_on_slopes_is_refused_as_images_are_coupled() -> None:
    with pytest.raises(ConfigError, match="scores each image on its own"):
        built(model="dcgan", tricks=["chain", "r1"])


@pytest.mark.parametrize(
    ("key", "value"), [("weight", -1), ("least", -1), ("target", 2), ("change", -0.1), ("decay", 1), ("eps", -1)]
)
def test_settings_out_of_range_are_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"tricks\.chain\.{key}"):
        built(f"tricks.chain.{key}={value}", model="dcgan", tricks=["chain"])


def test_a_run_goes_on_from_what_it_kept() -> None:
    run, _ = chained("tricks.chain.change=0.5", "tricks.chain.target=-1")
    assert play(run, 0, 3).rows
    assert "discriminator.blocks.1.norm.p" in pair_in(run).state_dict()
