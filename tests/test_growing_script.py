"""scripts/growing.py: both sides train by turns in every phase, and what was found is not done again."""

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import growing

torch.set_num_threads(1)
SMALL = [
    "experiment=progan",
    "dataset=digits",
    "dataset.resolution=8",
    "batch=8",
    "engine.device=cpu",
    "game.repeats=4",
    "game.stabilise=6",
    "game.fade=6",
]
NETS = [f"model.{net}.{name}" for net in ("generator", "discriminator") for name in ("width=4", "max_width=8")]


def test_the_sides_are_in_the_phases_that_they_are_said_to_be_in() -> None:
    """And at any step the phase is looked up, though the schedule is every four steps only."""
    grown, whole = growing.Side([*SMALL, *NETS]), growing.Side([*SMALL, *NETS, "game.start=8"])
    assert (grown.game.moment, whole.game.moment, grown.full) == ("4x4", "8x8", 8)
    assert grown.speed(3) > 0 and grown.turns.now == (3, 24) and whole.turns.now == (0, 0)
    grown.go_to(9000)
    grown.train(1)
    assert grown.game.moment == "8x8, 50% faded in" and grown.turns.now == (1, 9008)
    whole.train(2)
    assert whole.game.moment == "8x8" and whole.seconds > 0


@pytest.mark.slow
def test_speed_and_quality_are_measured_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    words = ["growing.py", "--steps", "8", "--rounds", "1", "--turn", "2", "--samples", "50",
             "--file", str(tmp_path / "found.json"), *SMALL, "dataset.resolution=16", *NETS]  # fmt: skip
    monkeypatch.setattr(sys, "argv", words)
    assert growing.main() == 0
    first = capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    assert [row["moment"].partition(",")[0] for row in found["speed"]] == ["4x4", "8x8", "8x8", "16x16", "16x16"]
    assert [row["growing"]["step"] for row in found["quality"]] == [2, 4, 6, 8]
    assert all(row["full size"]["step"] >= 1 and row["growing"]["swd"] > 0 for row in found["quality"])
    monkeypatch.setattr(growing, "speeds", None)
    monkeypatch.setattr(growing, "qualities", None)
    assert growing.main() == 0
    assert capsys.readouterr().out == first
