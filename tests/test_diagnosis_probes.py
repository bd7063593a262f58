"""Exact probes, on networks whose answer is known by hand, both ways; and what a pair is found to be."""

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from support import ScaleGenerator, pair_of
from torch import Tensor, nn

from ganrun.core.context import BatchShape, Condition, DiscriminatorOutput, Latent, Update
from ganrun.core.facts import Fact
from ganrun.core.traits import Traits, facts
from ganrun.core.trick import Trick
from ganrun.diagnosis import networks, rates
from ganrun.diagnosis.probes import batch_leak, coupling, difference, label_effect, mates, out_of_reach, stirred

COLUMN = torch.tensor([[1.0], [2.0], [3.0], [4.0]])


def alone(x: Tensor) -> Tensor:
    return 3 * x.flatten(1).sum(1)


def centred(x: Tensor) -> Tensor:
    """The distance of each image from the mean of its batch."""
    return x.flatten(1).sum(1) - x.flatten(1).sum(1).mean()


def test_coupling_is_0_for_images_alone_and_known_for_a_mean_over_the_batch() -> None:
    """D(x_0) = x_0 - mean(x): its slope is 1 - 1/B at x_0 and -1/B at all others."""
    assert coupling(alone, COLUMN) == 0
    assert coupling(centred, COLUMN) == pytest.approx((1 / 4) / (3 / 4))


@pytest.mark.parametrize(
    ("layer", "coupled"),
    [
        (nn.BatchNorm2d(3), True),
        (nn.BatchNorm2d(3).eval(), False),
        (nn.LayerNorm([3, 2, 2]), False),
        (nn.GroupNorm(1, 3), False),
        (nn.InstanceNorm2d(3), False),
        (nn.Dropout(0.5), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_norms_couple_as_they_are_known_to(layer: nn.Module, coupled: bool) -> None:
    drawn = torch.Generator().manual_seed(0)
    images, weight = torch.randn(2, 6, 3, 2, 2, generator=drawn)
    found = coupling(lambda x: (layer(x) * weight).sum((1, 2, 3)), images)
    assert (found > 0) is coupled


def test_mates_compares_the_first_half_beside_two_second_halves() -> None:
    """G(z) = z - mean: means 2.5 and 4.75, so the first half moves by 2.25, of which the largest value was 1.5."""
    others = torch.tensor([[0.0], [0.0], [7.0], [9.0]])
    assert mates(lambda z: z - z.mean(), COLUMN, others) == pytest.approx(2.25 / 1.5)
    assert mates(lambda z: 2 * z, COLUMN, others) == 0


def test_layers_that_draw_are_no_mates() -> None:
    noisy = nn.Sequential(nn.Linear(1, 5), nn.Dropout(0.5))
    assert mates(noisy, COLUMN, COLUMN.flip(0)) == 0
    assert not torch.equal(noisy(COLUMN), noisy(COLUMN))  # they do draw


def test_a_leak_is_in_deviations_of_the_scores_of_reals() -> None:
    fakes = torch.zeros(4, 1)
    pure = COLUMN.flatten() - 2.5
    assert batch_leak(centred, COLUMN, fakes) == pytest.approx(1.75 / float(pure.std()))
    assert batch_leak(alone, COLUMN, fakes) == 0


def test_labels_that_are_read_and_labels_that_are_not() -> None:
    labels = torch.tensor([0, 1, 2])
    assert label_effect(lambda y: y.float(), labels, 3) == 1  # [0, 1, 2] and [1, 2, 0] differ by 2, of 2
    assert label_effect(lambda y: torch.ones(3) + 0 * y, labels, 3) == 0


def test_values_out_of_reach_are_counted_beyond_half_a_grey_level() -> None:
    images = torch.tensor([-2.0, 0.5, 1.0, 1 + 1 / 256]).view(4, 1, 1, 1)
    assert out_of_reach(images, -1, 1) == 0.25
    assert out_of_reach(images, -math.inf, math.inf) == 0


def test_rounding_is_no_difference_and_nan_is_one() -> None:
    one = torch.tensor([1.0, 100.0])
    assert difference(one, one + 1e-5) == 0
    assert difference(one, one + 1) == pytest.approx(0.01)
    assert difference(one, one * math.nan) == math.inf


def test_stirring_opens_what_begins_at_0_and_leaves_the_network_and_the_generators_alone() -> None:
    gate = nn.Linear(1, 1)
    nn.init.zeros_(gate.weight)
    state, kept = torch.get_rng_state(), deepcopy(gate.state_dict())
    copy = stirred(gate)
    assert copy.weight.item() != 0 and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(kept[name], value) for name, value in gate.state_dict().items())
    assert torch.equal(copy.weight, stirred(gate).weight)  # the same each time
    label_effect(lambda y: torch.rand(3) + y, torch.arange(3), 3)
    mates(lambda z: z + torch.rand_like(z), COLUMN, COLUMN)
    coupling(lambda x: x.flatten(1).sum(1) + torch.rand(len(x)), COLUMN)
    assert torch.equal(torch.get_rng_state(), state)


# Pairs


class Mean(nn.Module):
    """D(x) = w (sum x - the batch's mean of it) where it is coupled, else w sum x."""

    channels, resolution = 1, 2

    def __init__(self, *, coupled: bool, honest: bool = True):
        super().__init__()
        self.weight, self.coupled = nn.Parameter(torch.tensor(2.0)), coupled
        lost = facts(Fact.PER_SAMPLE) if coupled and honest else facts()
        self.traits = Traits(provides=facts(Fact.SCORE, Fact.PER_SAMPLE), invalidates=lost)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        total = images.flatten(1).sum(1)
        return DiscriminatorOutput(self.weight * (total - total.mean() if self.coupled else total))


class NeedsOwnSlope(Trick):
    """A trick that reads the slope at each image."""

    traits = Traits(needs=facts(Fact.PER_SAMPLE))


class Reading(nn.Module):
    """D(x, y) = w sum x + v y where it reads labels."""

    channels, resolution, classes = 1, 2, 3
    traits = Traits(provides=facts(Fact.SCORE, Fact.PER_SAMPLE))

    def __init__(self, reads: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 0.0]))  # the label's weight begins at 0
        self.reads = reads

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        score = self.weight[0] * images.flatten(1).sum(1)
        return DiscriminatorOutput(score + self.weight[1] * labels if self.reads and labels is not None else score)


