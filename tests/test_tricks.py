"""Tricks: closed forms against the papers, on networks whose every number is known."""

import math
from itertools import permutations

import pytest
import torch
from support import Bowl, LinearDiscriminator, ScaleGenerator, built, composed, pair_in, pair_of, play, tiny, trick_of
from torch import Tensor

from ganrun.config.build import build
from ganrun.core.context import BatchShape, Progress, Targets, Update
from ganrun.core.errors import ConfigError, ConfigErrors
from ganrun.core.game import Game
from ganrun.core.pair import Pair
from ganrun.core.schedule import Linear
from ganrun.core.traits import Level
from ganrun.core.trick import Trick
from ganrun.games.latent import LatentGame
from ganrun.losses.targets import NonSaturating
from ganrun.tricks.averaging import Ema
from ganrun.tricks.clipping import WeightClipping
from ganrun.tricks.labels import Flip, NoisyLabels, OneSidedSmoothing, SoftLabels
from ganrun.tricks.noise import InstanceNoise
from ganrun.tricks.penalties import GradientPenalty

D_UPDATE = Update(player="discriminator", role="discriminator", shape=BatchShape(4, 2))
G_UPDATE = Update(player="generator", role="generator", shape=BatchShape(4, 2))
MANY = 100_000


def game_of(pair: Pair) -> LatentGame:
    return LatentGame(pairs={"main": pair}, shape=BatchShape(4, 2), prior="normal", grid=4)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


# Targets of the discriminator


def targets_of(*tricks: Trick, count: int = MANY) -> Targets:
    """The targets of a batch, as a pair folds them: every `targets`, then every `encode`."""
    found = Targets(torch.ones(count), torch.zeros(count))
    for trick in tricks:
        found = trick.targets(found)
    for trick in tricks:
        found = trick.encode(found)
    return found


def same_distribution(one: Tensor, other: Tensor) -> bool:
    """Kolmogorov and Smirnov's distance below the 0.1 % point of two equal distributions."""
    points = torch.cat([one, other]).sort().values
    levels = [torch.searchsorted(x.sort().values, points, right=True).double() / len(x) for x in (one, other)]
    return (levels[0] - levels[1]).abs().max().item() < 1.95 * math.sqrt(1 / len(one) + 1 / len(other))


@pytest.mark.parametrize(("real", "fake"), [([0.9, 1.0], [0.0, 0.1]), ([0.7, 1.2], [0.0, 0.3])])
def test_soft_labels_fill_their_ranges(real: list[float], fake: list[float]) -> None:
    """Uniform: the ends are reached, the mean is the middle, the variance (b - a)^2 / 12."""
    for found, (low, high) in zip(targets_of(SoftLabels(real=real, fake=fake)), (real, fake), strict=True):
        assert low <= found.min() < low + 1e-3 and high - 1e-3 < found.max() <= high + 1e-6
        assert found.mean().item() == pytest.approx((low + high) / 2, abs=2e-3)
        assert found.var().item() == pytest.approx((high - low) ** 2 / 12, rel=0.02)


def test_soft_labels_differ_from_image_to_image_and_between_the_kinds() -> None:
    real, fake = targets_of(SoftLabels(real=[0.0, 1.0], fake=[0.0, 1.0]), count=64)
    assert len(set(real.tolist())) > 60 and not torch.equal(real, fake)


@pytest.mark.parametrize("order", [0, 1])
def test_soft_labels_under_flip_are_the_articles(order: int) -> None:
    """Real U(0, 0.1) and fake U(0.9, 1) where generated is 1; methods.md T8. In either order."""
    tricks = [SoftLabels(real=[0.9, 1.0], fake=[0.0, 0.1]), Flip()]
    real, fake = targets_of(*(tricks if order else reversed(tricks)))
    assert real.min() >= 0 and real.max() <= 0.1 + 1e-6 and real.mean().item() == pytest.approx(0.05, abs=1e-3)
    assert fake.min() >= 0.9 - 1e-6 and fake.max() <= 1 and fake.mean().item() == pytest.approx(0.95, abs=1e-3)


