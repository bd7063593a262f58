"""The sweep over random architectures: what it draws, what it runs, how it counts."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from support import composed
from torch import Tensor, nn

from ganrun.config.build import build
from ganrun.metrics.classifier import score

SCRIPT = Path(__file__).parents[1] / "scripts" / "robustness.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("robustness", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class FirstPixel(nn.Module):
    """A classifier that reads the class from the first pixel of an image; uniform where that is no class."""

    def forward(self, images: Tensor) -> Tensor:
        classes = images[:, 0, 0, 0]
        return 50.0 * (torch.arange(10.0) == classes[:, None])


def images_of(*classes: float) -> Tensor:
    return torch.tensor(classes)[:, None, None, None].expand(-1, 1, 2, 2)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [(range(10), 10.0), ([3] * 7, 1.0), ([-1] * 5, 1.0), ([2, 2, 5, 5], 2.0), ([float("nan"), 1], 1.0)],
)
def test_the_score_is_the_number_of_classes_that_are_certain(classes: list[float], expected: float) -> None:
    """exp(KL): 10 for ten classes alike, 1 for one class, for none, and for what is no image."""
    assert score(FirstPixel(), images_of(*classes)) == pytest.approx(expected, rel=1e-6)


def test_an_uncertain_prediction_counts_for_less() -> None:
    """Three quarters sure of one of two classes, by hand: exp KL of (3/4, 1/4) to (1/2, 1/2)."""
    net = nn.Flatten()
    logits = torch.log(torch.tensor([[0.75, 0.25], [0.25, 0.75]]))[:, :, None, None]
    assert score(net, logits) == pytest.approx(1.5**0.75 * 0.5**0.25, rel=1e-6)


def test_architectures_follow_from_the_seed_alone(script: ModuleType) -> None:
    drawn = [script.architecture(0, number) for number in range(200)]
    assert drawn[:5] == [script.architecture(0, number) for number in range(5)]
    assert drawn != [script.architecture(1, number) for number in range(200)]
    assert len({json.dumps(one) for one in drawn}) > 150
    assert {one["model"]["base"] for one in drawn} == {"mlp", "dcgan", "deep_conv"}
    for player in ("generator", "discriminator"):
        assert {one[player]["normed"] for one in drawn} == {True, False}
        assert len({one[player]["activation"] for one in drawn}) == 4


@pytest.mark.parametrize("base", ["mlp", "dcgan", "deep_conv"])
@pytest.mark.parametrize("recipe", ["gan", "wgan_gp"])
def test_the_drawn_architecture_is_built(script: ModuleType, base: str, recipe: str) -> None:
    drawn = next(one for n in range(200) if (one := script.architecture(0, n))["model"]["base"] == base
                 and one["discriminator"]["normed"] and one["generator"]["normed"])  # fmt: skip
    run = build(composed(*script.overrides(drawn, recipe, 3, 0), "engine.device=cpu", "engine.workers=0"))
    pair = run.game.pairs["main"]
    in_critic = [m for m in pair.discriminator.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]  # type: ignore[union-attr]
    assert bool(in_critic) == (recipe == "gan")
    assert list(pair.tricks) == (["gp", "n_critic"] if recipe == "wgan_gp" else [])  # type: ignore[arg-type, union-attr]
    assert run.updates.counts == {"discriminator": 5 if recipe == "wgan_gp" else 1, "generator": 1}
    assert not run.diagnostics and run.dataset.resolution == 16


def test_the_table_counts_by_score(script: ModuleType) -> None:
    scores = {0: {"gan": 9.5, "wgan_gp": 9.2}, 1: {"gan": 1.0, "wgan_gp": 6.0}, 2: {"gan": 4.0, "wgan_gp": 2.0}}
    rows = {row["score"]: list(row.values())[1:] for row in script.table(scores)}
    assert rows[3.0] == [1, 1, 1, 0] and rows[5.0] == [0, 1, 1, 1] and rows[9.0] == [0, 0, 1, 2]


def test_a_run_that_did_not_end_scores_nothing(script: ModuleType, tmp_path: Path) -> None:
    assert script.evaluate(tmp_path, FirstPixel(), 0) == 1.0