class Painting(ScaleGenerator):
    """G(z, y) = s z + v y where it reads labels, less the mean of the batch where it is coupled."""

    classes = 3

    def __init__(self, reads: bool, coupled: bool = False):
        super().__init__(0.5)
        self.shift, self.reads, self.coupled = nn.Parameter(torch.zeros(())), reads, coupled

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        image = super().forward(noise)
        image = image + self.shift * labels[:, None, None, None] if self.reads and labels is not None else image
        return image - image.mean(0) if self.coupled else image


def given() -> networks.Given:
    torch.manual_seed(0)
    labels = torch.tensor([0, 1, 2, 0])
    noise, others = torch.randn(4, 4), torch.randn(4, 4)
    update = Update(player="discriminator", role="discriminator", shape=BatchShape(4, 2))
    return networks.Given(update=update, real=torch.rand(4, 1, 2, 2) * 2 - 1, condition=Condition(labels=labels),
                          source=noise, others=others, latent=Latent(noise, Condition(labels=labels)))  # fmt: skip


def names(pair, how: networks.Given | None = None) -> list[str]:
    facts_of = networks.probe(pair, how or given())
    return [finding.name for finding in networks.findings(pair, facts_of)]


def test_a_coupled_discriminator_is_wrong_under_a_penalty_of_its_own_slope_only() -> None:
    assert names(pair_of(Mean(coupled=True), penalty=NeedsOwnSlope())) == ["batch_coupling"]
    assert names(pair_of(Mean(coupled=False), penalty=NeedsOwnSlope())) == []
    assert names(pair_of(Mean(coupled=True))) == []


def test_a_dependence_that_a_discriminator_denies_is_a_leak() -> None:
    assert names(pair_of(Mean(coupled=True, honest=False))) == ["batch_leak"]
    assert names(pair_of(Mean(coupled=True, honest=False), penalty=NeedsOwnSlope())) == ["batch_coupling"]


def test_a_comparison_of_images_on_purpose_is_left_to_the_checker() -> None:
    """Such as the standard deviation of a minibatch, with which StyleGAN2 has R1."""
    critic = Mean(coupled=True, honest=False)
    critic.traits = replace(critic.traits, invalidates=facts(Fact.ALONE))
    assert names(pair_of(critic, penalty=NeedsOwnSlope())) == []


def test_labels_must_reach_both_networks() -> None:
    assert names(pair_of(Reading(True), generator=Painting(True))) == []  # though both weights of labels are 0
    pair = pair_of(Reading(False), generator=Painting(True))
    (finding,) = networks.findings(pair, networks.probe(pair, given()))
    assert finding.name == "labels_unread" and "effect_on_discriminator" in finding.evidence
    pair = pair_of(Reading(True), generator=Painting(False))
    (finding,) = networks.findings(pair, networks.probe(pair, given()))
    assert finding.name == "labels_unread" and "effect_on_generator" in finding.evidence


def test_samples_that_share_a_batch() -> None:
    assert names(pair_of(Reading(True), generator=Painting(True, coupled=True))) == ["samples_share_batch"]


def test_reals_that_the_generator_cannot_make() -> None:
    assert names(pair_of(), replace(given(), real=torch.full((4, 1, 2, 2), 1.5))) == ["data_out_of_reach"]


# Rates


def test_the_ratio_of_an_update_is_that_of_norms() -> None:
    before = {"w": torch.tensor([[3.0, 4.0]]), "b": torch.tensor([1.0]), "zero": torch.zeros(1, 2)}
    after = {"w": torch.tensor([[3.0, 4.5]]), "b": torch.tensor([9.0]), "zero": torch.ones(1, 2)}
    assert rates.update_ratios(before, after, before) == {"w": pytest.approx(0.1)}
    first = {"w": torch.tensor([[0.0, 0.5]]), "b": torch.tensor([1.0]), "zero": torch.zeros(1, 2)}
    assert rates.update_ratios(before, after, first) == {"w": pytest.approx(1.0)}
    assert rates.medians([{"w": 0.1}, {"w": 0.3}, {"w": 9.0, "v": 1.0}]) == {"w": 0.3, "v": 1.0}


def test_rates_are_wrong_beyond_two_thresholds() -> None:
    ratios = {"discriminator": {"a": 0.6, "b": 0.01}, "generator": {"a": 0.4}}
    (finding,) = rates.findings(ratios, {"discriminator": 0.1, "generator": 0.1})
    assert finding.name == "rate_too_high" and finding.remedies == ("optim.discriminator.lr=0.002",)
    (finding,) = rates.findings({"generator": {"a": 1e-9, "b": 0.0}}, {"generator": 1e-12})
    assert finding.name == "rate_too_low" and finding.remedies == ("optim.generator.lr=1e-05",)
    assert rates.findings({"generator": {"a": 1e-7}}, {}) == [] and rates.findings({"generator": {}}, {}) == []