def test_one_sided_smoothing_leaves_fakes_at_0() -> None:
    real, fake = targets_of(OneSidedSmoothing(real=0.9))
    assert torch.equal(real, torch.full((MANY,), 0.9)) and torch.equal(fake, torch.zeros(MANY))


def test_one_sided_smoothing_moves_the_optimum_as_salimans_says() -> None:
    """Where real and fake are equally likely, the optimal output is alpha / 2: p_g is not in the numerator."""
    optimum = torch.tensor([math.log(0.45 / 0.55)], requires_grad=True)
    loss = NonSaturating().discriminator(optimum, optimum, targets_of(OneSidedSmoothing(real=0.9), count=1))
    (gradient,) = torch.autograd.grad(loss, optimum)
    assert gradient.item() == pytest.approx(0, abs=1e-6)


def test_noisy_labels_swap_at_their_rate_and_count_what_they_swap() -> None:
    trick = NoisyLabels(p=0.05)
    real, fake = targets_of(trick)
    swapped = (real == 0).sum() + (fake == 1).sum()
    assert trick.metrics()["swapped"].item() == swapped.item()
    deviation = math.sqrt(2 * MANY * 0.05 * 0.95)
    assert abs(swapped.item() - 2 * MANY * 0.05) < 4 * deviation
    assert (real == 0).sum().item() == pytest.approx(MANY * 0.05, rel=0.1), "both kinds are swapped"


def test_noisy_labels_swap_in_small_batches_too() -> None:
    """int(0.05 * 4) is no swap at all, ever: the rate is kept by drawing for each image."""
    trick = NoisyLabels(p=0.05)
    counts = []
    for _ in range(4000):
        real, fake = targets_of(trick, count=4)
        counts.append(int((real == 0).sum() + (fake == 1).sum()))
        assert trick.metrics()["swapped"].item() == counts[-1]
    assert sum(counts) == pytest.approx(4000 * 8 * 0.05, rel=0.1)


def test_noisy_labels_draw_again_in_every_update() -> None:
    trick = NoisyLabels(p=0.4)
    assert not torch.equal(targets_of(trick, count=64).real, targets_of(trick, count=64).real)


@pytest.mark.parametrize(
    "tricks",
    [
        [NoisyLabels(p=0.3), SoftLabels(real=[0.7, 1.2], fake=[0.0, 0.3]), Flip()],
        [NoisyLabels(p=0.3), OneSidedSmoothing(real=0.8), Flip()],
    ],
    ids=["soft", "one_sided"],
)
def test_the_order_of_label_tricks_does_not_matter(tricks: list[Trick]) -> None:
    """Image by image the targets have one distribution, even where the ranges are not mirror images."""
    first, *others = [targets_of(*order) for order in permutations(tricks)]
    for other in others:
        assert same_distribution(first.real, other.real) and same_distribution(first.fake, other.fake)


def test_a_swapped_image_has_a_target_of_the_other_kind() -> None:
    real, fake = targets_of(NoisyLabels(p=0.4), SoftLabels(real=[0.7, 1.2], fake=[0.0, 0.3]))
    assert ((real >= 0.7 - 1e-6) | (real <= 0.3 + 1e-6)).all() and (real <= 0.3 + 1e-6).float().mean() > 0.3
    assert ((fake >= 0.7 - 1e-6) | (fake <= 0.3 + 1e-6)).all() and (fake >= 0.7 - 1e-6).float().mean() > 0.3


def test_flip_is_its_own_inverse() -> None:
    hard = targets_of()
    assert torch.equal(targets_of(Flip(), Flip()).real, hard.real) and torch.equal(targets_of(Flip()).real, hard.fake)


@pytest.mark.parametrize("p", [1.01, -0.1])
def test_what_is_no_probability_is_refused(p: float) -> None:
    with pytest.raises(ConfigError, match=r"^\.p: "):
        NoisyLabels(p=p)


@pytest.mark.parametrize("p", [0.5, 1.0])
def test_noise_that_teaches_the_inverse_is_refused_unless_forced(p: float) -> None:
    with pytest.raises(ConfigErrors, match=r"tricks\.noisy_labels: .*rule C10"):
        built(f"tricks.noisy_labels.p={p}", tricks=["noisy_labels"])
    run = built(f"tricks.noisy_labels.p={p}", "force=[C10]", tricks=["noisy_labels"])
    assert [f.level for f in run.diagnostics if f.id == "C10"] == [Level.ERROR]
    run = built("tricks.noisy_labels.p=0.49", tricks=["noisy_labels"])
    assert [f.level for f in run.diagnostics if f.id == "C10"] == [Level.WARNING]


