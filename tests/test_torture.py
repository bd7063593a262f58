"""scripts/torture.py: real runs, hit at random moments, lose nothing; and it notices what is lost."""

import importlib.util
import random
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
from commands import TINY, Nursery, checkpoints

SCRIPT = Path(__file__).parents[1] / "scripts" / "torture.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("torture", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["torture"] = module
    spec.loader.exec_module(module)
    return module


def test_a_handful_of_kills_lose_nothing(script: ModuleType, nursery: Nursery, tmp_path: Path) -> None:
    report = script.Report()
    script.torture(script.SCENARIOS[0], 3, random.Random(0), nursery, tmp_path / "place", report)
    assert report.wrong == [] and sum(tally.kills for tally in report.tallies.values()) == 3


def test_a_difference_is_seen(script: ModuleType, nursery: Nursery, tmp_path: Path) -> None:
    """Another seed, a lost line, a lost checkpoint: a comparison that can fail."""
    often = ("steps=4", "log.every=2", "log.checkpoint=2", "log.best=loss/generator/adversarial", *TINY)
    for name, seed in (("one", 0), ("other", 1)):
        assert nursery.run(*often, f"seed={seed}", f"hydra.run.dir={name}", folder=tmp_path).code == 0
    one, other = tmp_path / "one", tmp_path / "other"
    copy = shutil.copytree(one, tmp_path / "copy")
    assert script.differences(one, copy) == []
    found = script.differences(one, other)
    assert any(line.startswith("state: ") for line in found) and "metrics.jsonl" in found
    assert any(line.startswith("points: ") for line in found)
    lines = (copy / "metrics.jsonl").read_text().splitlines(keepends=True)
    (copy / "metrics.jsonl").write_text(lines[0])
    assert script.differences(one, copy) == ["metrics.jsonl"]
    newest = checkpoints(copy)[-1]
    newest.write_bytes(newest.read_bytes()[:-9])
    chain = script.Chain(script.SCENARIOS[0], tmp_path, nursery, random.Random(0), report := script.Report())
    chain.runs = [copy]
    chain._check_kept()
    assert [tally.lost for tally in report.tallies.values()] == [1] and "damaged" in report.wrong[0]


@pytest.mark.slow
def test_sixty_kills_lose_nothing(script: ModuleType, capsys: pytest.CaptureFixture) -> None:
    assert script.main(["--kills", "60"]) == 0
    assert "| all |  | 6" in capsys.readouterr().out
