"""DigGAN and logit centring by hand: gaps between slopes at reals and fakes, and sums of their scores."""

from __future__ import annotations

import pytest
import torch
from support import Bowl, LinearDiscriminator, built, pair_of
from torch import Tensor, nn

from ganrun.core.context import BatchShape, Update
from ganrun.core.errors import ConfigError
from ganrun.core.pair import Pair
from ganrun.losses.relativistic import Relativistic
from ganrun.tricks.penalties import DigGan, LogitCentering


def norms(*values: float) -> Tensor:
    """Images of 2x2 pixels, all alike within, of these norms."""
    return (torch.tensor(values) / 2).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone()


def terms(pair: Pair, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    update = Update(player="discriminator", role="discriminator", shape=BatchShape(len(real), 2))
    return pair.discriminator_outcome(update, real, fake).terms


def by_weight(pair: Pair, term: Tensor) -> Tensor:
    weight = pair.discriminator.weight
    assert isinstance(weight, nn.Parameter)
    return torch.autograd.grad(term, weight)[0]


def test_the_gap_of_slopes_is_taken_by_pairs() -> None:
    """The slope of a bowl w |x|^2 / 2 is w |x|: gaps 1 - 3 and 2 - 1, so 10 (4 + 1) / 2, and twice that by w."""
    pair = pair_of(Bowl(), mine=DigGan(weight=10.0, every=1))
    found = terms(pair, norms(1, 2), norms(3, 1))["mine"]
    assert found.item() == pytest.approx(25)
    assert by_weight(pair, found).item() == pytest.approx(50)
    assert pair.metrics()["tricks/mine/gap"].item() == pytest.approx(-0.5), "1.5 at reals, 2 at fakes"


def test_a_linear_discriminator_has_no_gap_however_steep() -> None:
    pair = pair_of(LinearDiscriminator([300.0, 0.0, 400.0, 0.0]), mine=DigGan(weight=1000.0, every=1))
    assert terms(pair, torch.randn(4, 1, 2, 2), torch.randn(4, 1, 2, 2))["mine"].item() == 0


def test_the_gap_costs_no_other_look_at_the_images() -> None:
    critic = Bowl()
    terms(pair_of(critic, mine=DigGan(weight=1.0, every=1)), norms(1, 2), norms(3, 1))
    assert len(critic.seen) == 2


def test_the_sum_of_scores_is_taken_by_pairs() -> None:
    """D(x) = 3 x_0 + 4 x_2: scores 3.5 times the norm. Sums 14 and 10.5 of norms 1 + 3 and 2 + 1."""
    pair = pair_of(mine=LogitCentering(weight=0.01, every=1))
    found = terms(pair, norms(1, 2), norms(3, 1))["mine"]
    assert found.item() == pytest.approx(0.01 * (14**2 + 10.5**2) / 2)


def test_centring_moves_the_level_of_scores_and_not_their_differences() -> None:
    """By a level c that is added to all scores the relativistic loss has no slope, and centring 4 weight E sum / 2."""

    class Level(LinearDiscriminator):
        def __init__(self) -> None:
            super().__init__([3.0, 0.0, 4.0, 0.0])
            self.level = nn.Parameter(torch.tensor(5.0))

        def forward(self, images: Tensor, labels: Tensor | None = None):  # type: ignore[no-untyped-def]
            made = super().forward(images, labels)
            return made._replace(score=made.score + self.level)

    critic = Level()
    found = terms(pair_of(critic, Relativistic(), mine=LogitCentering(weight=0.5, every=1)), norms(0, 0), norms(0, 0))
    assert torch.autograd.grad(found["adversarial"], critic.level, retain_graph=True)[0].item() == pytest.approx(0)
    assert torch.autograd.grad(found["mine"], critic.level)[0].item() == pytest.approx(0.5 * 2 * 10 * 2)


@pytest.mark.parametrize("kind", [DigGan, LogitCentering])
@pytest.mark.parametrize(("settings", "where"), [({"weight": -1.0}, ".weight"), ({"every": 0}, ".every")])
def test_numbers_out_of_range_are_refused(kind: type, settings: dict[str, float], where: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        kind(**({"weight": 1.0, "every": 1} | settings))
    assert refusal.value.where == where


def test_slopes_of_images_that_batch_norm_couples_are_refused() -> None:
    with pytest.raises(ConfigError, match="scores each image on its own"):
        built("model.discriminator.norm=batch", tricks=["diggan"])


def test_it_bounds_no_slope_for_a_loss_that_needs_a_bound() -> None:
    with pytest.raises(ConfigError, match="C2"):
        built("loss=wasserstein", "model.discriminator.norm=none", tricks=["diggan"])