@pytest.mark.parametrize("bounds", [[1.0, 0.9], [0.9], [0.1, 0.2, 0.3]])
def test_soft_labels_refuse_what_is_no_range(bounds: list[float]) -> None:
    with pytest.raises(ConfigError, match=r"^\.real: "):
        SoftLabels(real=bounds, fake=[0.0, 0.1])


# What the discriminator sees


def test_instance_noise_has_the_standard_deviation_it_was_given() -> None:
    images = torch.zeros(100, 1, 16, 16)
    noise = InstanceNoise(sigma=0.3).view(images)
    assert noise.std().item() == pytest.approx(0.3, rel=0.02) and abs(noise.mean().item()) < 0.01


def test_instance_noise_fades_to_nothing() -> None:
    """At 0 the discriminator judges the finest details too."""
    trick = InstanceNoise(sigma=Linear(start=0.4, end=0.0, steps=10))
    images = torch.zeros(100, 1, 16, 16)
    game = game_of(pair_of(instance_noise=trick))
    for step, sigma in ((0, 0.4), (5, 0.2), (10, 0.0), (1000, 0.0)):
        game.begin(Progress(step))
        assert trick.view(images).std().item() == pytest.approx(sigma, rel=0.05, abs=1e-9)


def test_the_default_instance_noise_reaches_nothing() -> None:
    run = built(tricks=["instance_noise"])
    run.game.begin(Progress(10**9))
    assert trick_of(run, "instance_noise").sigma().item() == 0


def test_instance_noise_is_seen_in_both_players_updates_by_reals_and_fakes() -> None:
    """A linear discriminator scores black images 0, so every score is noise: N(0, sigma |w|)."""
    pair = pair_of(noise=InstanceNoise(sigma=0.2))
    black = torch.zeros(20_000, 1, 2, 2)
    shape = BatchShape(20_000, 2)
    outcome = pair.discriminator_outcome(
        Update(player="discriminator", role="discriminator", shape=shape), black, black
    )
    spread = [pair.judge(black).score.std().item() for _ in range(2)]
    assert spread == [pytest.approx(0.2 * 5, rel=0.03)] * 2
    noisy = outcome.terms["adversarial"].item() - math.log(4)  # E softplus(N(0, 1)) lies above softplus(0)
    assert noisy == pytest.approx(2 * (0.80606 - math.log(2)), rel=0.05)
    generators = pair.generator_outcome(Update(player="generator", role="generator", shape=shape), None, black).terms[
        "adversarial"
    ]
    assert generators.item() == pytest.approx(0.80606, rel=0.02)


def test_the_gradient_passes_instance_noise_unchanged() -> None:
    images = torch.zeros(4, 1, 2, 2, requires_grad=True)
    InstanceNoise(sigma=0.5).view(images).sum().backward()
    assert images.grad is not None and torch.equal(images.grad, torch.ones_like(images))


# What bounds the discriminator's slope


def penalty(pair: Pair, real: Tensor, fake: Tensor) -> Tensor:
    return pair.discriminator_outcome(D_UPDATE, real, fake).terms["gp"]


@pytest.mark.parametrize(("weight", "target"), [(10.0, 1.0), (0.1, 1.0), (10.0, 0.0)])
def test_the_penalty_of_a_linear_discriminator(weight: float, target: float) -> None:
    """|grad (w . x)| = |w| = 5 everywhere: weight (5 - target)^2, and 2 weight (5 - target) w / 5 by w."""
    pair = pair_of(gp=GradientPenalty(weight=weight, target=target, one_sided=False, every=1))
    found = penalty(pair, torch.rand(4, 1, 2, 2), torch.rand(4, 1, 2, 2))
    assert found.item() == pytest.approx(weight * (5 - target) ** 2, rel=1e-6)
    assert trick_gauge(pair, "tricks/gp/slope") == pytest.approx(5)
    w = pair.discriminator.weight
    (gradient,) = torch.autograd.grad(found, w)  # type: ignore[arg-type]
    torch.testing.assert_close(gradient, 2 * weight * (5 - target) * w.detach() / 5)  # type: ignore[union-attr, operator]


