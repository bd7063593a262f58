"""What G learns from, and averages of weights: collapsed and orthonormal batches, means by hand, k by hand."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganrun.config.build import build
from ganrun.config.compose import compose
from ganrun.core.context import BatchShape, DiscriminatorOutput, Latent, Update
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.loss import Loss
from ganrun.core.pair import Pair
from ganrun.core.trick import Trick
from ganrun.losses.margins import Hinge
from ganrun.losses.targets import LeastSquares, NonSaturating
from ganrun.tricks.averaging import Ema, HistoricalAveraging
from ganrun.tricks.generator_loss import FeatureMatching, ModeSeeking, PullingAway, TopK
from ganrun.tricks.labels import Flip

TINY = [
    *("dataset.resolution=16", "batch=4", "steps=6", "game.grid=4", "engine.device=cpu", "engine.precision=fp32"),
    *("model.generator.width=4", "model.discriminator.width=4", "model.generator.latent=8"),
]
G_UPDATE = Update(player="generator", role="generator", shape=BatchShape(4, 1))
D_UPDATE = Update(player="discriminator", role="discriminator", shape=BatchShape(4, 1))


@pytest.fixture(autouse=True)
def _one_seed_and_one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def built(*overrides: str) -> Any:
    return build(compose(["model=dcgan", *TINY, *overrides]))


class Shows(nn.Module):
    """D(x) = the first number of x; its features are x times 1, then x times 2."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        x = images * self.weight
        return DiscriminatorOutput(x.flatten(1)[:, 0], (x, 2 * x))


