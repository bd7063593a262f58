"""R1 and R2 in random directions: closed forms on linear and quadratic critics, and all that the exact ones keep."""

import math
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from typing import Any

import properties
import pytest
import torch
from support import pair_of, play, tiny
from torch import Tensor, nn

from ganrun.config.build import build
from ganrun.config.combination import diagnostics
from ganrun.config.compose import compose
from ganrun.core.context import BatchShape, Condition, DiscriminatorOutput, Update
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.images import Images, scales
from ganrun.core.pair import Pair
from ganrun.core.traits import Level, Traits, facts
from ganrun.core.trick import Trick
from ganrun.tricks.penalties import R1, R2

WEIGHT = torch.tensor([3.0, 0.0, 4.0, 0.0])  # of a linear D; its norm is 5
KINDS = [R1, R2]
METHODS = ["directional", "finite_difference"]


def trick(kind: type[R1] = R1, **changes: Any) -> R1:
    settings = {"gamma": 10.0, "every": 1, "method": "finite_difference", "share": 1.0, "epsilon": 0.01}
    return kind(**settings | changes)


class Known(nn.Module):
    """A discriminator that is this function of its images, its condition and one weight. Keeps what it saw."""

    provided = facts(Fact.SCORE, Fact.PER_SAMPLE, Fact.FREE_WEIGHTS, Fact.ALONE, Fact.STEADY, Fact.SINGLE_SCALE)
    traits = Traits(provides=provided)

    def __init__(self, function: Callable[..., Tensor], weight: Tensor):
        super().__init__()
        self.function, self.weight = function, nn.Parameter(weight.clone())
        self.seen: list[Any] = []

    def forward(self, images: Images, condition: Tensor | None = None) -> DiscriminatorOutput:
        self.seen.append(images)
        return DiscriminatorOutput(self.function(images, self.weight, condition))


def linear() -> Known:
    """D(x) = w . x: its slope is |w| = 5 everywhere."""
    return Known(lambda x, w, _: x.flatten(1) @ w, WEIGHT)


def bowl() -> Known:
    """D(x) = w |x|^2 / 2 with w = 1: its slope at x is |x|."""
    return Known(lambda x, w, _: w * x.flatten(1).square().sum(1) / 2, torch.ones(()))


def term(pair: Pair, real: Images, fake: Images, condition: Condition | None = None, due: str = "it") -> Tensor:
    shape = BatchShape(len(scales(real)[0]), 2)
    update = Update(player="discriminator", role="discriminator", shape=shape, due=frozenset({due} if due else ()))
    torch.manual_seed(0)
    return pair.discriminator_outcome(update, real, fake, condition=condition or Condition()).terms["it"]


def by_weight(pair: Pair, found: Tensor) -> Tensor:
    return torch.autograd.grad(found, pair.discriminator.get_parameter("weight"))[0]


def slope(pair: Pair) -> float:
    return pair.metrics()["tricks/it/slope"].item()


def alike(count: int, norm: float) -> Tensor:
    """Images of 2x2 pixels, all alike, of this norm."""
    return torch.full((count, 1, 2, 2), norm / 2)


# Closed forms