def trick_gauge(pair: Pair, name: str) -> float:
    return pair.metrics()[name].item()


def test_the_norm_is_taken_image_by_image() -> None:
    """For D(x) = |x|^2 / 2 the slope at x is |x|: images of four sizes pay each for itself (not so in torchgan)."""
    images = torch.ones(4, 1, 2, 2) * torch.tensor([0.0, 0.5, 1.0, 2.0]).view(4, 1, 1, 1) / 2  # norms 0, .5, 1, 2
    found = penalty(
        pair_of(Bowl(), gp=GradientPenalty(weight=10.0, target=1.0, one_sided=False, every=1)), images, images
    )
    assert found.item() == pytest.approx(10 * (1 + 0.25 + 0 + 1) / 4, rel=1e-5)


def test_the_penalty_looks_between_a_real_and_its_fake_at_a_point_for_each_image() -> None:
    bowl = Bowl()
    real, fake = torch.ones(2000, 1, 2, 2), torch.zeros(2000, 1, 2, 2)
    penalty(pair_of(bowl, gp=GradientPenalty(weight=10.0, target=1.0, one_sided=False, every=1)), real, fake)
    shares = bowl.seen[-1].flatten(1)
    torch.testing.assert_close(shares.amin(1), shares.amax(1), msg="one share for all pixels of an image")
    assert len(set(shares[:, 0].tolist())) > 1900, "another share for every image"
    assert shares.min() >= 0 and shares.max() <= 1
    assert shares.mean().item() == pytest.approx(0.5, abs=0.03)
    assert shares[:, 0].var().item() == pytest.approx(1 / 12, rel=0.1)


def test_the_penalty_moves_nothing_but_the_discriminator() -> None:
    pair = pair_of(gp=GradientPenalty(weight=10.0, target=1.0, one_sided=False, every=1))
    fake = pair.generator(torch.randn(4, 4))
    penalty(pair, torch.rand(4, 1, 2, 2), fake).backward()
    assert pair.generator.scale.grad is None and pair.discriminator.weight.grad is not None  # type: ignore[union-attr]


def test_the_penalty_refuses_a_discriminator_that_mixes_images() -> None:
    with pytest.raises(ConfigError, match=r"tricks\.gp: needs a discriminator that scores each image on its own"):
        built("model.discriminator.norm=batch", tricks=["gp"])


def test_clipping_holds_before_the_first_update_and_after_each() -> None:
    run = built("model.discriminator.norm=layer", "tricks.clip.bound=0.005", tricks=["clip"])
    largest = [bound_of(run.game)]
    for step in range(3):
        play(run, step, step + 1)
        largest.append(bound_of(run.game))
    assert all(value == pytest.approx(0.005) for value in largest), largest
    generator = pair_in(run).generator.parameters()
    assert max(p.abs().max().item() for p in generator) > 0.005, "only D is clipped"


def bound_of(game: Game) -> float:
    return max(p.abs().max().item() for p in game.pair.discriminator.parameters())


def test_clipping_clamps_and_does_not_scale() -> None:
    pair = pair_of(LinearDiscriminator([0.5, -0.5, 0.004, -0.004]), clip=WeightClipping(bound=0.01))
    pair.tricks.each(Trick.after, pair, "generator")
    assert pair.discriminator.weight.tolist()[0] == 0.5, "the generator's updates leave it alone"  # type: ignore[union-attr, operator]
    pair.tricks.each(Trick.after, pair, "discriminator")
    torch.testing.assert_close(pair.discriminator.weight.detach(), torch.tensor([0.01, -0.01, 0.004, -0.004]))  # type: ignore[union-attr, operator]


@pytest.mark.parametrize("bound", [0.0, -0.01])
def test_clipping_to_nothing_is_refused(bound: float) -> None:
    with pytest.raises(ConfigError, match=r"^\.bound: "):
        WeightClipping(bound=bound)


# Which weights are kept


