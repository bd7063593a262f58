"""R1 and R2 along the gradient: closed forms on linear, quadratic and cubic critics, and all that exact ones keep."""

import math
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from typing import Any

import properties
import pytest
import torch
import torch.nn.functional as F
from support import pair_of, play, tiny
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

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

    provided = facts(Fact.SCORE, Fact.PER_SAMPLE, Fact.FREE_WEIGHTS, Fact.ALONE, Fact.STEADY, Fact.SINGLE_SCALE,
                     Fact.SMOOTH)  # fmt: skip
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


@pytest.mark.parametrize("epsilon", [0.01, 1.0])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_of_a_linear_critic_it_is_the_penalty_itself(kind: type[R1], method: str, epsilon: float) -> None:
    """gamma / 2 |w|^2 = 125, with the gradient gamma w, and the slope 5: at every image and for every epsilon."""
    pair = pair_of(linear(), it=trick(kind, method=method, epsilon=epsilon))
    found = term(pair, torch.rand(6, 1, 2, 2), torch.rand(6, 1, 2, 2))
    assert found.item() == pytest.approx(125, rel=1e-3)
    torch.testing.assert_close(by_weight(pair, found), 10 * WEIGHT, rtol=1e-3, atol=1e-3)
    assert slope(pair) == pytest.approx(5, rel=1e-3)


@pytest.mark.parametrize("epsilon", [0.01, 1.0])
@pytest.mark.parametrize("method", METHODS)
def test_of_a_quadratic_critic_it_is_the_penalty_itself(method: str, epsilon: float) -> None:
    """gamma / 2 |w x|^2 for w |x|^2 / 2: the even terms of a difference to both sides cancel."""
    for kind, norm in ((R1, 2.0), (R2, 3.0)):
        pair = pair_of(bowl(), it=trick(kind, method=method, epsilon=epsilon))
        found = term(pair, alike(8, 2.0), alike(8, 3.0))
        assert found.item() == pytest.approx(5 * norm**2, rel=1e-3)
        assert by_weight(pair, found).item() == pytest.approx(2 * found.item(), rel=1e-3), "the penalty goes with w^2"


@pytest.mark.parametrize("epsilon", [0.1, 1.0])
def test_of_a_cubic_critic_a_difference_errs_by_the_square_of_epsilon_and_a_derivative_does_not(epsilon: float) -> None:
    """For sum x^3 at four pixels a: |grad D| = 6 a^2; between a - e and a + e it is 2 (3 a^2 + e^2) on average."""
    expected = {"directional": 6.0, "finite_difference": 6 + 2 * epsilon**2}
    for method, norm in expected.items():
        critic = Known(lambda x, w, _: w * x.flatten(1).pow(3).sum(1), torch.ones(()))
        pair = pair_of(critic, it=trick(method=method, epsilon=epsilon))
        found = term(pair, alike(8, 2.0), alike(8, 2.0))
        assert found.item() == pytest.approx(5 * norm**2, rel=1e-4)
        assert slope(pair) == pytest.approx(norm, rel=1e-4)


class Deep(Known):
    """Two dense layers between smooth activations, whose slope and its direction both depend on their weights."""

    def __init__(self, activation: nn.Module):
        super().__init__(lambda x, w, _: w * self.net(x), torch.ones(()))
        torch.manual_seed(0)
        hidden = (nn.Linear(64, 32), activation, nn.Linear(32, 32), activation, nn.Linear(32, 1))
        self.net = nn.Sequential(nn.Flatten(), *hidden, nn.Flatten(0))


@pytest.mark.parametrize(("method", "tolerance"), [("directional", 1e-5), ("finite_difference", 2e-3)])
@pytest.mark.parametrize("kind", KINDS)
def test_its_gradient_is_that_of_the_double_backward(kind: type[R1], method: str, tolerance: float) -> None:
    """By every weight of a D of two layers, though the direction is held fixed: it is where the change is largest."""
    found = {}
    for one in ("exact", method):
        pair = pair_of(Deep(nn.SiLU()), it=trick(kind, method=one))
        torch.manual_seed(1)
        value = term(pair, torch.rand(16, 1, 8, 8), torch.rand(16, 1, 8, 8))
        weights = list(pair.discriminator.parameters())
        slopes = torch.autograd.grad(value, weights, allow_unused=True, materialize_grads=True)
        found[one] = torch.cat([value.view(1), *(slope.flatten() for slope in slopes)])
    assert len(found["exact"]) > 3000
    gap = torch.linalg.vector_norm(found[method] - found["exact"]) / torch.linalg.vector_norm(found["exact"])
    assert gap < tolerance, gap