@pytest.mark.parametrize("kind", KINDS)
def test_the_penalty_and_its_gradient_of_a_linear_critic_are_those_of_the_noise_that_was_drawn(kind: type[R1]) -> None:
    """gamma / 2 mean (w . n)^2, and gamma mean (w . n) n by w: every e gives the same."""
    for epsilon in (0.01, 1.0):
        critic = linear()
        pair = pair_of(critic, it=trick(kind, epsilon=epsilon))
        found = term(pair, torch.rand(6, 1, 2, 2), torch.rand(6, 1, 2, 2))
        here, moved = critic.seen[-1].flatten(1).chunk(2)
        noise = (moved - here) / epsilon
        assert found.item() == pytest.approx(5 * (noise @ WEIGHT).square().mean().item(), rel=1e-3)
        expected = 10 * ((noise @ WEIGHT)[:, None] * noise).mean(0)
        torch.testing.assert_close(by_weight(pair, found), expected, rtol=2e-3, atol=2e-2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_its_mean_is_the_penalty_of_a_linear_critic(kind: type[R1], method: str) -> None:
    """Over n: gamma / 2 |w|^2 = 125, with the gradient gamma w, and the slope 5."""
    pair = pair_of(linear(), it=trick(kind, method=method))
    images = torch.zeros(40000, 1, 2, 2)
    found = term(pair, images, images)
    assert found.item() == pytest.approx(125, rel=4 * math.sqrt(2 / 40000))
    torch.testing.assert_close(by_weight(pair, found), 10 * WEIGHT, rtol=0.03, atol=0.75)
    assert slope(pair) == pytest.approx(5, rel=0.02)


@pytest.mark.parametrize("epsilon", [0.01, 1.0])
def test_its_mean_is_the_penalty_of_a_quadratic_critic_up_to_the_square_of_epsilon(epsilon: float) -> None:
    """For |x|^2 / 2 in 4 dimensions: E (x . n + e |n|^2 / 2)^2 = |x|^2 + e^2 E |n|^4 / 4 = |x|^2 + 6 e^2."""
    count = 100000
    for kind, norm in ((R1, 2.0), (R2, 3.0)):
        pair = pair_of(bowl(), it=trick(kind, epsilon=epsilon))
        found = term(pair, alike(count, 2.0), alike(count, 3.0))
        assert found.item() == pytest.approx(5 * (norm**2 + 6 * epsilon**2), rel=0.03)
        assert by_weight(pair, found).item() == pytest.approx(2 * found.item(), rel=1e-3), "the penalty goes with w^2"


def test_a_direction_is_differentiated_exactly_however_curved_d_is() -> None:
    """For |x|^2 / 2 it is x . n, so each draw gives gamma / 2 mean (x . n)^2, and its gradient goes with w^2."""
    for kind, norm in ((R1, 2.0), (R2, 3.0)):
        pair = pair_of(bowl(), it=trick(kind, method="directional"))
        found = term(pair, alike(100000, 2.0), alike(100000, 3.0))
        assert found.item() == pytest.approx(5 * norm**2, rel=0.02)
        assert by_weight(pair, found).item() == pytest.approx(2 * found.item(), rel=1e-5)
    torch.manual_seed(0)
    noise = torch.randn(6, 1, 2, 2)
    images = torch.rand(6, 1, 2, 2)
    found = term(pair_of(bowl(), it=trick(method="directional")), images, images)
    assert found.item() == pytest.approx(5 * (images * noise).sum((1, 2, 3)).square().mean().item(), rel=1e-5)


def test_a_difference_sees_kinks_that_a_derivative_does_not() -> None:
    """relu(x - w) below w has no slope; a difference that ends above w has one, with a gradient by w of 1 / epsilon."""

    def kink(images: Tensor, weight: Tensor, _: Any) -> Tensor:
        return torch.relu(images.flatten(1)[:, 0] - weight)

    images = torch.full((1000, 1, 2, 2), 0.5)
    found = {}
    for method in METHODS:
        pair = pair_of(Known(kink, torch.tensor(0.501)), it=trick(method=method, epsilon=0.01))
        found[method] = term(pair, images, images)
        assert method == "directional" or by_weight(pair, found[method]).abs().item() > 100
    assert found["directional"].item() == 0 < found["finite_difference"].item()


def test_a_derivative_is_as_exact_in_bf16_as_d_is() -> None:
    """Where a difference would be rounding."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1), nn.Flatten(0))

    def scored(images: Tensor, weight: Tensor, _: Any) -> Tensor:
        return net(images) + weight

    pair = pair_of(Known(scored, torch.tensor(3.0)), it=trick(method="directional"))
    images = torch.rand(32, 1, 8, 8)
    plain = term(pair, images, images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = term(pair, images, images)
    assert 0 < abs(rounded.item() / plain.item() - 1) < 0.02 and rounded.dtype is torch.float32


def test_forward_mode_is_loaded_where_it_is_chosen_and_without_a_warning() -> None:
    code = """
import sys, warnings
warnings.simplefilter("error")
from ganrun.tricks.penalties import R1
settings = dict(gamma=1.0, every=1, share=0.25, epsilon=0.01)
R1(method="exact", **settings)
assert "torch._decomp.decompositions_for_jvp" not in sys.modules
R1(method="directional", **settings)
assert "torch._decomp.decompositions_for_jvp" in sys.modules
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_of_several_scales_its_mean_is_the_mean_over_scales_as_the_exact_one_is() -> None:
    """Slopes 5 and 10 at two scales: (25 + 100) / 2, whichever way."""

    def two(images: Any, weight: Tensor, _: Any) -> Tensor:
        small, large = images
        return small.flatten(1) @ weight + large.flatten(1) @ weight.repeat(4)  # the norm of the latter is 10

    images = torch.rand(40000, 1, 2, 2), torch.rand(40000, 1, 4, 4)
    exact, *estimated = (pair_of(Known(two, WEIGHT), it=trick(method=one)) for one in ("exact", *METHODS))
    value = term(exact, images, images)
    assert value.item() == pytest.approx(5 * 62.5)
    gradient = by_weight(exact, value)
    for pair in estimated:
        found = term(pair, images, images)
        assert found.item() == pytest.approx(5 * 62.5, rel=0.03)
        torch.testing.assert_close(by_weight(pair, found), gradient, rtol=0.05, atol=2.0)
        assert slope(pair) == pytest.approx(math.sqrt(62.5), rel=0.02), "of several scales, the root of that mean"


def test_of_patches_it_is_the_slope_of_their_sum_as_the_exact_one_is() -> None:
    """Scores [B, 1, 2, 2], one 3x and one 4x a pixel: the slope of the sum is 5."""

    def patches(images: Tensor, weight: Tensor, _: Any) -> Tensor:
        return images * weight.view(1, 1, 2, 2)

    images = torch.rand(40000, 1, 2, 2)
    for method in ("exact", *METHODS):
        found = term(pair_of(Known(patches, WEIGHT), it=trick(method=method)), images, images)
        assert found.item() == pytest.approx(125, rel=0.03)


# What it looks at


@pytest.mark.parametrize(("share", "batch", "count"), [(1.0, 6, 6), (0.25, 6, 2), (0.25, 64, 16), (0.01, 6, 1)])
def test_it_looks_at_this_share_of_the_batch_evenly_spread(share: float, batch: int, count: int) -> None:
    """So that each process that has a part of the batch looks at the same share of its own."""
    real = torch.arange(4.0 * batch).view(batch, 1, 2, 2)
    for kind, given in ((R1, real), (R2, -real)):
        critic = linear()
        term(pair_of(critic, it=trick(kind, share=share)), real, -real)
        assert [len(seen) for seen in critic.seen] == [batch, batch, 2 * count]
        assert torch.equal(critic.seen[-1][:count], given[:: round(1 / share)])
        offset = critic.seen[-1][count:] - critic.seen[-1][:count]
        assert 0 < offset.abs().max() < 0.05, "noise of 0.01"


def test_the_noise_is_put_on_what_d_sees_and_a_view_is_drawn_once_for_both() -> None:
    class Doubles(Trick):
        def view(self, images: Tensor) -> Tensor:
            return 2 * images + 5 * torch.randn_like(images)

    critic = linear()
    found = term(pair_of(critic, view=Doubles(), it=trick()), torch.rand(2000, 1, 2, 2), torch.rand(2000, 1, 2, 2))
    here, moved = critic.seen[-1].chunk(2)
    assert (moved - here).std().item() == pytest.approx(0.01, rel=0.05)
    assert here.std().item() == pytest.approx(5, rel=0.05)
    assert found.item() == pytest.approx(125, rel=0.15), "the view's noise is no part of it"


@pytest.mark.parametrize("method", METHODS)
def test_a_conditional_critic_is_told_what_its_images_are_for(method: str) -> None:
    """w . x for label 0 and nothing for label 1; every second image has label 0, then the others."""

    def of(images: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        return (1 - labels) * (images.flatten(1) @ weight)

    images = torch.rand(4000, 1, 2, 2)
    labels = torch.arange(4000) % 2
    for given, expected in ((labels, 125), (1 - labels, 0)):
        pair = pair_of(Known(of, WEIGHT), it=trick(share=0.5, method=method))
        found = term(pair, images, images, Condition(labels=given))
        assert found.item() == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("method", METHODS)
def test_it_needs_no_gradient_of_images(method: str) -> None:
    """No leaf is made of them, and no graph of a gradient is kept."""
    critic = linear()
    pair = pair_of(critic, it=trick(method=method))
    term(pair, torch.rand(4, 1, 2, 2), torch.rand(4, 1, 2, 2))
    assert not any(seen.requires_grad for seen in critic.seen)
    assert pair_of(linear(), it=trick(method="exact")).tricks.differentiate(frozenset())


def test_it_is_computed_in_float32_under_bf16() -> None:
    """With e = 0.01 the rounding of bf16 is as large as the difference that it measures."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1), nn.Flatten(0))

    def scored(images: Tensor, weight: Tensor, _: Any) -> Tensor:
        return net(images) + weight

    pair = pair_of(Known(scored, torch.tensor(3.0)), it=trick())
    images = torch.rand(32, 1, 8, 8)
    plain = term(pair, images, images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert term(pair, images, images).item() == plain.item()
        assert plain.dtype is torch.float32


# What it keeps of the exact one


def test_lazy_it_counts_for_the_steps_between_and_its_gamma_may_follow_the_step() -> None:
    images = torch.rand(4, 1, 2, 2)
    usual = term(pair_of(linear(), it=trick()), images, images).item()
    lazy = pair_of(linear(), it=trick(every=16))
    assert [step for step in range(40) if lazy.tricks.due(step)] == [0, 16, 32]
    assert term(lazy, images, images).item() == pytest.approx(16 * usual, rel=1e-6)
    with pytest.raises(KeyError):
        term(lazy, images, images, due="")


class Drops(Known):
    """With the traits of a network with dropout."""

    traits = Traits(provides=Known.traits.provides, invalidates=facts(Fact.STEADY))


def test_dropout_is_refused_since_another_mask_would_be_all_that_is_measured() -> None:
    dropping = {"model.discriminator": Drops(lambda x, w, _: x, WEIGHT)}
    assert not diagnostics({**dropping, "tricks.r1": trick(method="exact")})
    assert not diagnostics({**dropping, "tricks.r1": trick(method="directional")}), "the mask that it draws is its net"
    (found,) = diagnostics({**dropping, "tricks.r1": trick()})
    assert (found.id, found.level) == ("C39", Level.ERROR)
    assert not diagnostics({"model.discriminator": linear(), "tricks.r1": trick()})


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"method": "finite"}, ".method"),
        ({"share": 0.0}, ".share"),
        ({"share": 1.5}, ".share"),
        ({"epsilon": 0.0}, ".epsilon"),
        ({"epsilon": -0.01}, ".epsilon"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_refused(kind: type[R1], settings: dict[str, Any], place: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        trick(kind, **settings)
    assert refusal.value.where == place


def both(method: str) -> list[str]:
    """R1 and R2 by this method."""
    return [f"tricks.{name}.method={method}" for name in ("r1", "r2")]


RUNS = {
    "alone": tiny("model.discriminator.norm=none", tricks=["r1", "r2"]),
    "conditional": tiny("model.discriminator.norm=none", model="cdcgan", tricks=["r1", "r2"]),
    "spectral": tiny("model.discriminator.norm=none", tricks=["spectral_norm", "r1", "r2"]),
    "lazy": tiny("model.discriminator.norm=none", "tricks.r1.every=2", "tricks.r2.every=3", tricks=["r1", "r2"]),
    "views": tiny("model.discriminator.norm=none", tricks=["instance_noise", "replay", "ada", "r1", "r2"]),
    "pyramids": tiny(model="msggan", tricks=["r1", "r2"]),
    "compared": tiny("model.discriminator.norm=none", tricks=["minibatch_stddev", "r1", "r2"]),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", RUNS)
def test_runs_resume_exactly_and_never_wait_for_the_device(name: str, method: str) -> None:
    properties.check_resume((*RUNS[name], *both(method)))
    properties.check_no_sync((*RUNS[name], *both(method)))
    properties.check_addresses((*RUNS[name], *both(method)))


@pytest.mark.parametrize("method", METHODS)
def test_an_update_compiles_without_a_graph_break(method: str) -> None:
    properties.check_compiles((*RUNS["alone"], *both(method)))


@pytest.mark.parametrize("name", ["spectral", "compared", "views"])
def test_what_d_does_between_two_calls_is_no_part_of_the_slope(name: str) -> None:
    """One call scores both: with the same power iteration, the same group and the same view."""
    means = {}
    for method in ("exact", *METHODS):
        chosen = [*both(method), "tricks.r1.share=1.0", "tricks.r2.share=1.0"]
        run = build(compose([*RUNS[name], *chosen, "batch=64", "optim.discriminator.lr=0", "optim.generator.lr=0"]))
        rows = [row for _, _, row in play(run, 0, 6).rows if "tricks/r1/slope" in row]
        means[method] = {
            key: sum(row[key] for row in rows) / len(rows) for key in ("tricks/r1/slope", "tricks/r2/slope")
        }
    for method, key in product(METHODS, means["exact"]):
        assert means[method][key] == pytest.approx(means["exact"][key], rel=0.25), (method, key)