def test_the_average_follows_its_recursion_by_hand() -> None:
    """a_t = d_t a_{t-1} + (1 - d_t) w_t with d_t = min(decay, (1 + t) / (warm_up + t)), from the first weights on."""
    run = built("tricks.ema.decay=0.5", "tricks.ema.warm_up=10", tricks=["ema"])
    generator, trick = pair_in(run).generator, trick_of(run, "ema")
    expected = [p.detach().double().clone() for p in generator.parameters()]
    for step in range(20):
        play(run, step, step + 1)
        decay = min(0.5, (1 + step) / (10 + step))
        for kept, now in zip(expected, generator.parameters(), strict=True):
            kept.mul_(decay).add_(now.detach().double(), alpha=1 - decay)
    for kept, found in zip(expected, trick.average.parameters(), strict=True):
        torch.testing.assert_close(found.double(), kept, rtol=1e-5, atol=1e-7)
    assert decay == 0.5 and (1 + 5) / (10 + 5) < 0.5, "the warm-up began below the decay and ended at it"


def test_the_average_copies_buffers() -> None:
    """The statistics of batch norm, and its count of batches, are those of now: not averaged, not forgotten."""
    run = built(tricks=["ema"])
    play(run, 0, 3)
    generator, average = pair_in(run).generator, trick_of(run, "ema").average
    buffers = list(zip(generator.named_buffers(), average.buffers(), strict=True))
    assert buffers and all(torch.equal(now, kept) for (_, now), kept in buffers)


def test_samples_are_drawn_from_the_average_in_evaluation_mode() -> None:
    run = built(tricks=["ema"])
    play(run, 0, 3)
    average, grid = trick_of(run, "ema").average, run.game.grid
    assert not average.training and not any(p.requires_grad for p in average.parameters())
    torch.testing.assert_close(run.game.sample(), average(grid))
    assert not torch.allclose(run.game.sample(), pair_in(run).generator.eval()(grid))


def test_only_the_generators_updates_move_the_average() -> None:
    pair = pair_of(ema=Ema(decay=0.9, warm_up=10.0))
    pair.bind(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
    pair.generator.scale.data.fill_(2.0)  # type: ignore[union-attr]
    average = pair.tricks["ema"].average
    pair.tricks.each(Trick.after, pair, "discriminator")
    assert average.scale.item() == 0.5  # type: ignore[union-attr, operator]
    pair.tricks.each(Trick.after, pair, "generator")
    assert average.scale.item() == pytest.approx(0.1 * 0.5 + 0.9 * 2.0)  # type: ignore[union-attr, operator]


@pytest.mark.parametrize("setting", ["decay=1.0", "decay=-0.1", "decay=2", "warm_up=0", "warm_up=-3"])
def test_an_average_of_nothing_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"tricks\.ema\.{setting.split('=')[0]}"):
        build(composed(*tiny(f"tricks.ema.{setting}", tricks=["ema"])))


@pytest.mark.parametrize("setting", ["weight=-1", "target=-1"])
def test_a_penalty_that_steepens_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=r"tricks\.gp"):
        built("model.discriminator.norm=layer", f"tricks.gp.{setting}", tricks=["gp"])


@pytest.mark.parametrize("tricks", [[], ["ema"]])
def test_sampling_leaves_every_module_in_the_mode_it_was_in(tricks: list[str]) -> None:
    run = built(tricks=tricks)
    modes = {name: module.training for name, module in run.game.named_modules()}
    run.game.sample()
    assert modes == {name: module.training for name, module in run.game.named_modules()}


def test_a_generators_samples_do_not_depend_on_their_batch() -> None:
    """Drawn with the statistics it has learnt, an image is the same whatever the rest of its batch is."""
    run = built()
    play(run, 0, 2)
    grid = run.game.grid
    assert isinstance(grid, Tensor)
    whole = run.game.sample()
    run.game.grid = grid[:2].clone()
    torch.testing.assert_close(run.game.sample(), whole[:2])


def test_a_scale_generator_is_what_the_tests_above_take_it_for() -> None:
    noise = torch.randn(3, 4)
    torch.testing.assert_close(ScaleGenerator(0.5)(noise).flatten(1), 0.5 * noise)
