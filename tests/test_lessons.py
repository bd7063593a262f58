"""The lessons of conf/experiment: each fails as its file says, names itself, and is mended by the command it gives."""

import json
from pathlib import Path
from statistics import mean

import pytest
from commands import Nursery
from support import command_of, family

from ganrun.config.groups import CONF

LESSONS = [name for name in family("experiment") if name.startswith("lesson_")]
LAST = 10  # logs


def shown_by(name: str) -> str:
    """The finding that the file of a lesson names."""
    (line,) = (line for line in (CONF / "experiment" / f"{name}.yaml").read_text().splitlines() if "# Shows:" in line)
    return line.partition(":")[2].strip()


def outcome(nursery: Nursery, words: list[str], folder: Path) -> tuple[list[str], float, list[str]]:
    """What a run ends with: its findings, how far samples are from reals, and every remedy that it named."""
    ended = nursery.run(*words, "engine.device=cpu", f"hydra.run.dir={folder.name}", folder=folder.parent, patience=600)
    assert ended.code == 0, ended
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    changes = [json.loads(line) for line in (folder / "findings.jsonl").read_text().splitlines()]
    remedies = [remedy for change in changes for remedy in change.get("remedies", ())]
    found = json.loads((folder / "summary.json").read_text())["findings"]
    return found, mean(row["diagnosis/distance"] for row in rows[-LAST:]), remedies


def test_there_are_lessons() -> None:
    assert len(LESSONS) >= 3 and len({shown_by(name) for name in LESSONS}) == len(LESSONS)


@pytest.mark.slow
@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_names_itself_and_the_remedy_mends_it(nursery: Nursery, name: str, tmp_path: Path) -> None:
    found, distance, remedies = outcome(nursery, command_of(name, "Here"), tmp_path / "lesson")
    assert shown_by(name) in found and remedies
    better, nearer, _ = outcome(nursery, command_of(name, "Mended"), tmp_path / "mended")
    assert shown_by(name) not in better and nearer < 0.8 * distance
