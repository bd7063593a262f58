"""The table at the end of a sweep: what each job reached beside its overrides, on screen, as CSV and as JSON."""

import csv
import io
import json
import os
import shlex
from pathlib import Path

import pytest
from commands import TINY, Nursery
from reported import measured
from rich.console import Console

from ganrun.core.errors import EnvironmentFailed
from ganrun.run.sweep import Job, JobOutcome
from ganrun.run.sweep_table import print_table

OVERRIDES = (
    ["tricks=[ema,flip]", "name='a \"b\", c'", "seed=1", "objective=x"],
    ["tricks=[]", "~dataset.x", "seed=2", "objective=x"],
)


def folder(path: Path, **summary: object) -> str:
    """A job's folder as its run leaves it, with what the test says in the summary."""
    path.mkdir(parents=True)
    entry = {
        "step": 2,
        "objective": 0.5,
        "diagnostics": [{"rule": "C9", "level": "W", "sentence": "."}, {"level": "I"}],
    }
    (path / "summary.json").write_text(json.dumps(entry | summary))
    states = [("mode_collapse", "found", True), ("slow_start", "found", False), ("discriminator_wins", "found", True),
              ("mode_collapse", "over", True)]  # fmt: skip
    lines = [json.dumps({"step": 1, "finding": name, "state": state, "failure": bad}) for name, state, bad in states]
    (path / "findings.jsonl").write_text("\n".join([*lines, '{"cut']))
    (path / "metrics.jsonl").write_text('{"step": 1, "time": 100.0}\n{"step": 2, "time": 190.0}\n')
    return str(path)


def printed(outcomes: list[JobOutcome], width: int = 120) -> str:
    console = Console(width=width, file=io.StringIO())
    print_table(outcomes, console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.fixture
def outcomes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[JobOutcome]:
    monkeypatch.chdir(tmp_path)
    quality = {"metric": "metrics/quality_500", "last": 12.345678, "best": 10.5, "best_step": 1, "reals": 0.25}
    first = folder(Path("my sweep/0"), quality=quality)
    Path("my sweep/1").mkdir()
    jobs = [
        Job(number=n, overrides=list(o), folder=f)
        for n, (o, f) in enumerate(zip(OVERRIDES, (first, "my sweep/1"), strict=True))
    ]
    return [
        JobOutcome(job=jobs[0], code=0, seconds=95),
        JobOutcome(job=jobs[1], code=2, message='dataset.x: "y", expected z\nmore'),
    ]


def test_figures_stand_beside_the_overrides(outcomes: list[JobOutcome]) -> None:
    out = printed(outcomes)
    (head,) = [line for line in out.splitlines() if line.startswith("job  ended")]
    names = ["job", "ended", "quality", "objective", "minutes", "warnings", "findings", "overrides,"]
    assert head.split()[:8] == names
    (row,) = [line for line in out.splitlines() if "done in" in line]
    assert (
        row.split()[:8] == ["0", "done", "in", "95", "s", "12.35", "0.5", "1.5"]
        and "discriminator_wins" in row
        and "[ema,flip]" in out
    )
    line = out.strip().splitlines()[-1]
    assert line == "to compare: ganrun report 'my sweep'" and shlex.split(line)[-1] == "my sweep"
    assert max(map(len, printed(outcomes, 80).splitlines())) <= 80


def test_columns_that_nobody_fills_are_not_there(tmp_path: Path) -> None:
    job = Job(number=0, overrides=["a=1"], folder=str(tmp_path / "x" / "0"))
    out = printed([JobOutcome(job=job, code=None)])
    assert "quality" not in out and "minutes" not in out and "to compare" not in out
    assert list(tmp_path.iterdir()) == []


def test_the_files_hold_every_job(outcomes: list[JobOutcome]) -> None:
    printed(outcomes)
    with open("my sweep/sweep.csv", newline="") as file:
        first, second = csv.DictReader(file)
    assert first["quality"] == "12.345678" and first["quality_reals"] == "0.25" and first["minutes"] == "1.5"
    assert first["name"] == "'a \"b\", c'" and first["tricks"] == "[ema,flip]" and first["~dataset.x"] == ""
    assert first["objective"] == "x" and first["objective_value"] == "0.5" and first["warnings"] == "1"
    assert first["findings"] == "discriminator_wins" and second["findings"] == ""
    assert second["quality"] == "" and second["exit_code"] == "2" and second["seed"] == "2"
    assert second["message"] == 'dataset.x: "y", expected z\nmore' and second["folder"] == "my sweep/1"
    one, two = json.loads(Path("my sweep/sweep.json").read_text())
    assert one["overrides"] == OVERRIDES[0] and one["quality_best"] == 10.5 and one["quality_best_step"] == 1
    assert two["quality"] is None and two["ended"] == "refused (exit code 2)"
    assert sorted(os.listdir("my sweep")) == ["0", "1", "sweep.csv", "sweep.json"]


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff")
    done = JobOutcome(job=Job(number=0, overrides=[f"name={name}"], folder=folder(tmp_path / "s" / name)), code=0)
    print_table([done], Console(file=io.TextIOWrapper(io.BytesIO(), errors="replace")))
    assert b"name" in (tmp_path / "s" / "sweep.csv").read_bytes()
    assert json.loads((tmp_path / "s" / "sweep.json").read_text())[0]["overrides"] == [f"name={name}"]


@pytest.mark.parametrize("name", ["summary.json", "metrics.jsonl", "environment.json"])
def test_a_damaged_file_leaves_its_cells_empty(outcomes: list[JobOutcome], name: str) -> None:
    Path("my sweep/0", name).unlink(missing_ok=True)
    Path("my sweep/0", name).mkdir()
    assert "done in 95 s" in printed(outcomes)


def test_a_full_disk_is_told_after_the_table(outcomes: list[JobOutcome], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ganrun.record.atomic.os.replace", full)
    with pytest.raises(EnvironmentFailed, match="cannot write the table of the sweep in my sweep: No space left"):
        printed(outcomes)
    assert sorted(os.listdir("my sweep")) == ["0", "1"]


@pytest.mark.slow
def test_a_real_sweep_ends_in_a_table_and_a_page(nursery: Nursery, tmp_path: Path) -> None:
    words = ("-m", *TINY, "steps=2", "log.every=1", "objective=score/real", "seed=1", "hydra.sweep.dir=here")
    ended = nursery.run(*words, folder=tmp_path, patience=300)
    assert ended.code == 0, ended
    jobs = json.loads((tmp_path / "here" / "sweep.json").read_text())
    finals = [json.loads((tmp_path / "here" / n / "summary.json").read_text())["objective"] for n in "0"]
    assert [job["objective_value"] for job in jobs] == finals and all(0 < job["minutes"] < 5 for job in jobs)
    assert f"{finals[0]:.4g}" in ended.out
    line = ended.out.strip().splitlines()[-1].removeprefix("to compare: ")
    measured(tmp_path / "here" / "0", 3.0)
    page = nursery.run(*shlex.split(line)[1:], folder=tmp_path)
    assert page.code == 0 and "1 run in report.html" in page.out, page
    assert "Quality 3." in (tmp_path / "report.html").read_text()
