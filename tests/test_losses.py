"""Losses: closed forms on scores computed by hand, extremes included, and what flipped labels mean."""

import math

import pytest
import torch
from support import pair_of
from torch import Tensor

from ganrun.core.context import BatchShape, Targets, Update
from ganrun.core.loss import Loss
from ganrun.losses.margins import Hinge, Wasserstein
from ganrun.losses.targets import LeastSquares, Minimax, NonSaturating
from ganrun.tricks.labels import Flip, SoftLabels

REAL, FAKE = torch.tensor([2.0, -1.0]), torch.tensor([0.5, -3.0])
D_UPDATE = Update(player="discriminator", role="discriminator", shape=BatchShape(2, 2))
G_UPDATE = Update(player="generator", role="generator", shape=BatchShape(2, 2))


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def hard(real: Tensor = REAL, fake: Tensor = FAKE) -> Targets:
    return Targets.clean(real, fake)


def slope(loss: Loss, score: float) -> float:
    """The derivative of the generator's loss by the score of its one fake."""
    fake = torch.tensor([score], requires_grad=True)
    loss.generator(fake, None, Targets.clean(fake.detach(), fake.detach())).backward()
    assert fake.grad is not None
    return fake.grad.item()


CROSS_ENTROPY = (softplus(-2) + softplus(1)) / 2 + (softplus(0.5) + softplus(-3)) / 2  # -log s(x), -log(1 - s(x))
DISCRIMINATOR = [
    (Minimax(), CROSS_ENTROPY),
    (NonSaturating(), CROSS_ENTROPY),
    (LeastSquares(), ((2 - 1) ** 2 + (-1 - 1) ** 2) / 4 + (0.5**2 + 3**2) / 4),
    (Wasserstein(), (0.5 - 3) / 2 - (2 - 1) / 2),
    (Hinge(), (0 + 2) / 2 + (1.5 + 0) / 2),
]
GENERATOR = [
    (Minimax(), -(softplus(0.5) + softplus(-3)) / 2),
    (NonSaturating(), (softplus(-0.5) + softplus(3)) / 2),
    (LeastSquares(), (0.5**2 + 4**2) / 4),
    (Wasserstein(), 1.25),
    (Hinge(), 1.25),
]


@pytest.mark.parametrize(("loss", "expected"), DISCRIMINATOR, ids=lambda value: type(value).__name__)
def test_the_discriminators_side_on_scores_computed_by_hand(loss: Loss, expected: float) -> None:
    assert loss.discriminator(REAL, FAKE, hard()).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("loss", "expected"), GENERATOR, ids=lambda value: type(value).__name__)
