"""Penalties, regularisers of D, tricks on parameters, and labels that follow D: closed forms against the papers."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganrun.config.combination import diagnostics
from ganrun.core.context import BatchShape, DiscriminatorOutput, Role, Targets, Update
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.pair import Pair
from ganrun.core.schedule import Linear, Scheduled
from ganrun.core.traits import Diagnostic, Level, Traits, facts
from ganrun.core.trick import Trick
from ganrun.losses.margins import Wasserstein
from ganrun.losses.targets import NonSaturating
from ganrun.tricks.clipping import GradientClipping, WeightClipping
from ganrun.tricks.labels import AdaptiveSmoothing, Flip, NoisyLabels, OneSidedSmoothing, SoftLabels
from ganrun.tricks.penalties import R1, R2, Dragan, Drift, GradientPenalty
from ganrun.tricks.regularisers import Consistency, LeCam, Orthogonal, WeightDecay, flip_and_shift

SHAPE = BatchShape(4, 2)
WEIGHT = torch.tensor([3.0, 0.0, 4.0, 0.0])  # of a linear D; its norm is 5


@pytest.fixture(autouse=True)
def _one_seed_and_one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


class Known(nn.Module):
    """A discriminator that is this function of flattened images and one weight. Keeps what it saw."""

    traits = Traits(provides=facts(Fact.SCORE, Fact.PER_SAMPLE, Fact.FREE_WEIGHTS, Fact.ALONE, Fact.STEADY))

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], weight: Tensor):
        super().__init__()
        self.function, self.weight = function, nn.Parameter(weight.clone())
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        self.seen.append(images.detach())
        return DiscriminatorOutput(self.function(images.flatten(1), self.weight))


def linear() -> Known:
    """D(x) = w . x: its slope is |w| = 5 everywhere."""
    return Known(lambda x, w: x @ w, WEIGHT)


def bowl() -> Known:
    """D(x) = w |x|^2 / 2 with w = 1: its slope at x is |x|."""
    return Known(lambda x, w: w * x.square().sum(1) / 2, torch.ones(()))


def pair_of(discriminator: nn.Module | None = None, generator: nn.Module | None = None, **tricks: Trick) -> Pair:
    chosen = discriminator or linear()
    return Pair(generator=generator or nn.Linear(2, 4), discriminator=chosen, loss=NonSaturating(), tricks=tricks)


def terms(pair: Pair, real: Tensor, fake: Tensor, *due: str) -> dict[str, Tensor]:
    return pair.discriminator_outcome(
        Update(player="discriminator", role="discriminator", shape=SHAPE, due=frozenset(due)), real, fake
    ).terms


def norms(*values: float) -> Tensor:
    """Images of 2x2 pixels, all alike within, of these norms."""
    return (torch.tensor(values) / 2).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone()


def metric_of(pair: Pair, name: str) -> float:
    return pair.metrics()[name].item()


def turn(pair: Pair, step: int) -> None:
    for module in pair.modules():
        if isinstance(module, Scheduled):
            module.turn(step)


def by_weight(pair: Pair, term: Tensor) -> Tensor:
    weight = pair.discriminator.weight
    assert isinstance(weight, Tensor)
    return torch.autograd.grad(term, weight)[0]


# Penalties on the slope


def gp(**changes: Any) -> GradientPenalty:
    return GradientPenalty(**{"weight": 10.0, "target": 1.0, "one_sided": False, "every": 1} | changes)


def dragan(**changes: Any) -> Dragan:
    return Dragan(**{"weight": 10.0, "target": 1.0, "spread": 0.5, "one_sided": False, "every": 1} | changes)


def slope_settings(**changes: Any) -> dict[str, Any]:
    return {"gamma": 10.0, "every": 1, "method": "exact", "share": 1.0, "epsilon": 0.01} | changes


def r1(**changes: Any) -> R1:
    return R1(**slope_settings(**changes))


def r2(**changes: Any) -> R2:
    return R2(**slope_settings(**changes))


@pytest.mark.parametrize("trick", [gp, dragan])
@pytest.mark.parametrize("one_sided", [False, True])
@pytest.mark.parametrize(("target", "size"), [(1.0, 1.0), (1.0, 0.1), (0.0, 1.0), (6.0, 1.0)])
def test_the_penalty_of_a_linear_critic(trick: Any, one_sided: bool, target: float, size: float) -> None:
    """The slope is 5 size everywhere: 10 (5 size - target)^2, and 20 (5 size - target) w / |w| by w; or 0 below it."""
    pair = pair_of(Known(lambda x, w: x @ w, WEIGHT * size), mine=trick(target=target, one_sided=one_sided))
    found = terms(pair, torch.rand(4, 1, 2, 2), torch.rand(4, 1, 2, 2))["mine"]
    excess = 5 * size - target
    excess = max(excess, 0) if one_sided else excess
    assert found.item() == pytest.approx(10 * excess**2, rel=1e-5)
    torch.testing.assert_close(by_weight(pair, found), 20 * excess * WEIGHT / 5)
    assert metric_of(pair, "tricks/mine/slope") == pytest.approx(5 * size)


def test_the_one_sided_penalty_leaves_gentle_slopes_alone_image_by_image() -> None:
    """Slopes 0, 0.5, 2 and 3: both sides pay (1 + 1/4 + 1 + 4) / 4, one side (1 + 4) / 4. Gulrajani 2017, section 4."""
    images = norms(0, 0.5, 2, 3)
    assert terms(pair_of(bowl(), gp=gp()), images, images)["gp"].item() == pytest.approx(10 * 6.25 / 4)
    assert terms(pair_of(bowl(), gp=gp(one_sided=True)), images, images)["gp"].item() == pytest.approx(10 * 5 / 4)


def test_dragan_looks_around_reals_as_its_authors_do() -> None:
    """x + e * 0.5 * std * u: std of the whole batch; u for each value, e for each image, both U(0, 1); no fakes."""
    critic = bowl()
    pair = pair_of(critic, dragan=dragan())
    real = torch.cat([torch.full((1000, 1, 4, 4), -1.0), torch.full((1000, 1, 4, 4), 3.0)])  # std 2 over all values
    terms(pair, real, torch.full_like(real, 50.0))
    assert len(critic.seen) == 3
    offset = (critic.seen[-1] - real).flatten(1)  # e * u, as 0.5 * std = 1
    assert offset.min() >= 0 and 0.9 < offset.max() <= 1
    assert offset.mean().item() == pytest.approx(1 / 4, abs=0.01)
    assert offset.var().item() == pytest.approx(1 / 9 - 1 / 16, rel=0.05), "a product of two uniform numbers"
    assert (offset.amax(1) - offset.amin(1)).min() > 0, "each value has its own u"
    share = offset.amax(1)  # nearly e, of 16 values
    assert share.std() > 0.2, "each image has its own e"
    assert offset.mean(1).var().item() == pytest.approx(1 / 4 / 12 + 1 / 3 / 12 / 16, rel=0.1)


def test_dragan_s_spread_scales_with_the_data_and_its_setting() -> None:
    for spread, size in ((0.5, 1.0), (0.5, 3.0), (2.0, 1.0), (0.0, 1.0)):
        critic = bowl()
        real = torch.randn(500, 1, 2, 2) * size
        terms(pair_of(critic, dragan=dragan(spread=spread)), real, real)
        assert (critic.seen[-1] - real).mean().item() == pytest.approx(spread * size / 4, rel=0.15)


def test_r1_and_r2_by_hand() -> None:
    """gamma / 2 E |x|^2 for D(x) = w |x|^2 / 2: over reals of norm 0 and 2, 10; over fakes of norm 1 and 3, 25."""
    pair = pair_of(bowl(), r1=r1(), r2=r2())
    found = terms(pair, norms(0, 2), norms(1, 3))
    assert found["r1"].item() == pytest.approx(10) and found["r2"].item() == pytest.approx(25)
    assert metric_of(pair, "tricks/r1/slope") == pytest.approx(1)
    assert metric_of(pair, "tricks/r2/slope") == pytest.approx(2)
    assert by_weight(pair, found["r1"]).item() == pytest.approx(20), "the penalty is w^2 times that: twice it by w"
    assert by_weight(pair, found["r2"]).item() == pytest.approx(50)


def test_r1_of_a_linear_critic_has_the_gradient_gamma_w() -> None:
    pair = pair_of(r1=r1(gamma=0.3))
    found = terms(pair, torch.rand(4, 1, 2, 2), torch.rand(4, 1, 2, 2))["r1"]
    assert found.item() == pytest.approx(0.15 * 25, rel=1e-5)
    torch.testing.assert_close(by_weight(pair, found), 0.3 * WEIGHT)


def test_r1_is_taken_where_the_loss_looked_and_costs_no_other_look() -> None:
    """Through the same view: the noise of a view is not drawn twice."""

    class Doubles(Trick):
        def view(self, images: Tensor) -> Tensor:
            return 2 * images + torch.randn_like(images)

    critic = bowl()
    pair = pair_of(critic, view=Doubles(), r1=r1(gamma=2.0))
    found = terms(pair, norms(1, 1, 1, 1), norms(0, 0, 0, 0))["r1"]
    assert len(critic.seen) == 2
    assert found.item() == pytest.approx((2 * critic.seen[0]).square().sum((1, 2, 3)).mean().item(), rel=1e-5)


def small_net() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 16, 3, 2, 1), nn.LeakyReLU(0.2))
    net.extend([nn.Flatten(), nn.Linear(256, 1), nn.Flatten(0)])

    class Scored(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
            return DiscriminatorOutput(self.net(images))

    return Scored()


@pytest.mark.parametrize("trick", [gp(), dragan(), r1(), r2()], ids=["gp", "dragan", "r1", "r2"])
def test_penalties_under_bf16(trick: Trick) -> None:
    """They are computed in it, are float32 themselves, and their gradients are as good as any in bf16."""
    pair = pair_of(small_net(), mine=trick)
    real, fake = torch.rand(16, 1, 16, 16), torch.rand(16, 1, 16, 16)
    values, gradients = [], []
    for enabled in (False, True):
        torch.manual_seed(3)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            term = terms(pair, real, fake)["mine"]
        assert term.dtype is torch.float32
        values.append(term.item())
        parts = torch.autograd.grad(term, list(pair.discriminator.parameters()), allow_unused=True)
        gradients.append(torch.cat([part.flatten() for part in parts if part is not None]))
    assert values[1] == pytest.approx(values[0], rel=0.01)
    error = ((gradients[1] - gradients[0]).norm() / gradients[0].norm()).item()
    assert 0 < error < 0.06


def test_the_weight_of_a_penalty_may_follow_the_step() -> None:
    pair = pair_of(r1=r1(gamma=Linear(start=4.0, end=2.0, steps=10), every=1))
    for step, gamma in ((0, 4.0), (5, 3.0), (10, 2.0)):
        turn(pair, step)
        found = terms(pair, torch.rand(4, 1, 2, 2), torch.rand(4, 1, 2, 2))["r1"]
        assert found.item() == pytest.approx(gamma / 2 * 25, rel=1e-5)


LAZY: dict[str, Callable[[int], Trick]] = {
    "gp": lambda every: gp(every=every),
    "dragan": lambda every: dragan(every=every),
    "r1": lambda every: r1(every=every),
    "r2": lambda every: r2(every=every),
    "drift": lambda every: Drift(weight=0.001, every=every),
}


@pytest.mark.parametrize("name", LAZY)
def test_lazy_penalties_have_their_turn_and_count_for_the_steps_between(name: str) -> None:
    real, fake = norms(1, 2, 3, 4), norms(4, 3, 2, 1)
    torch.manual_seed(1)
    usual = terms(pair_of(**{name: LAZY[name](1)}), real, fake)[name].item()
    lazy = pair_of(**{name: LAZY[name](16)})
    assert [step for step in range(40) if name in lazy.tricks.due(step)] == [0, 16, 32]
    torch.manual_seed(1)
    assert terms(lazy, real, fake, name)[name].item() == pytest.approx(16 * usual, rel=1e-6)
    assert name not in terms(lazy, real, fake)


def test_images_become_leaves_only_when_somebody_differentiates() -> None:
    assert not pair_of(gp=gp()).tricks.differentiate(frozenset())
    lazy = pair_of(r1=r1(every=16)).tricks
    assert lazy.differentiate(frozenset({"r1"})) and not lazy.differentiate(frozenset())


def test_drift_by_hand() -> None:
    """0.001 E D(x)^2 over reals only: scores 5 and 10 give 0.0625."""
    real = torch.tensor([[1.0, 0, 0.5, 0], [2.0, 0, 1.0, 0]]).view(2, 1, 2, 2)
    pair = pair_of(drift=Drift(weight=0.001, every=1))
    found = terms(pair, real, torch.full_like(real, 100.0))["drift"]
    assert found.item() == pytest.approx(0.001 * (25 + 100) / 2)
    torch.testing.assert_close(by_weight(pair, found), 0.001 * (5 * real[0].flatten() + 10 * real[1].flatten()))


# Parameters


class Box(nn.Module):
    """A discriminator with these layers, which it does not use, and a linear score."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        return DiscriminatorOutput(images.flatten(1).sum(1))


