"""D's generalisation gap, on networks whose scores are known, and that measuring it changes nothing."""

from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from support import composed, tiny
from torch import Tensor, nn

from ganrun.config.build import build
from ganrun.core.context import Batch, Condition, DiscriminatorOutput
from ganrun.core.trick import Trick, Tricks
from ganrun.metrics.comparison import falls_as_samples_get_better, tag
from ganrun.metrics.generalisation import generalisation_gap
from ganrun.run.measuring import Measuring, measured_tags, scores

torch.set_num_threads(1)


class Mean(nn.Module):
    """D that scores the mean of an image, times its label where it is given one; of patches, half and one and a half of
    it. In training mode it fails."""

    def __init__(self, patches: bool = False):
        super().__init__()
        self.patches = patches

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        assert not self.training
        score = images.mean((1, 2, 3)) * (1 if labels is None else labels)
        return DiscriminatorOutput(score[:, None, None, None] * torch.tensor([0.5, 1.5]) if self.patches else score)


class Shifted(Trick):
    """Adds one to reals alone."""

    def reals(self, images: Tensor) -> Tensor:
        return images + 1

    def view(self, images: Tensor) -> Tensor:
        raise AssertionError("an augmentation")


def batch(value: float, labels: Tensor | None = None) -> Batch:
    return Batch(torch.full((150, 1, 2, 2), value), Condition(labels=labels))


def gap(discriminator: nn.Module, *batches: Batch, **tricks: Trick) -> float | None:
    pair = SimpleNamespace(discriminator=discriminator, tricks=Tricks(tricks))
    return generalisation_gap(pair, *batches)


def test_the_gap_by_hand() -> None:
    """Scores of 0.8, 0.5 and -0.4: 0.3 of 1.2. By patches the same; with the other sign, and ten times, the same."""
    sets = (batch(0.8), batch(0.5), batch(-0.4))
    assert gap(Mean(), *sets) == pytest.approx(0.25) == gap(Mean(patches=True), *sets)
    other = [Batch(-10 * one.images, one.condition) for one in sets]
    assert gap(Mean(), *other) == pytest.approx(0.25)
    assert gap(Mean(), sets[0], sets[0], sets[2]) == 0 and gap(Mean(), sets[0], sets[2], sets[2]) == 1
    assert gap(Mean(), sets[0], sets[1], sets[0]) is None
    assert falls_as_samples_get_better(tag("generalisation_gap", 500))


def test_labels_and_what_tricks_do_to_reals_count_and_views_do_not() -> None:
    """Twice the score for label 2; reals 1 brighter: (3.6 - 3) / (3.6 + 0.8), then without labels 0.3 / 2.2."""
    net, labels = Mean(), torch.full((150,), 2)
    net.train()
    sets = [batch(value, labels) for value in (0.8, 0.5, -0.4)]
    assert gap(net, *sets, shifted=Shifted()) == pytest.approx(0.6 / 4.4) and net.training
    assert gap(net, batch(0.8), batch(0.5), batch(-0.4), shifted=Shifted()) == pytest.approx(0.3 / 2.2)


@pytest.mark.parametrize(
    ("model", "tricks"),
    [
        ("dcgan", "spectral_norm,minibatch_discrimination,dropout"),
        ("dcgan", "virtual_batch_norm,dequantize,diffaugment"),
        ("dcgan", "ada,flip"),
        ("projection", "instance_noise"),
        ("resnet", "weight_norm"),
    ],
)
def test_measuring_it_changes_no_state(model: str, tricks: str) -> None:
    run = build(
        composed(
            *tiny(f"tricks=[{tricks}]", "metrics.every=1", "metrics.samples=50", "dataset.held_out=60", model=model)
        )
    )
    before = deepcopy(run.game.state_dict())
    modes = [module.training for module in run.game.modules()]
    measuring = Measuring(run, None)
    found = measuring.measure(3)["metrics/generalisation_gap_50"]
    assert found == measuring.measure(3)["metrics/generalisation_gap_50"] != 0
    after = run.game.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items() if isinstance(value, Tensor))
    assert [module.training for module in run.game.modules()] == modes
    assert "metrics/generalisation_gap_50" in measured_tags(run)


@pytest.mark.parametrize("overrides", [{"model": "ebgan"}, {"output": "sigmoid"}])
def test_energies_and_probabilities_are_no_such_scores(overrides: dict[str, str]) -> None:
    bounded = ["model.discriminator.output=sigmoid", "force=[C5]"] if "output" in overrides else []
    model = overrides.get("model", "dcgan")
    run = build(composed(*tiny(*bounded, "metrics.every=1", "dataset.held_out=60", model=model)))
    assert not scores(run.game) and "metrics/generalisation_gap_500" not in measured_tags(run)