class Scale(nn.Module):
    """G(z) = s z."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        return (self.scale * noise)[..., None, None]


def pair_of(loss: Loss | None = None, **tricks: Trick) -> Any:
    return Pair(generator=Scale(), discriminator=Shows(), loss=loss or NonSaturating(), tricks=tricks)


def images(*rows: Sequence[float]) -> Tensor:
    """An image of one pixel for each row, with its numbers as channels."""
    return torch.tensor(rows, dtype=torch.float32)[..., None, None]


def terms(pair: Pair, real: Tensor | None, fake: Tensor, noise: Tensor | None = None) -> dict[str, Any]:
    latent = None if noise is None else Latent(noise)
    return pair.generator_outcome(G_UPDATE, real, fake, latent=latent).terms


# Feature matching


REAL, FAKE = images([1, 0], [3, 4]), images([0, 0], [0, 2])  # means (2, 2) and (0, 1)


@pytest.mark.parametrize(
    ("layer", "distance", "expected"),
    [
        (0, "squared", 2**2 + 1**2),
        (-1, "squared", 4**2 + 2**2),
        (0, "absolute", (2 + 1) / 2),
        (1, "absolute", (4 + 2) / 2),
    ],
)
def test_feature_matching_is_of_the_means_of_a_batch(layer: int, distance: str, expected: float) -> None:
    """The distance of means by hand: (2, 1) at layer 0, twice that at layer 1."""
    pair = pair_of(match=FeatureMatching(weight=3.0, layer=layer, distance=distance, instead=False))
    assert terms(pair, REAL, FAKE)["match"].item() == pytest.approx(3 * expected)


def test_batches_of_equal_means_match_however_their_images_differ() -> None:
    """Not so where every image is compared with another (torchgan)."""
    pair = pair_of(match=FeatureMatching(weight=1.0, layer=-1, distance="squared", instead=False))
    assert terms(pair, images([0, 2], [4, 0]), images([2, 1], [2, 1]))["match"].item() == 0


def test_feature_matching_teaches_g_only() -> None:
    pair = pair_of(match=FeatureMatching(weight=1.0, layer=0, distance="squared", instead=True))
    real, fake = REAL.clone().requires_grad_(), FAKE.clone().requires_grad_()
    terms(pair, real, fake)["match"].backward()
    assert real.grad is None, "reals are what is matched"
    # d/dx |m_real - m_fake|^2 = -2 (m_real - m_fake) / B
    assert fake.grad is not None
    torch.testing.assert_close(fake.grad.flatten(1), torch.tensor([[-2.0, -1.0]] * 2))


@pytest.mark.parametrize("instead", [False, True])
def test_it_is_added_to_the_adversarial_term_or_replaces_it(instead: bool) -> None:
    trick = FeatureMatching(weight=1.0, layer=0, distance="squared", instead=instead)
    outcome = pair_of(match=trick).generator_outcome(G_UPDATE, REAL, FAKE)
    assert list(outcome.terms) == (["match"] if instead else ["adversarial", "match"])
    assert ("replaced/adversarial" in outcome.metrics) == instead
    assert bool(trick.traits.sets) == instead and trick.traits.needs == {Fact.FEATURES}


@pytest.mark.parametrize("setting", ["layer=2", "layer=-3", "distance=l2", "weight=0"])
def test_features_that_are_not_there_are_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"tricks\.feature_matching\.{setting.split('=')[0]}"):
        built("tricks=[feature_matching]", f"tricks.feature_matching.{setting}")


def test_looking_for_features_leaves_d_as_it_was() -> None:
    """The statistics of its batch norm, and the mode of every layer."""
    with_it, without = built("tricks=[feature_matching]"), built("tricks=[]")
    for (name, one), other in zip(with_it.game.state_dict().items(), without.game.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    assert all(module.training for module in with_it.game.pairs["main"].discriminator.modules())


# Mode seeking


def test_mode_seeking_is_the_inverse_of_the_ratio_of_distances() -> None:
    """Halves apart by |d_I| = (1 + 3 + 5 + 7) / 4 = 4 and |d_z| = (1 + 1 + 2 + 4) / 4 = 2: 1 / (2 + epsilon)."""
    fake = images([0, 0], [0, 0], [1, -3], [-5, 7])
    noise = torch.tensor([[0.0, 0], [0, 0], [1, 1], [-2, 4]])
    found = terms(pair_of(seek=ModeSeeking(weight=3.0, epsilon=0.5)), None, fake, noise)["seek"]
    assert found.item() == pytest.approx(3 / (2 + 0.5))


def test_mode_seeking_costs_most_where_all_images_are_alike() -> None:
    noise = torch.randn(5, 2)  # an odd batch: the last does not count
    found = terms(pair_of(seek=ModeSeeking(weight=1.0, epsilon=1e-5)), None, images(*[[1, 2]] * 5), noise)["seek"]
    assert found.item() == pytest.approx(1e5, rel=1e-3)
    scale = torch.ones((), requires_grad=True)
    terms(pair_of(seek=ModeSeeking(weight=1.0, epsilon=1e-5)), None, scale * noise[..., None, None], noise)[
        "seek"
    ].backward()
    assert scale.grad is not None and scale.grad.item() == pytest.approx(-1, rel=1e-3), "-1 / s^2: it spreads images"


# Pulling away


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1, 2], [2, 4], [0.5, 1]], 1.0),  # collapsed
        ([[1, 2], [-2, -4]], 1.0),  # opposite: the cosine is squared
        ([[1, 0, 0], [0, 5, 0], [0, 0, 0.1]], 0.0),  # orthogonal
        ([[1, 0], [1, 1]], 0.5),
        ([[1, 0], [1, 0], [0, 1]], 1 / 3),  # of six ordered pairs two are alike
    ],
)
def test_pulling_away_by_hand(rows: list[list[float]], expected: float) -> None:
    """Length does not count, the diagonal does not either. torchgan gives 4.57 where the truth is 1."""
    found = terms(pair_of(pull=PullingAway(weight=0.1)), None, images(*rows))["pull"]
    assert found.item() == pytest.approx(0.1 * expected, abs=1e-6)


def test_pulling_away_is_in_full_precision_under_bf16() -> None:
    fake = torch.randn(8, 5, 1, 1)
    pair = pair_of(pull=PullingAway(weight=1.0))
    expected = terms(pair, None, fake)["pull"].item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert terms(pair, None, fake)["pull"].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("trick", [ModeSeeking(weight=1.0, epsilon=1e-5), PullingAway(weight=0.1)])
def test_one_image_cannot_be_compared(trick: Trick) -> None:
    with pytest.raises(ConfigError, match="batch: 1 image"):
        pair_of(trick=trick).bind(REAL[:1], FAKE[:1])


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (ModeSeeking, {"weight": 0.0, "epsilon": 1e-5}),
        (ModeSeeking, {"weight": 1.0, "epsilon": 0.0}),
        (PullingAway, {"weight": -1.0}),
    ],
)
def test_a_term_that_pushes_the_other_way_is_refused(kind: type, settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="above 0"):
        kind(**settings)


# Top k


def chosen(pair: Pair, scores: list[float], step: int) -> list[float]:
    pair.tricks.each(Trick.begin, pair, step)
    return sorted(pair.tricks.fold(Trick.choose, torch.tensor(scores)).tolist())


def test_k_falls_with_the_step_to_its_floor() -> None:
    pair = pair_of(top=TopK(decay=0.8, floor=0.5, interval=10))
    scores = torch.randn(10).tolist()
    counts = [len(chosen(pair, scores, step)) for step in (0, 9, 10, 19, 20, 30, 40, 10_000)]
    assert counts == [10, 10, 8, 8, 6, 5, 5, 5]  # 10, 8, 6.4, 5.12, then the floor
    assert chosen(pair, scores, 20) == sorted(scores)[4:]
    assert chosen(pair, scores, 0) == sorted(scores), "the step alone says, not the past"
    usual = pair_of(top=TopK(decay=0.99, floor=0.5, interval=1))
    assert len(chosen(usual, torch.randn(64).tolist(), 7)) == 60  # 64 * 0.99^7 = 59.65, rounded once


def test_the_whole_batch_is_left_as_it_is() -> None:
    score = torch.randn(7)
    assert TopK(decay=0.99, floor=0.5, interval=5).choose(score) is score


def test_of_patches_the_best_fakes_are_chosen_at_each_place() -> None:
    """As of several discriminators, each of which chooses its own: [B, 1, h, w] -> [K, 1, h, w]."""
    trick = TopK(decay=0.5, floor=0.5, interval=1)
    trick.begin(None, 1)
    score = torch.randn(6, 1, 2, 3)
    assert torch.equal(trick.choose(score), score.sort(0, descending=True).values[:3])


def test_the_default_is_99_per_cent_an_epoch_down_to_half() -> None:
    trick = built("tricks=[top_k]").game.pairs["main"].tricks["top_k"]
    shares = []
    for epoch in (0, 1, 10, 68, 69, 500):
        trick.begin(None, epoch * 781)
        shares.append(trick.share)
    assert shares == [pytest.approx(x) for x in (1, 0.99, 0.99**10, 0.99**68, 0.5, 0.5)]


@pytest.mark.parametrize(("loss", "flip", "best"), [(NonSaturating, False, True), (NonSaturating, True, False),
                                                    (LeastSquares, True, False), (Hinge, False, True)])  # fmt: skip
def test_the_best_fake_is_the_one_that_looks_real(loss: type, flip: bool, best: bool) -> None:
    pair = pair_of(loss(), top=TopK(decay=0.5, floor=0.25, interval=1), **({"flip": Flip()} if flip else {}))
    pair.bind(REAL, FAKE)
    assert chosen(pair, [1.0, -2, 3, 0], 2) == ([3] if best else [-2])


def test_only_the_chosen_teach() -> None:
    pair = pair_of(top=TopK(decay=0.5, floor=0.5, interval=1))
    pair.bind(REAL, FAKE)
    pair.tricks.each(Trick.begin, pair, 1)
    fake = images([1.0], [-2], [3], [0]).requires_grad_()
    terms(pair, None, fake)["adversarial"].backward()
    assert fake.grad is not None and (fake.grad.flatten() != 0).tolist() == [True, False, True, False]
    expected = -torch.sigmoid(-torch.tensor([1.0, 3.0])) / 2
    torch.testing.assert_close(fake.grad.flatten()[::2], expected)


@pytest.mark.parametrize("setting", ["decay=0", "decay=1.5", "floor=0", "interval=0"])
def test_an_impossible_k_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"tricks\.top_k\.{setting.split('=')[0]}"):
        built("tricks=[top_k]", f"tricks.top_k.{setting}")


# Averages


def walk(pair: Any, values: Sequence[float]) -> None:
    """G's parameter takes these values, one an update."""
    for value in values:
        pair.generator.scale.data.fill_(value)
        pair.tricks.each(Trick.after, pair, "generator")