def dense(rows: list[list[float]]) -> nn.Linear:
    layer = nn.Linear(len(rows[0]), len(rows))
    layer.weight.data.copy_(torch.tensor(rows))
    return layer


def orthogonal_term(*layers: nn.Module, weight: float = 1.0) -> Tensor:
    images = torch.rand(2, 1, 2, 2)
    return terms(pair_of(Box(*layers), o=Orthogonal(weight=weight, of="discriminator")), images, images)["o"]


def test_the_orthogonal_term_of_known_matrices() -> None:
    """Rows (1, 1, 0) and (0, 2, 3) have the product 2, which occurs twice in W W^T: 2 * 2^2. Lengths are free."""
    layer = dense([[1, 1, 0], [0, 2, 3]])
    found = orthogonal_term(layer, weight=0.5)
    assert found.item() == pytest.approx(4)
    gradient = torch.autograd.grad(found, layer.weight)[0]
    torch.testing.assert_close(gradient, torch.tensor([[0.0, 8, 12], [4, 4, 0]]))  # 4 weight * 2 * the other row
    assert orthogonal_term(dense([[7, 0], [0, -3]])).item() == 0
    two = dense([[1, 1, 0], [0, 2, 3]]), dense([[1, 1], [1, 1]])
    assert orthogonal_term(*two).item() == pytest.approx(8 + 2 * 2**2), "a sum over layers"


