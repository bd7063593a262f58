"""Modes and good samples of 2-D mixtures, on samples whose coverage is known."""

import json
import math
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from support import CONF

from ganrun.cli.main import main
from ganrun.config.instantiate import Maker
from ganrun.core.errors import ConfigError
from ganrun.data.datasets.toys import Gaussians, Points
from ganrun.metrics.modes import SAMPLES, Modes, measure_modes, nearest_of_each, reverse_kl
from ganrun.metrics.stacked import StackedModes, channels_of, digits_of, numbers_of

JUDGE = Path(__file__).parents[1] / "scripts" / "judge_toys.py"


def toy(name: str, **settings: object) -> Points:
    node = OmegaConf.to_container(OmegaConf.load(CONF / "dataset" / f"{name}.yaml"))
    assert isinstance(node, dict)
    return Maker()(node | settings, "dataset")


def modes_of(dataset: Points) -> torch.Tensor:
    assert isinstance(dataset, Gaussians) and dataset.modes is not None
    return dataset.modes


@pytest.mark.parametrize(("name", "total"), [("ring", 8), ("grid", 25)])
def test_the_data_themselves_have_every_mode_and_98_9_percent_good(name: str, total: int) -> None:
    """P(|x| <= 3 sigma) = 1 - exp(-9 / 2) for a round Gaussian of the plane."""
    dataset = toy(name)
    modes = measure_modes(dataset.images, dataset)
    assert (modes.covered, modes.total) == (total, total)
    assert modes.good == pytest.approx(1 - math.exp(-4.5), abs=2e-3)
    assert modes.least == pytest.approx(1 - math.exp(-4.5), abs=1e-2)


@pytest.mark.parametrize("name", ["ring", "grid"])
def test_three_sigma_is_where_a_sample_stops_being_good(name: str) -> None:
    dataset = toy(name, size=100)
    centres = modes_of(dataset)
    for far, good in ((2.99, 1.0), (3.01, 0.0)):
        modes = measure_modes(centres + far * dataset.sigma * torch.tensor([0.6, 0.8]), dataset)
        assert modes.good == good and modes.covered == good * len(centres)


def test_counts_by_hand() -> None:
    """Ten samples on a ring of eight: six on mode 0, one on mode 3, one far away, one lost, one infinite."""
    dataset = toy("ring", size=100)
    centres = modes_of(dataset)
    odd = torch.tensor([[0.0, 0.0], [math.nan, 0.0], [math.inf, 0.0]])
    modes = measure_modes(torch.cat([centres[0].repeat(6, 1), centres[3:4], odd]), dataset)
    assert (modes.covered, modes.total, modes.good, modes.least) == (2, 8, 0.7, 0.0)


def test_least_is_the_share_of_the_rarest_mode() -> None:
    dataset = toy("ring", size=100)
    counts = torch.tensor([2, 8, 8, 8, 8, 8, 8, 14])
    modes = measure_modes(modes_of(dataset).repeat_interleave(counts, 0), dataset)
    assert modes.covered == 8 and modes.good == 1.0 and modes.least == 2 / 8


def test_only_the_classes_that_were_chosen_count() -> None:
    assert measure_modes(toy("grid").images, toy("grid", classes=[0, 24])).total == 2