def pull(pair: Pair) -> float:
    return terms(pair, REAL, FAKE)["history"].item()


def test_the_uniform_mean_is_over_all_of_the_past() -> None:
    """theta = 1, 4, -2, 7: means 1, 2.5, 1, 2.5; the pull is the squared distance."""
    pair = pair_of(history=HistoricalAveraging(weight=0.5, decay=None))
    pair.bind(REAL, FAKE)
    assert pull(pair) == 0
    past = [1.0]
    for value in (4.0, -2.0, 7.0):
        walk(pair, [value])
        past.append(value)
        assert pull(pair) == pytest.approx(0.5 * (value - sum(past) / len(past)) ** 2)
    many = torch.randn(200).tolist()
    walk(pair, many)
    mean = pair.tricks["history"].averages["generator"].scale
    assert mean.item() == pytest.approx(sum(past + many) / 204, abs=1e-5)


def test_the_exponential_mean_by_hand() -> None:
    pair = pair_of(history=HistoricalAveraging(weight=1.0, decay=0.75))
    pair.bind(REAL, FAKE)
    walk(pair, [5.0, -3.0])  # 1 -> 2 -> 0.75
    assert pull(pair) == pytest.approx((-3 - 0.75) ** 2)


def test_each_player_has_the_term_of_its_own_weights() -> None:
    pair = pair_of(history=HistoricalAveraging(weight=1.0, decay=None))
    pair.bind(REAL, FAKE)
    discriminator, generator = pair.discriminator, pair.generator
    discriminator.weight.data.fill_(3.0)
    pair.tricks.each(Trick.after, pair, "discriminator")  # mean (1 + 3) / 2
    generator.scale.data.fill_(9.0)
    pair.tricks.each(Trick.after, pair, "generator")  # mean 5
    loss = pair.discriminator_outcome(D_UPDATE, REAL, FAKE).terms["history"]
    assert loss.item() == pytest.approx(1) and pull(pair) == pytest.approx(16)
    (gradient,) = torch.autograd.grad(loss, discriminator.weight)
    assert gradient.item() == pytest.approx(2), "the mean is a constant"
    assert not any(p.requires_grad for p in pair.tricks["history"].parameters())