def test_the_generators_side_on_scores_computed_by_hand(loss: Loss, expected: float) -> None:
    assert loss.generator(FAKE, None, hard(FAKE, FAKE)).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("loss", "score", "expected"),
    [
        (Minimax(), 0.0, math.log(4)),
        (NonSaturating(), 0.0, math.log(4)),
        (LeastSquares(), 0.5, 0.25),
        (Wasserstein(), 0.7, 0.0),
        (Hinge(), 0.0, 2.0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_chance_level(loss: Loss, score: float, expected: float) -> None:
    """What a discriminator that cannot tell pays: ln 4, a quarter, 2."""
    scores = torch.full((8,), score)
    assert loss.discriminator(scores, scores, hard(scores, scores)).item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("score", [-40.0, -200.0, -1e4])
def test_the_non_saturating_gradient_survives_any_confidence(score: float) -> None:
    """log(sigmoid + 1e-8), which others write, has none below -18."""
    assert slope(NonSaturating(), score) == -1.0


@pytest.mark.parametrize("score", [-8.0, -20.0, -40.0])
def test_the_saturating_gradient_dies_with_the_discriminators_confidence(score: float) -> None:
    """d/ds log(1 - sigmoid(s)) = -sigmoid(s), against sigmoid(s) - 1."""
    assert slope(Minimax(), score) == pytest.approx(-1 / (1 + math.exp(-score)), rel=1e-5)
    assert abs(slope(Minimax(), score)) < 1e-3 * abs(slope(NonSaturating(), score))


def test_both_forms_pull_alike_at_chance() -> None:
    assert slope(Minimax(), 0.0) == slope(NonSaturating(), 0.0) == -0.5


@pytest.mark.parametrize("loss", [Minimax(), NonSaturating()], ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("sign", [1, -1])
def test_extreme_scores_stay_finite(loss: Loss, sign: int) -> None:
    """A confident discriminator pays its score when wrong and nothing when right; never inf, never nan."""
    real = torch.tensor([1e4 * sign], requires_grad=True)
    fake = torch.tensor([-1e4 * sign], requires_grad=True)
    value = loss.discriminator(real, fake, hard(real, fake))
    assert value.item() == (0.0 if sign > 0 else 2e4)
    value.backward()
    assert real.grad is not None and real.grad.item() == (0.0 if sign > 0 else -1.0)


def test_a_discriminators_gradients_by_hand() -> None:
    """Cross-entropy: (sigmoid(s) - target) / B. Least squares: (s - target) / B. Hinge: -1/B within the margin."""
    real = torch.tensor([2.0, -1.0], requires_grad=True)
    for loss, expected in (
        (NonSaturating(), [(1 / (1 + math.exp(-2)) - 1) / 2, (1 / (1 + math.exp(1)) - 1) / 2]),
        (LeastSquares(), [0.5, -1.0]),
        (Hinge(), [0.0, -0.5]),
        (Wasserstein(), [-0.5, -0.5]),
    ):
        (gradient,) = torch.autograd.grad(loss.discriminator(real, FAKE, hard()), real)
        torch.testing.assert_close(gradient, torch.tensor(expected))


def test_the_losses_that_ask_for_labels_read_the_targets() -> None:
    targets = Targets(torch.tensor([0.9, 0.8]), torch.tensor([0.1, 0.3]))
    expected = sum(softplus(s) - s * t for s, t in zip(REAL.tolist(), targets.real.tolist(), strict=True)) / 2
    expected += sum(softplus(s) - s * t for s, t in zip(FAKE.tolist(), targets.fake.tolist(), strict=True)) / 2
    assert NonSaturating().discriminator(REAL, FAKE, targets).item() == pytest.approx(expected, rel=1e-6)
    squares = [(2 - 0.9) ** 2, (-1 - 0.8) ** 2, (0.5 - 0.1) ** 2, (-3 - 0.3) ** 2]
    assert LeastSquares().discriminator(REAL, FAKE, targets).item() == pytest.approx(sum(squares) / 4, rel=1e-6)


# Flipped labels: generated is 1, real is 0


def sides(loss: Loss, real: Tensor, fake: Tensor, code: Flip | None) -> list[Tensor]:
    """Both players' losses, and the gradients by the scores."""
    real, fake = real.clone().requires_grad_(), fake.clone().requires_grad_()
    encode = code.encode if code else lambda targets: targets
    one = loss.discriminator(real, fake, encode(Targets.clean(real.detach(), fake.detach())))
    two = loss.generator(fake, None, encode(Targets.clean(fake.detach(), fake.detach())))
    gradients = [*torch.autograd.grad(one, (real, fake)), *torch.autograd.grad(two, fake)]
    return [one.detach(), two.detach(), *gradients]


@pytest.mark.parametrize("loss", [Minimax(), NonSaturating()], ids=lambda loss: type(loss).__name__)
def test_flipping_is_negating_the_logit(loss: Loss) -> None:
    """Same losses, opposite gradients, to the last digits: a relabelling and nothing else."""
    for scale in (1.0, 30.0):
        plain = sides(loss, REAL * scale, FAKE * scale, None)
        flipped = sides(loss, -REAL * scale, -FAKE * scale, Flip())
        torch.testing.assert_close(flipped, plain[:2] + [-gradient for gradient in plain[2:]], rtol=1e-6, atol=1e-7)


def test_flipping_is_reflecting_the_value_of_least_squares() -> None:
    plain = sides(LeastSquares(), REAL, FAKE, None)
    flipped = sides(LeastSquares(), 1 - REAL, 1 - FAKE, Flip())
    torch.testing.assert_close(flipped, plain[:2] + [-gradient for gradient in plain[2:]])


def metrics(loss: Loss, real: float, fake: float, **tricks: object) -> dict[str, float]:
    """What a pair would log for these scores, from a discriminator that answers 10 times the first pixel."""
    pair = pair_of(loss=loss, **tricks)  # type: ignore[arg-type]
    pair.discriminator.weight.data = torch.tensor([10.0, 0.0, 0.0, 0.0])  # type: ignore[union-attr]
    images = [torch.zeros(2, 1, 2, 2).index_fill_(2, torch.tensor([0]), score / 10) for score in (real, fake)]
    found = pair.discriminator_outcome(D_UPDATE, *images).metrics
    return {name: value.item() for name, value in found.items()}


@pytest.mark.parametrize("loss", [Minimax(), NonSaturating()], ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("soft", [False, True])
def test_scores_and_probabilities_rise_with_being_real(loss: Loss, soft: bool) -> None:
    """Whatever number stands for real, and however soft the targets are."""
    tricks = {"soft_labels": SoftLabels(real=[0.7, 1.2], fake=[0.0, 0.3])} if soft else {}
    plain, flipped = metrics(loss, 2.0, -3.0, **tricks), metrics(loss, -2.0, 3.0, flip=Flip(), **tricks)
    for found in (plain, flipped):
        assert found["probability/real"] == pytest.approx(1 / (1 + math.exp(-2)), rel=1e-5)
        assert found["probability/fake"] == pytest.approx(1 / (1 + math.exp(3)), rel=1e-5)
    assert plain["score/real"] == pytest.approx(2.0) and flipped["score/real"] == pytest.approx(2.0)


def test_the_probability_of_least_squares_is_the_value_itself_within_0_and_1() -> None:
    for found in (metrics(LeastSquares(), 0.8, 0.3), metrics(LeastSquares(), 0.2, 0.7, flip=Flip())):
        assert found["probability/real"] == pytest.approx(0.8) and found["probability/fake"] == pytest.approx(0.3)
    beyond = metrics(LeastSquares(), 3.0, -2.0)
    assert (beyond["probability/real"], beyond["probability/fake"]) == (1.0, 0.0)


@pytest.mark.parametrize("loss", [Wasserstein(), Hinge()], ids=lambda loss: type(loss).__name__)
def test_losses_without_labels_claim_no_probability(loss: Loss) -> None:
    assert set(metrics(loss, 1.0, -1.0)) == {"score/real", "score/fake"}


@pytest.mark.parametrize("loss", [Minimax(), NonSaturating()], ids=lambda loss: type(loss).__name__)
def test_a_pair_flips_for_both_players(loss: Loss) -> None:
    """A discriminator with negated weights under flip is the plain game, term by term."""
    plain, flipped = pair_of(loss=loss), pair_of(loss=loss, flip=Flip())
    flipped.discriminator.weight.data.neg_()  # type: ignore[union-attr, operator]
    real, fake = torch.rand(4, 1, 2, 2), torch.rand(4, 1, 2, 2)
    for outcomes in (
        [pair.discriminator_outcome(D_UPDATE, real, fake) for pair in (plain, flipped)],
        [pair.generator_outcome(G_UPDATE, None, fake) for pair in (plain, flipped)],
    ):
        one, other = (outcome.terms["adversarial"] for outcome in outcomes)
        torch.testing.assert_close(one, other)


def test_the_generators_targets_stay_hard_under_soft_labels() -> None:
    fake = torch.rand(4, 1, 2, 2)
    soft = pair_of(soft=SoftLabels(real=[0.7, 0.8], fake=[0.1, 0.2])).generator_outcome(G_UPDATE, None, fake)
    plain = pair_of().generator_outcome(G_UPDATE, None, fake)
    assert soft.terms["adversarial"].item() == plain.terms["adversarial"].item()