def test_a_curve_has_no_modes() -> None:
    dataset = toy("swiss_roll", size=100)
    with pytest.raises(ConfigError, match=r"no modes to count.*dataset=ring"):
        measure_modes(dataset.images, dataset)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two runs too short to be good."""
    folder = tmp_path_factory.mktemp("toys")
    tiny = ["steps=1", "batch=4", "game.grid=4", "engine.device=cpu", "dataset.size=100"]
    small = ["model.generator.hidden=[8]", "model.discriminator.hidden=[8]"]
    for name in ("ring", "grid"):
        run = [f"dataset={name}", f"hydra.run.dir={folder / name}"]
        assert main(["experiment=wgan_gp_toy", *run, *tiny, *small]) == 0
    return [str(folder / "ring"), str(folder / "grid")]


def script(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The script as the command line runs it, in this process; its exit code."""
    monkeypatch.setattr("sys.argv", [str(JUDGE), *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(JUDGE), run_name="__main__")
    return int(ended.value.code or 0)


def test_the_script_evaluates_runs(runs: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """A line each, exit code 1 because they are not good; the same seed gives the same output."""
    assert script(monkeypatch, *runs, "--json") == 1
    printed = capsys.readouterr().out
    rows = [json.loads(line) for line in printed.splitlines()]
    assert [(row["total"], row["step"], row["samples"]) for row in rows] == [(8, 1, SAMPLES), (25, 1, SAMPLES)]
    assert all(row["covered"] < row["total"] and 0 <= row["good"] < 0.9 for row in rows)
    script(monkeypatch, *runs, "--json")
    assert capsys.readouterr().out == printed
    script(monkeypatch, *runs)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["run", *runs]


def test_the_script_refuses_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert script(monkeypatch, str(tmp_path)) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_runs_that_differ_in_the_seed_only_share_a_row(tmp_path: Path) -> None:
    script = runpy.run_path(str(JUDGE))
    for number, seed in enumerate((0, 1)):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "overrides.yaml").write_text(f'- "loss=hinge"\n- "seed={seed}"\n')
    assert script["settings"](tmp_path / "0") == script["settings"](tmp_path / "1") == ("loss=hinge",)
    runs = [Modes(covered=4, total=8, good=0.25, least=0.0), Modes(covered=7, total=8, good=0.75, least=0.1)]
    last = script["table"]({("loss=hinge",): runs}).splitlines()[-1]
    assert last == "| `loss=hinge` | 2 | 5.5 of 8 (4 to 7) | 50.0 % (25.0 to 75.0) |"


def test_reverse_kl_by_hand() -> None:
    """log K for one of K equal modes; of two from three quarters and a quarter, sum q log (q / p)."""
    assert reverse_kl(torch.tensor([0, 9, 0, 0]), torch.ones(4)) == pytest.approx(math.log(4))
    assert reverse_kl(torch.tensor([5, 5]), torch.tensor([2, 2])) == 0
    by_hand = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert reverse_kl(torch.tensor([7, 7]), torch.tensor([0.75, 0.25])) == pytest.approx(by_hand)
    assert reverse_kl(torch.tensor([1, 1]), torch.tensor([4, 0])) == math.inf
    assert math.isnan(reverse_kl(torch.tensor([0, 0]), torch.ones(2)))
    points = torch.tensor([[0.1, 0.0], [5.0, 0.0], [math.nan, 0.0], [1.0, math.inf]])
    assert nearest_of_each(points, torch.tensor([[0.0, 0.0], [1.0, 0.0]])).tolist() == [1, 1]


class OneHot(torch.nn.Module):
    """Says which row of a channel is bright: [N, 1, 32, 32] -> [N, 10]"""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, 0, :10, 0]


def written(numbers: list[int]) -> torch.Tensor:
    """Images whose channels show digits as a bright row each. [N, 3, 32, 32]"""
    images = torch.full((len(numbers), 3, 32, 32), -1.0)
    for image, number in zip(images, numbers, strict=True):
        for channel, digit in enumerate(f"{number:03d}"):
            image[channel, int(digit)] = 1.0
    return images


def test_the_modes_of_stacked_images_are_what_their_channels_write() -> None:
    """By a classifier that is never wrong; one sample lies in a mode that the data do not have."""
    numbers = torch.tensor([0, 7, 42, 999])
    assert digits_of(numbers, 3, 10).tolist() == [[0, 0, 0], [0, 0, 7], [0, 4, 2], [9, 9, 9]]
    assert torch.equal(numbers_of(digits_of(numbers, 3, 10), 10), numbers)
    assert torch.equal(channels_of(written([12]))[1], written([12])[:, 1])
    net = torch.nn.Sequential(torch.nn.Identity(), OneHot())
    modes = StackedModes(net, torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2]), ("7", "42", "999"), 10)
    found = modes.measure(written([42, 42, 999, 123]))
    by_hand = 2 / 3 * math.log(2) + 1 / 3 * math.log(1)
    assert found == {"modes": 2.0, "reverse_kl": pytest.approx(by_hand)}
    assert modes.measure(written([7, 42, 999]))["reverse_kl"] == pytest.approx(0, abs=1e-12)