def test_history_covers_every_parameter_of_a_real_network() -> None:
    run = built("tricks=[historical_averaging]", "model.generator.norm=layer")
    pair: Any = run.game.pairs["main"]
    with torch.no_grad():
        for p in pair.generator.parameters():
            p.add_(0.1)
    fake = torch.rand(4, 1, 16, 16)
    found = pair.generator_outcome(G_UPDATE, None, fake).terms["historical_averaging"].item()
    assert found == pytest.approx(0.01 * sum(p.numel() for p in pair.generator.parameters()), rel=1e-4)


@pytest.mark.parametrize("setting", ["weight=0", "decay=1.0", "decay=-0.5"])
def test_a_history_of_nothing_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"tricks\.historical_averaging\.{setting.split('=')[0]}"):
        built("tricks=[historical_averaging]", f"tricks.historical_averaging.{setting}")


def test_the_average_for_samples_follows_its_recursion_by_hand() -> None:
    """a += w (theta - a) with w = 1 - min(decay, (1 + t) / (warm_up + t)) at step t."""
    trick: Any = Ema(decay=0.5, warm_up=10.0)
    pair, expected = pair_of(ema=trick), 1.0
    pair.bind(REAL, FAKE)
    for step, value in enumerate(torch.randn(20).tolist()):
        trick.weight.turn(step)
        walk(pair, [value])
        expected += (1 - min(0.5, (1 + step) / (10 + step))) * (value - expected)
        assert trick.average.scale.item() == pytest.approx(expected, abs=1e-6)
    with pair.sampler() as net:
        assert net is trick.average


@pytest.mark.parametrize("setting", ["decay=1.0", "decay=-0.1", "warm_up=0", "warm_up=0.5"])
def test_an_average_of_nothing_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"tricks\.ema\.{setting.split('=')[0]}"):
        built("tricks=[ema]", f"tricks.ema.{setting}")


def test_without_a_warm_up_the_decay_holds_at_once() -> None:
    assert Ema(decay=0.9, warm_up=1.0).weight.schedule(0) == pytest.approx(0.1)
    assert math.isclose(Ema(decay=0.999, warm_up=10.0).weight.schedule(0), 0.9)
