"""Relativistic losses: closed forms on scores computed by hand, and that only differences of scores count."""

import math

import pytest
import torch
from support import built, pair_of, play
from torch import Tensor

from ganrun.core.context import BatchShape, Targets, Update
from ganrun.core.errors import ConfigErrors
from ganrun.core.loss import Loss
from ganrun.losses.relativistic import Relativistic, RelativisticAverage, RelativisticAverageHinge

REAL, FAKE = torch.tensor([2.0, -1.0]), torch.tensor([0.5, -3.0])  # means 0.5 and -1.25
BOTH = pytest.mark.parametrize(
    "loss", [Relativistic(), RelativisticAverage(), RelativisticAverageHinge()], ids=lambda value: type(value).__name__
)


def minus_log_sigmoid(x: float) -> float:
    return math.log1p(math.exp(-x))


def discriminator(loss: Loss, real: Tensor, fake: Tensor) -> Tensor:
    return loss.discriminator(real, fake, Targets.clean(real, fake))


def generator(loss: Loss, real: Tensor, fake: Tensor) -> Tensor:
    return loss.generator(fake, real, Targets.clean(fake, fake))


def test_each_real_against_its_own_fake() -> None:
    """-E log s(D(x) - D(G(z))): differences 1.5 and 2; G has them the other way round."""
    s = minus_log_sigmoid
    assert discriminator(Relativistic(), REAL, FAKE).item() == pytest.approx((s(1.5) + s(2)) / 2)
    assert generator(Relativistic(), REAL, FAKE).item() == pytest.approx((s(-1.5) + s(-2)) / 2)


def test_pairs_are_pairs_and_not_means() -> None:
    """Other partners, another loss: what tells RpGAN from RaGAN."""
    swapped = FAKE.flip(0)
    assert discriminator(Relativistic(), REAL, swapped).item() != pytest.approx(
        discriminator(Relativistic(), REAL, FAKE).item()
    )
    average = RelativisticAverage()
    assert torch.equal(discriminator(average, REAL, swapped), discriminator(average, REAL, FAKE))


def test_each_image_against_the_mean_of_the_others() -> None:
    """-E log s(D(x) - E D(G(z))) - E log(1 - s(D(G(z)) - E D(x))), and log(1 - s(t)) = log s(-t)."""
    s = minus_log_sigmoid
    expected = (s(2 + 1.25) + s(-1 + 1.25)) / 2 + (s(-(0.5 - 0.5)) + s(-(-3 - 0.5))) / 2
    assert discriminator(RelativisticAverage(), REAL, FAKE).item() == pytest.approx(expected)
    expected = (s(0.5 - 0.5) + s(-3 - 0.5)) / 2 + (s(-(2 + 1.25)) + s(-(-1 + 1.25))) / 2
    assert generator(RelativisticAverage(), REAL, FAKE).item() == pytest.approx(expected)


def test_a_hinge_of_each_image_against_the_mean_of_the_others() -> None:
    """E max(0, 1 - a) + E max(0, 1 + b), as in BMSG-GAN's Losses.py, with the differences of the test above."""
    a, b = (2 + 1.25, -1 + 1.25), (0.5 - 0.5, -3 - 0.5)
    expected = sum(max(0, 1 - t) for t in a) / 2 + sum(max(0, 1 + t) for t in b) / 2
    assert discriminator(RelativisticAverageHinge(), REAL, FAKE).item() == pytest.approx(expected) == 0.875
    expected = sum(max(0, 1 + t) for t in a) / 2 + sum(max(0, 1 - t) for t in b) / 2
    assert generator(RelativisticAverageHinge(), REAL, FAKE).item() == pytest.approx(expected)


@BOTH
def test_a_common_shift_of_all_scores_changes_nothing(loss: Loss) -> None:
    for side in (discriminator, generator):
        assert side(loss, REAL + 7, FAKE + 7).item() == pytest.approx(side(loss, REAL, FAKE).item(), rel=1e-5)


@BOTH
def test_the_players_exchange_roles(loss: Loss) -> None:
    assert torch.equal(generator(loss, REAL, FAKE), discriminator(loss, FAKE, REAL))


@BOTH
@pytest.mark.parametrize("far", [1e2, 1e4, 1e6])
def test_large_differences_keep_their_value_and_slope(loss: Loss, far: float) -> None:
    """G is hopeless: its loss is about the distance and its slope -1 or more. log(sigmoid + 1e-8) would be flat."""
    real, fake = torch.tensor([far, far]), torch.tensor([-far, -far], requires_grad=True)
    value = generator(loss, real, fake)
    value.backward()
    assert fake.grad is not None
    terms = 1 if isinstance(loss, Relativistic) else 2
    margin = 1 if isinstance(loss, RelativisticAverageHinge) else 0
    assert value.item() == pytest.approx(terms * (2 * far + margin))
    assert fake.grad.sum().item() == pytest.approx(-terms)
    assert discriminator(loss, real, fake.detach()).item() == pytest.approx(0, abs=1e-6)


@BOTH
def test_reals_teach_the_generators_side_but_are_not_moved_by_it(loss: Loss) -> None:
    """G's gradient depends on the reals it is compared with; a pair judges them although G made none of them."""
    assert loss.paired
    gradients = []
    for shift in (0.0, 1.0):
        pair = pair_of(loss=loss)
        noise, real = torch.ones(2, 4), torch.full((2, 1, 2, 2), shift)
        update = Update(player="generator", role="generator", shape=BatchShape(2, 2))
        pair.generator_outcome(update, real, pair.generator(noise)).terms["adversarial"].backward()
        gradients.append(pair.generator.scale.grad.item())  # type: ignore[union-attr]
    assert gradients[0] != gradients[1] and gradients[1]
    assert gradients[0] or isinstance(loss, RelativisticAverageHinge), "beyond its margin a hinge asks for nothing"


@pytest.mark.parametrize("loss", ["relativistic", "relativistic_average", "relativistic_average_hinge"])
@pytest.mark.parametrize("trick", ["soft_labels", "one_sided_smoothing", "noisy_labels", "flip"])
def test_there_are_no_labels_to_soften(loss: str, trick: str) -> None:
    with pytest.raises(ConfigErrors, match=rf"tricks\.{trick}: needs a loss with target labels .*rule C6"):
        built(f"loss={loss}", "model.discriminator.norm=none", tricks=[trick])


@pytest.mark.parametrize(("trick", "rule"), [("ada", "C44"), ("top_k", "C46")])
def test_what_needs_a_score_of_one_image_is_refused(trick: str, rule: str) -> None:
    with pytest.raises(ConfigErrors, match=rf"tricks\.{trick}: needs .*rule {rule}"):
        built("loss=relativistic", "model.discriminator.norm=none", tricks=[trick])


def test_both_players_may_see_reals_and_noise_of_their_own() -> None:
    """R3GAN: each update draws; a step then reads twice as many reals."""
    seen = {}
    for reuse in ("true", "false"):
        run = built("loss=relativistic", f"updates.share_fakes={reuse}")
        play(run, 0, 2)
        seen[reuse] = run.source.seen
    assert seen["true"] == seen["false"] == 2 * 2 * 4  # two updates a step, four reals each