class Once(torch.autograd.Function):
    """The square, which has no second derivative for torch: as kernels of attention have none."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        return values.square()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (values,) = ctx.saved_tensors
        return 2 * values * grad


def test_a_difference_needs_no_second_derivative() -> None:
    def scored(images: Tensor, weight: Tensor, _: Any) -> Tensor:
        return Once.apply(weight * images.flatten(1)).sum(1) / 2

    pair = pair_of(Known(scored, torch.ones(())), it=trick())
    found = term(pair, alike(8, 2.0), alike(8, 2.0))
    assert found.item() == pytest.approx(5 * 4, rel=1e-3)
    assert by_weight(pair, found).item() == pytest.approx(80, rel=1e-3), "it goes with w^4"
    exact = pair_of(Known(scored, torch.ones(())), it=trick(method="exact"))
    missed = by_weight(exact, term(exact, alike(8, 2.0), alike(8, 2.0)))
    assert missed.item() == pytest.approx(40, rel=1e-3), "torch takes the derivative of the square for a constant"


def test_a_difference_sees_kinks_that_a_derivative_does_not() -> None:
    """Leaky ReLU has its kink between x and x + 0.02: the slope is 0.2, and in the mean over the step 0.58."""

    def kink(images: Tensor, weight: Tensor, _: Any) -> Tensor:
        return F.leaky_relu(images.flatten(1)[:, 0] - weight, 0.2)

    images = torch.full((8, 1, 2, 2), 0.5)
    for method, norm, steepness in (("directional", 0.2, 0), ("finite_difference", 0.58, 5 * 2 * 0.58 * 0.8 / 0.04)):
        pair = pair_of(Known(kink, torch.tensor(0.501)), it=trick(method=method, epsilon=0.01))
        found = term(pair, images, images)
        assert found.item() == pytest.approx(5 * norm**2, rel=1e-3)
        assert abs(by_weight(pair, found).item()) == pytest.approx(steepness, rel=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_where_d_is_flat_there_is_no_slope_and_nothing_breaks(method: str) -> None:
    pair = pair_of(Known(lambda x, w, _: 0 * w * x.flatten(1).sum(1), torch.ones(())), it=trick(method=method))
    found = term(pair, torch.rand(4, 1, 2, 2), torch.rand(4, 1, 2, 2))
    assert found.item() == 0 == by_weight(pair, found).item() == slope(pair)


@pytest.mark.parametrize("method", METHODS)
def test_in_bf16_its_gradient_is_as_exact_as_that_of_the_double_backward(method: str) -> None:
    """Along the gradient the scores differ by far more than they are rounded: in a random direction they do not."""
    images, found = torch.rand(32, 1, 8, 8), {}
    for precision in (torch.float32, torch.bfloat16):
        pair = pair_of(Deep(nn.SiLU()), it=trick(method=method))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision is torch.bfloat16):
            value = term(pair, images, images)
        assert value.dtype is torch.float32
        weights = list(pair.discriminator.parameters())
        slopes = torch.autograd.grad(value, weights, allow_unused=True, materialize_grads=True)
        found[precision] = value.item(), torch.cat([slope.flatten() for slope in slopes])
    (exact, by_exact), (rounded, by_rounded) = found.values()
    assert exact != rounded == pytest.approx(exact, rel=0.03)
    assert torch.cosine_similarity(by_exact, by_rounded, 0) > 0.999


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


def test_of_several_scales_it_is_the_mean_over_scales_as_the_exact_one_is() -> None:
    """Slopes 5 and 10 at two scales: (25 + 100) / 2, whichever way."""

    def two(images: Any, weight: Tensor, _: Any) -> Tensor:
        small, large = images
        return small.flatten(1) @ weight + large.flatten(1) @ weight.repeat(4)  # the norm of the latter is 10

    images = torch.rand(6, 1, 2, 2), torch.rand(6, 1, 4, 4)
    exact, *others = (pair_of(Known(two, WEIGHT), it=trick(method=one)) for one in ("exact", *METHODS))
    value = term(exact, images, images)
    assert value.item() == pytest.approx(5 * 62.5)
    gradient = by_weight(exact, value)
    for pair in others:
        found = term(pair, images, images)
        assert found.item() == pytest.approx(5 * 62.5, rel=1e-3)
        torch.testing.assert_close(by_weight(pair, found), gradient, rtol=1e-3, atol=1e-2)
        assert slope(pair) == pytest.approx(math.sqrt(62.5), rel=1e-3), "of several scales, the root of that mean"


def test_of_patches_it_is_the_slope_of_their_sum_as_the_exact_one_is() -> None:
    """Scores [B, 1, 2, 2], one 3x and one 4x a pixel: the slope of the sum is 5."""

    def patches(images: Tensor, weight: Tensor, _: Any) -> Tensor:
        return images * weight.view(1, 1, 2, 2)

    images = torch.rand(6, 1, 2, 2)
    for method in ("exact", *METHODS):
        found = term(pair_of(Known(patches, WEIGHT), it=trick(method=method)), images, images)
        assert found.item() == pytest.approx(125, rel=1e-3)


# What it looks at


@pytest.mark.parametrize(("share", "batch", "count"), [(1.0, 6, 6), (0.25, 6, 2), (0.25, 64, 16), (0.01, 6, 1)])
def test_it_looks_at_this_share_of_the_batch_evenly_spread(share: float, batch: int, count: int) -> None:
    """So that each process that has a part of the batch looks at the same share of its own."""
    real = torch.arange(4.0 * batch).view(batch, 1, 2, 2)
    for (kind, given), method in product(((R1, real), (R2, -real)), METHODS):
        critic = linear()
        term(pair_of(critic, it=trick(kind, share=share, method=method)), real, -real)
        calls = {"directional": [count, count], "finite_difference": [count, 2 * count]}
        assert [len(seen) for seen in critic.seen] == [batch, batch, *calls[method]]
        assert torch.equal(critic.seen[2], given[:: round(1 / share)])


def test_a_step_of_epsilon_to_either_side_is_taken_along_the_gradient() -> None:
    """Its root mean square is epsilon, whatever the size of the gradient and of the image."""
    critic = linear()
    term(pair_of(critic, it=trick(epsilon=0.5)), torch.rand(6, 1, 2, 2), torch.rand(6, 1, 2, 2))
    ahead, behind = critic.seen[-1].flatten(1).chunk(2)
    torch.testing.assert_close((ahead + behind) / 2, critic.seen[0].flatten(1))
    torch.testing.assert_close((ahead - behind) / 2, (0.5 * 2 * WEIGHT / 5).expand(6, 4))


@pytest.mark.parametrize("method", METHODS)
def test_a_view_is_drawn_once_for_all_that_d_is_shown(method: str) -> None:
    class Doubles(Trick):
        def view(self, images: Tensor) -> Tensor:
            return 2 * images + 5 * torch.randn_like(images)

    critic = linear()
    found = term(pair_of(critic, view=Doubles(), it=trick(method=method)), *2 * [torch.rand(2000, 1, 2, 2)])
    seen, last = critic.seen[2], critic.seen[-1]
    assert seen.std().item() == pytest.approx(5, rel=0.05)
    torch.testing.assert_close(last.detach().unflatten(0, (-1, 2000)).mean(0), seen)
    assert found.item() == pytest.approx(125, rel=2e-3), "the view is no part of it"


@pytest.mark.parametrize("method", METHODS)
def test_a_conditional_critic_is_told_what_its_images_are_for(method: str) -> None:
    """w . x for label 0 and nothing for label 1; every second image has label 0, then the others."""

    def of(images: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        return (1 - labels) * (images.flatten(1) @ weight)

    images = torch.rand(8, 1, 2, 2)
    labels = torch.arange(8) % 2
    for given, expected in ((labels, 125), (1 - labels, 0)):
        pair = pair_of(Known(of, WEIGHT), it=trick(share=0.5, method=method))
        found = term(pair, images, images, Condition(labels=given))
        assert found.item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_the_batch_itself_needs_no_gradient(method: str) -> None:
    """Of the images, only the share that it looks at is made a leaf, and no graph of that gradient is kept."""
    critic = linear()
    pair = pair_of(critic, it=trick(method=method, share=0.5))
    term(pair, torch.rand(4, 1, 2, 2), torch.rand(4, 1, 2, 2))
    assert [seen.requires_grad for seen in critic.seen] == [False, False, True, False]
    assert not pair.tricks.differentiate(frozenset())
    assert pair_of(linear(), it=trick(method="exact")).tricks.differentiate(frozenset())


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


def test_dropout_is_refused_since_a_direction_belongs_to_its_mask() -> None:
    dropping = {"model.discriminator": Drops(lambda x, w, _: x, WEIGHT)}
    assert not diagnostics({**dropping, "tricks.r1": trick(method="exact")})
    for method in METHODS:
        (found,) = diagnostics({**dropping, "tricks.r1": trick(method=method)})
        assert (found.id, found.level) == ("C39", Level.ERROR)
        assert not diagnostics({"model.discriminator": linear(), "tricks.r1": trick(method=method)})


class Kinked(Known):
    """With the traits of a network of ReLUs."""

    traits = Traits(provides=Known.traits.provides, invalidates=facts(Fact.SMOOTH))


def test_kinks_are_refused_where_a_difference_would_be_taken_across_them() -> None:
    kinked = {"model.discriminator": Kinked(lambda x, w, _: x, WEIGHT)}
    for method in ("exact", "directional"):
        assert not diagnostics({**kinked, "tricks.r1": trick(method=method)})
    (found,) = diagnostics({**kinked, "tricks.r1": trick()})
    assert (found.id, found.level) == ("C58", Level.ERROR)
    assert "model.discriminator.activation=silu" in found.sentence and "method=directional" in found.sentence


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


SMOOTH = ("model.discriminator.norm=none", "model.discriminator.activation=silu")
RUNS = {
    "alone": tiny(*SMOOTH, tricks=["r1", "r2"]),
    "conditional": tiny(*SMOOTH, model="cdcgan", tricks=["r1", "r2"]),
    "spectral": tiny(*SMOOTH, tricks=["spectral_norm", "r1", "r2"]),
    "lazy": tiny(*SMOOTH, "tricks.r1.every=2", "tricks.r2.every=3", tricks=["r1", "r2"]),
    "views": tiny(*SMOOTH, tricks=["instance_noise", "replay", "ada", "r1", "r2"]),
    "pyramids": tiny("force=[C58]", model="msggan", tricks=["r1", "r2"]),
    "compared": tiny(*SMOOTH, tricks=["minibatch_stddev", "r1", "r2"]),
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