def test_filters_of_convolutions_are_rows_and_vectors_are_left_out() -> None:
    conv, back = nn.Conv2d(1, 2, 2), nn.ConvTranspose2d(2, 1, 2)  # back has one filter only: nothing to be at angles to
    conv.weight.data.copy_(torch.tensor([[1.0, 2, 3, 4], [1, 0, 0, 1]]).view(2, 1, 2, 2))
    assert orthogonal_term(conv).item() == pytest.approx(2 * 5**2)
    assert orthogonal_term(back).item() == 0
    assert orthogonal_term(nn.BatchNorm1d(8), nn.Embedding(5, 3), nn.GroupNorm(2, 4)).item() == 0


@pytest.mark.parametrize("of", ["generator", "discriminator", "both"])
def test_orthogonality_is_a_term_of_the_chosen_players(of: str) -> None:
    skew = [[1.0, 1.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    pair = pair_of(Box(dense(skew)), dense(skew), o=Orthogonal(weight=1.0, of=of))
    images = torch.rand(2, 1, 2, 2)
    found = {
        "discriminator": terms(pair, images, images)["o"].item(),
        "generator": pair.generator_outcome(Update(player="generator", role="generator", shape=SHAPE), None, images)
        .terms["o"]
        .item(),
    }
    assert found == {player: 8.0 if of in (player, "both") else 0.0 for player in found}


def test_the_orthogonal_term_is_in_float32_under_bf16() -> None:
    layer = nn.Linear(64, 64)
    products = layer.weight.double() @ layer.weight.double().T
    exact = (products * (1 - torch.eye(64))).square().sum().item()
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            assert orthogonal_term(layer).item() == pytest.approx(exact, rel=1e-5)


def with_gradients(pair: Pair, player: Role) -> dict[int, Tensor]:
    """Give a player the gradients 1, 2, 3 ... in every element; where they are kept."""
    net = pair.generator if player == "generator" else pair.discriminator
    for i, parameter in enumerate(net.parameters()):
        parameter.grad = torch.full_like(parameter, i + 1.0)
    return {parameter.grad.data_ptr(): parameter.grad for parameter in net.parameters() if parameter.grad is not None}


def test_clipping_shortens_all_tensors_together_and_keeps_their_addresses() -> None:
    """1 in each of 8 weights and 2 in each of 4 biases: the norm is sqrt(8 + 16)."""
    pair = pair_of(c=GradientClipping(norm=1.0, of="both"))
    before = with_gradients(pair, "generator")
    kept = {name: norm.data_ptr() for name, norm in pair.tricks.metrics().items()}
    pair.tricks.each(Trick.before, pair, "generator")
    assert {name: norm.data_ptr() for name, norm in pair.tricks.metrics().items()} == kept
    weight, bias = (p.grad for p in pair.generator.parameters())
    assert {p.grad.data_ptr() for p in pair.generator.parameters() if p.grad is not None} == set(before)
    torch.testing.assert_close(weight, torch.full((4, 2), 1 / math.sqrt(24)), rtol=1e-5, atol=0)
    torch.testing.assert_close(bias, torch.full((4,), 2 / math.sqrt(24)), rtol=1e-5, atol=0)
    assert (
        metric_of(pair, "tricks/c/generator") == pytest.approx(math.sqrt(24))
        and metric_of(pair, "tricks/c/discriminator") == 0
    )


def test_a_short_gradient_is_left_as_it_is_and_so_is_the_other_player() -> None:
    pair = pair_of(c=GradientClipping(norm=100.0, of="both"), d=GradientClipping(norm=0.1, of="discriminator"))
    with_gradients(pair, "generator")
    pair.tricks.each(Trick.before, pair, "generator")
    assert [p.grad.unique().tolist() for p in pair.generator.parameters() if p.grad is not None] == [[1.0], [2.0]]
    assert set(pair.tricks.metrics()) == {"tricks/c/generator", "tricks/c/discriminator", "tricks/d/discriminator"}


def test_weight_decay_adds_its_share_of_every_parameter_to_the_gradient() -> None:
    """So that one step of plain gradient descent multiplies weights by 1 - rate * weight, as L2 does."""
    pair = pair_of(w=WeightDecay(weight=0.1, of="generator", layers="all"))
    before = with_gradients(pair, "generator")
    pair.tricks.each(Trick.before, pair, "generator")
    for i, parameter in enumerate(pair.generator.parameters()):
        assert parameter.grad is not None and parameter.grad.data_ptr() in before
        torch.testing.assert_close(parameter.grad, i + 1 + 0.1 * parameter.detach())
    with_gradients(pair, "discriminator")
    pair.tricks.each(Trick.before, pair, "discriminator")
    assert [p.grad.unique().tolist() for p in pair.discriminator.parameters() if p.grad is not None] == [[1.0]]


def test_weight_decay_is_what_torch_s_sgd_calls_by_that_name() -> None:
    mine, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs.load_state_dict(mine.state_dict())
    pair = pair_of(generator=mine, w=WeightDecay(weight=0.3, of="both", layers="all"))
    ours = torch.optim.SGD(mine.parameters(), lr=0.5)
    other = torch.optim.SGD(theirs.parameters(), lr=0.5, weight_decay=0.3)
    for net in (mine, theirs):
        net(torch.ones(4, 3)).square().mean().backward()
    pair.tricks.each(Trick.before, pair, "generator")
    ours.step()
    other.step()
    torch.testing.assert_close(list(mine.parameters()), list(theirs.parameters()))


# Regularisers of D


def scores(*values: float) -> Tensor:
    """Images that the summing discriminator gives these scores."""
    return (torch.tensor(values) / 4).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone()


def sums() -> Known:
    return Known(lambda x, w: w * x.sum(1), torch.ones(()))


@pytest.mark.parametrize("rectified", [False, True])
def test_lecam_over_three_updates_by_hand(rectified: bool) -> None:
    """Step 0 sets the anchors: a_R = 2, a_F = -1. Step 1, scores (4, -2) and (1, 3), decay 0.9: a_R = 1.9, a_F = -0.7.

    Reals stand 4.7 and -1.3 above a_F, fakes 0.9 and -1.1 below a_R. Then scores (2, 2) and (-2, -2):
    a_R = 1.91, a_F = -0.83.
    """
    pair = pair_of(sums(), lecam=LeCam(weight=0.3, decay=0.9, rectified=rectified, start=1))
    turn(pair, 0)
    assert terms(pair, scores(1, 3), scores(-1, -1))["lecam"].item() == 0
    assert (metric_of(pair, "tricks/lecam/real"), metric_of(pair, "tricks/lecam/fake")) == (2, -1)
    turn(pair, 1)
    found = terms(pair, scores(4, -2), scores(1, 3))["lecam"].item()
    assert metric_of(pair, "tricks/lecam/real") == pytest.approx(1.9)
    assert metric_of(pair, "tricks/lecam/fake") == pytest.approx(-0.7)
    below = 0 if rectified else 1
    assert found == pytest.approx(0.3 * ((4.7**2 + below * 1.3**2) / 2 + (0.9**2 + below * 1.1**2) / 2), rel=1e-5)
    turn(pair, 2)
    found = terms(pair, scores(2, 2), scores(-2, -2))["lecam"].item()
    assert found == pytest.approx(0.3 * ((2 + 0.83) ** 2 + (1.91 + 2) ** 2), rel=1e-5)


def test_lecam_pulls_scores_to_the_anchors_and_not_the_anchors_to_the_scores() -> None:
    """By w, with D(x) = w s: 2 (w s_R - a_F) s_R + 2 (w s_F - a_R) s_F, the anchors constant."""
    pair = pair_of(sums(), lecam=LeCam(weight=1.0, decay=0.0, rectified=False, start=1))
    turn(pair, 1)
    found = terms(pair, scores(3), scores(-1))["lecam"]  # decay 0: a_R = 3, a_F = -1
    assert by_weight(pair, found).item() == pytest.approx(2 * (3 + 1) * 3 + 2 * (-1 - 3) * -1)


def test_lecam_waits_for_its_start_following_the_scores_of_now() -> None:
    pair = pair_of(sums(), lecam=LeCam(weight=0.3, decay=0.99, rectified=True, start=5))
    for step in range(5):
        turn(pair, step)
        assert terms(pair, scores(step), scores(-step))["lecam"].item() == 0
        assert (metric_of(pair, "tricks/lecam/real"), metric_of(pair, "tricks/lecam/fake")) == (step, -step)
    turn(pair, 5)
    assert terms(pair, scores(5), scores(-5))["lecam"].item() > 0
    assert metric_of(pair, "tricks/lecam/real") == pytest.approx(4.01)


def test_lecam_keeps_its_anchors_in_the_checkpoint() -> None:
    assert set(LeCam(weight=0.3, decay=0.99, rectified=True, start=1).state_dict()) == {"real", "fake"}


def pictures(count: int, side: int = 8) -> Tensor:
    """Images in which every pixel tells where it is: column + 100 * row."""
    where = torch.arange(side) + 100.0 * torch.arange(side)[:, None]
    return where.expand(count, 1, side, side).clone()


def test_flips_and_shifts_are_whole_mirrored_and_drawn_for_each_image() -> None:
    side, shift, count = 8, 3, 4000
    moved = flip_and_shift(pictures(count, side), shift)[:, 0]
    rows, columns = moved // 100, moved % 100
    assert torch.equal(rows, rows[:, :, :1].expand_as(rows)) and torch.equal(columns, columns[:, :1].expand_as(columns))
    padded = F.pad(pictures(1, side), (shift,) * 4, mode="reflect")[0, 0]  # torch's own mirror is the reference
    possible = {
        (down, right, flip): (lambda crop: crop.flip(1) if flip else crop)(
            padded[shift + down : shift + down + side, shift + right : shift + right + side]
        )
        for down in range(-shift, shift + 1)
        for right in range(-shift, shift + 1)
        for flip in (False, True)
    }
    table = torch.stack(list(possible.values())).flatten(1)
    match = (moved.flatten(1)[:, None] == table[None]).all(2)
    assert (match.sum(1) == 1).all(), "each image is one flip and shift of the original"
    share = match.double().mean(0)
    assert len(table) == 98 and (share - 1 / 98).abs().max() < 5 * math.sqrt(1 / 98 / count), "and all are as likely"


def test_no_shift_is_only_flips() -> None:
    images = pictures(200)
    moved = flip_and_shift(images, 0)
    flips = (moved == images.flip(3)).flatten(1).all(1)
    assert torch.equal(flips | (moved == images).flatten(1).all(1), torch.ones(200, dtype=torch.bool))
    assert 60 < flips.sum() < 140


def consistency(**changes: Any) -> Consistency:
    return Consistency(**{"real": 10.0, "fake": 10.0, "shift": 3} | changes)


def test_a_discriminator_that_does_not_care_pays_nothing() -> None:
    """Every row and column of these images is the same, and this D looks at the mean."""
    mean = Known(lambda x, w: w * x.mean(1), torch.ones(()))
    images = torch.rand(8, 1, 1, 1).expand(8, 1, 8, 8)
    assert terms(pair_of(mean, c=consistency()), images, 2 * images)["c"].item() == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize(("real", "fake"), [(10.0, 10.0), (10.0, 0.0), (0.0, 5.0), (3.0, 7.0)])
def test_a_discriminator_of_one_corner_is_penalised_for_changes_there(real: float, fake: float) -> None:
    """real E (D(x) - D(T x))^2 + fake E (D(G) - D(T G))^2, T as the discriminator saw it; a side without weight costs
    no look."""
    corner = Known(lambda x, w: w * x[:, 0], torch.ones(()))
    pair = pair_of(corner, c=consistency(real=real, fake=fake))
    reals, fakes = torch.randn(16, 1, 8, 8), torch.randn(16, 1, 8, 8)
    found = terms(pair, reals, fakes)["c"]
    seen = iter(corner.seen[2:])
    expected = 0.0
    for weight, images in ((real, reals), (fake, fakes)):
        if weight:
            moved = next(seen)
            assert not torch.equal(moved, images)
            expected += weight * (images - moved)[:, 0, 0, 0].square().mean().item()
    assert next(seen, None) is None and found.item() == pytest.approx(expected, rel=1e-5)
    assert by_weight(pair, found).item() == pytest.approx(2 * expected, rel=1e-5), "both looks learn"


def test_consistency_reaches_no_generator() -> None:
    pair = pair_of(sums(), nn.Linear(2, 16), c=consistency(shift=1))
    fake = pair.generator(torch.randn(4, 2)).view(4, 1, 4, 4)
    terms(pair, torch.rand(4, 1, 4, 4), fake)["c"].backward()
    assert all(p.grad is None for p in pair.generator.parameters())


@pytest.mark.parametrize(("side", "shift"), [(1, 0), (1, 4), (4, 4), (8, 9)])
def test_images_too_small_to_shift_are_refused(side: int, shift: int) -> None:
    images = torch.rand(2, 2, side, side)
    with pytest.raises(ConfigError, match=r"tricks\.c\.shift: "):
        pair_of(c=consistency(shift=shift)).bind(images, images)


# Labels


def adaptive(**changes: Any) -> AdaptiveSmoothing:
    return AdaptiveSmoothing(**{"largest": 0.3, "chance": math.log(4), "decay": 0.5} | changes)


def hard_loss(real: float, fake: float) -> float:
    """The loss of D with hard targets for these scores."""
    return math.log1p(math.exp(-real)) + math.log1p(math.exp(fake))


def test_adaptive_smoothing_by_hand_over_steps() -> None:
    """smooth = 0.3 clip(1 - EMA(loss) / ln 4, 0, 1); the EMA starts at chance and is of the loss for hard targets."""
    pair = pair_of(sums(), a=adaptive())
    kept = math.log(4)
    for real, fake in ((0.0, 0.0), (2.0, -1.0), (5.0, -5.0), (5.0, -5.0), (-3.0, 3.0), (-9.0, 9.0)):
        kept = (kept + hard_loss(real, fake)) / 2
        smooth = 0.3 * min(max(1 - kept / math.log(4), 0), 1)
        found = terms(pair, scores(real), scores(fake))["adversarial"].item()
        assert metric_of(pair, "tricks/a/loss") == pytest.approx(kept, rel=1e-5)
        assert metric_of(pair, "tricks/a/smooth") == pytest.approx(smooth, rel=1e-4, abs=1e-6)
        target = torch.tensor([1 - smooth])
        asked = F.binary_cross_entropy_with_logits(torch.tensor([real]), target).item()
        assert found == pytest.approx(asked + math.log1p(math.exp(fake)), rel=1e-5), "only reals are asked for less"
    assert smooth == 0 and kept > math.log(4), "a D that loses is not smoothed"


def test_adaptive_smoothing_reaches_its_largest_and_no_more() -> None:
    pair = pair_of(sums(), a=adaptive(decay=0.0))
    terms(pair, scores(90), scores(-90))
    assert metric_of(pair, "tricks/a/smooth") == pytest.approx(0.3)


def test_adaptive_smoothing_judges_alike_under_flip() -> None:
    """D that calls generated 1 well is ahead too."""
    plain, flipped = pair_of(sums(), a=adaptive()), pair_of(sums(), a=adaptive(), flip=Flip())
    terms(plain, scores(3), scores(-2))
    terms(flipped, scores(-3), scores(2))
    assert (
        metric_of(plain, "tricks/a/loss") == pytest.approx(metric_of(flipped, "tricks/a/loss"))
        and metric_of(plain, "tricks/a/smooth") > 0.05
    )


@pytest.mark.parametrize("order", [0, 1])
def test_swapped_fakes_have_the_targets_of_reals(order: int) -> None:
    """One-sided and adaptive smoothing mean the same before and after the swaps."""
    smoothing = adaptive()
    smoothing.smooth.fill_(0.2)
    for trick, asked in ((smoothing, 0.8), (OneSidedSmoothing(real=0.9), 0.9)):
        tricks = [trick, NoisyLabels(p=0.4)]
        found = Targets(torch.ones(1000), torch.zeros(1000))
        for one in tricks if order else reversed(tricks):
            found = one.targets(found)
        for side in found:
            assert {round(value, 4) for value in side.tolist()} == {0.0, asked}


def own(trick: Trick) -> list[Diagnostic]:
    return list(trick.diagnostics(BatchShape(64, 32)))


def test_the_diagnostics_of_label_tricks() -> None:
    (note,) = own(SoftLabels(real=[0.9, 1.0], fake=[0.0, 0.1]))
    assert (note.id, note.level) == ("C9", Level.NOTE) and "one_sided_smoothing" in note.sentence
    assert not own(SoftLabels(real=[0.9, 1.0], fake=[0.0, 0.0]))
    (note,) = own(Flip())
    assert (note.id, note.level) == ("C41", Level.NOTE)


@pytest.mark.parametrize("soft", [SoftLabels(real=[0.7, 1.2], fake=[0.0, 0.3]), OneSidedSmoothing(real=0.9)])
def test_flip_only_negates_the_logit_with_any_targets(soft: Trick) -> None:
    """C41: the same draws, minus the scores: the same losses for both players, even with targets that do not mirror."""
    plain, flipped = pair_of(sums(), soft=soft), pair_of(sums(), soft=soft, flip=Flip())
    real, fake = scores(1, 2, -3), scores(0.5, -1, 4)
    losses = []
    for pair, sign in ((plain, 1), (flipped, -1)):
        torch.manual_seed(7)
        generators = pair.generator_outcome(
            Update(player="generator", role="generator", shape=SHAPE), None, sign * fake
        ).terms
        losses.append((terms(pair, sign * real, sign * fake)["adversarial"].item(), generators["adversarial"].item()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


# What may be combined with what


class SingleScale:
    traits = Traits(provides=facts(Fact.SINGLE_SCALE))


GAME = SingleScale()


def reported(**parts: Any) -> dict[tuple[str, Level], list[str]]:
    found: dict[tuple[str, Level], list[str]] = {}
    for diagnostic in diagnostics({"model.discriminator": linear(), "game": GAME, **parts}):
        found.setdefault((diagnostic.id, diagnostic.level), []).append(diagnostic.sentence)
    return found


class Couples(Known):
    """With the traits of a network with batch norm, minibatch discrimination and dropout."""

    traits = Traits(provides=Known.traits.provides, invalidates=facts(Fact.PER_SAMPLE, Fact.ALONE, Fact.STEADY))


PENALTIES = {name: LAZY[name](1) for name in ("gp", "dragan", "r1", "r2")}


@pytest.mark.parametrize("name", PENALTIES)
def test_penalties_need_a_discriminator_that_scores_each_image_on_its_own(name: str) -> None:
    """C1 refused, C12 warned; C39 where the penalty calls D again, with another dropout mask."""
    trick = {f"tricks.{name}": PENALTIES[name]}
    assert not reported(**trick)
    bad = reported(**trick, **{"model.discriminator": Couples(lambda x, w: x @ w, WEIGHT)})
    again = {("C39", Level.WARNING)} if name in ("gp", "dragan") else set()
    assert set(bad) == {("C1", Level.ERROR), ("C12", Level.WARNING)} | again


@pytest.mark.parametrize(("name", "refused"), [("gp", True), ("dragan", True), ("r1", False), ("r2", False)])
def test_clipping_and_a_penalty_with_a_target_slope_exclude_each_other(name: str, refused: bool) -> None:
    clip = WeightClipping(bound=0.01)
    found = reported(**{"tricks.clip": clip, f"tricks.{name}": PENALTIES[name], "optim": NoMomentum()})
    assert set(found) == ({("C3", Level.ERROR)} if refused else set())


class NoMomentum:
    traits = Traits(provides=facts(Fact.NO_MOMENTUM))


BOUNDS: dict[str, tuple[Trick, bool]] = {
    "gp": (gp(), True),
    "one_sided": (gp(one_sided=True), True),
    "r1": (r1(gamma=1.0, every=16), True),
    "clip": (WeightClipping(bound=0.01), True),
    "dragan": (dragan(), False),
    "r2": (r2(gamma=1.0), False),
    "drift": (Drift(weight=0.001, every=1), False),
    "nothing": (gp(weight=0.0), False),
    "no_r1": (r1(gamma=0.0), False),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_what_bounds_a_wasserstein_critic(name: str) -> None:
    """C2: clip, gp and r1 with a weight; a penalty around reals or fakes only, or of weight 0, does not."""
    trick, bounds = BOUNDS[name]
    found = reported(loss=Wasserstein(), optim=NoMomentum(), **{"tricks.it": trick})
    assert set(found) == (set() if bounds else {("C2", Level.ERROR)})


def test_label_tricks_state_what_they_need_and_set() -> None:
    found = reported(loss=Wasserstein(), **{"tricks.gp": gp(), "tricks.adaptive_smoothing": adaptive()})
    assert {("C6", Level.ERROR), ("C7", Level.WARNING)} == set(found)
    both = {"tricks.adaptive_smoothing": adaptive(), "tricks.one_sided_smoothing": OneSidedSmoothing(real=0.9)}
    assert set(reported(loss=NonSaturating(), **both)) == {("C8", Level.ERROR)}


BAD: dict[str, Callable[[], Trick]] = {
    "tricks.gp.weight": lambda: gp(weight=-1.0),
    "tricks.gp.target": lambda: gp(target=-1.0),
    "tricks.gp.every": lambda: gp(every=0),
    "tricks.dragan.weight": lambda: dragan(weight=float("nan")),
    "tricks.dragan.spread": lambda: dragan(spread=-0.5),
    "tricks.r1.gamma": lambda: r1(gamma=-1.0),
    "tricks.r1.every": lambda: r1(gamma=1.0, every=-16),
    "tricks.r2.gamma": lambda: r2(gamma=-1.0),
    "tricks.drift.weight": lambda: Drift(weight=-0.001, every=1),
    "tricks.drift.every": lambda: Drift(weight=0.001, every=0),
    "tricks.clip.bound": lambda: WeightClipping(bound=0.0),
    "tricks.orthogonal.weight": lambda: Orthogonal(weight=-1.0, of="both"),
    "tricks.orthogonal.of": lambda: Orthogonal(weight=1.0, of="critic"),
    "tricks.weight_decay.weight": lambda: WeightDecay(weight=-1.0, of="both", layers="all"),
    "tricks.weight_decay.of": lambda: WeightDecay(weight=1.0, of="", layers="all"),
    "tricks.gradient_clipping.norm": lambda: GradientClipping(norm=0.0, of="both"),
    "tricks.gradient_clipping.of": lambda: GradientClipping(norm=1.0, of="all"),
    "tricks.lecam.weight": lambda: LeCam(weight=-1.0, decay=0.9, rectified=True, start=1),
    "tricks.lecam.decay": lambda: LeCam(weight=1.0, decay=1.0, rectified=True, start=1),
    "tricks.lecam.start": lambda: LeCam(weight=1.0, decay=0.9, rectified=True, start=0),
    "tricks.consistency.real": lambda: consistency(real=-1.0),
    "tricks.consistency.fake": lambda: consistency(fake=-1.0),
    "tricks.consistency.shift": lambda: consistency(shift=-1),
    "tricks.adaptive_smoothing.largest": lambda: adaptive(largest=1.0),
    "tricks.adaptive_smoothing.chance": lambda: adaptive(chance=0.0),
    "tricks.adaptive_smoothing.decay": lambda: adaptive(decay=1.0),
}


@pytest.mark.parametrize("where", BAD)
def test_bad_settings_are_refused_with_their_name(where: str) -> None:
    """A trick does not know its place: it writes its own settings with a leading dot."""
    with pytest.raises(ConfigError) as refusal:
        BAD[where]()
    place, _, setting = where.rpartition(".")
    assert str(refusal.value).startswith(f".{setting}: ") and "expected" in str(refusal.value)
    assert str(refusal.value.at(place)).startswith(f"{where}: ") and " ." not in str(refusal.value.at(place))
