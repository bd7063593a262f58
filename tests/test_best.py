"""The best checkpoint by a logged metric: kept beside the newest, named by the summary, remembered on resume."""

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from support import composed, tiny

from ganrun.config.resume import reopen
from ganrun.config.validate import check_values
from ganrun.core.errors import ConfigError
from ganrun.record.atomic import link_atomically
from ganrun.record.best import Best
from ganrun.record.checkpoint import Checkpoints
from ganrun.record.grid import png, text_of
from ganrun.run.session import Session
from ganrun.run.signals import Signals

METRIC = "loss/convergence"


def save(checkpoints: Checkpoints, best: Best, step: int, value: float) -> None:
    """As a session does it."""
    best.consider(step, {METRIC: value})
    state = {"weight": torch.tensor([float(step)]), "best": best.record()}
    checkpoints.save(step, state, spare=best.step)


def restored(checkpoints: Checkpoints, record: Mapping[str, Any] | None, metric: str = METRIC) -> Best:
    """As a resumed run has it."""
    best = Best(metric, checkpoints)
    best.restore(record)
    return best


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name[5:13]) for path in folder.glob("step_*.pt"))


def test_the_lowest_is_spared_and_the_newest_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    best = Best(METRIC, checkpoints)
    kept = []
    for step, value in enumerate([5.0, 1.0, 3.0, 2.0, 1.0, 0.5, 4.0, 4.0, 4.0], start=1):
        save(checkpoints, best, step, value)
        kept.append(steps(tmp_path))
    assert kept == [[1], [1, 2], [2, 3], [2, 3, 4], [2, 4, 5], [5, 6], [6, 7], [6, 7, 8], [6, 8, 9]]
    assert best.record() == {"metric": METRIC, "step": 6, "value": 0.5} == checkpoints.load()["best"]
    assert best.path == checkpoints.at(6) and checkpoints.load(best.path)["weight"].item() == 6


def test_a_resumed_run_knows_the_best_of_before(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    best = Best(METRIC, checkpoints)
    for step, value in ((1, 0.5), (2, 3.0), (3, 2.0), (4, 2.0)):
        save(checkpoints, best, step, value)
    again = restored(checkpoints, checkpoints.load()["best"])
    assert (again.step, again.value) == (1, 0.5)
    save(checkpoints, again, 5, 0.6)
    assert steps(tmp_path) == [1, 4, 5] and again.step == 1


def test_a_best_of_a_future_that_was_abandoned_is_none(tmp_path: Path) -> None:
    """Resumed from step 2, which knows of no step 4, however good that was; its file is set aside with the others."""
    checkpoints = Checkpoints(tmp_path, keep=4)
    best = Best(METRIC, checkpoints)
    for step, value in ((1, 3.0), (2, 2.0), (3, 2.5), (4, 0.1)):
        save(checkpoints, best, step, value)
    again = restored(checkpoints, checkpoints.load(checkpoints.at(2))["best"])
    assert again.step == 2
    save(checkpoints, again, 3, 1.9)
    assert steps(tmp_path) == [1, 2, 3] and again.step == 3
    assert len(list(tmp_path.glob("*.superseded"))) == 2


def test_a_best_that_is_gone_or_by_another_metric_counts_for_nothing(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    save(checkpoints, Best(METRIC, checkpoints), 1, 0.5)
    record = checkpoints.load()["best"]
    assert restored(checkpoints, record, "score/real").step is None
    for path in tmp_path.iterdir():
        path.unlink()
    assert restored(checkpoints, record).step is None
    assert restored(checkpoints, None).step is None


def test_a_link_and_a_picture_follow_the_best(tmp_path: Path) -> None:
    """A picture of one pixel, whose value is the step. Each is removed when it would be that of another checkpoint."""
    checkpoints = Checkpoints(tmp_path, keep=2)
    best, link, picture = Best(METRIC, checkpoints), tmp_path / "best.pt", tmp_path / "best.png"
    for step, value in enumerate([5.0, 1.0, 3.0, 0.5, 4.0], start=1):
        save(checkpoints, best, step, value)
        best.show(step, drawn)
        assert link.resolve() == best.path and np.asarray(Image.open(picture)).item() == best.step
    assert os.readlink(link) == best.path.name and best.step == 4  # relative, so that a run may be moved
    assert checkpoints.latest() == checkpoints.at(5) and checkpoints.steps() == [4, 5]
    again = restored(checkpoints, None)
    again.show(5, drawn)  # by another metric, or none
    assert not link.is_symlink() and not picture.exists()


def test_what_a_kill_left_of_the_best_is_mended(tmp_path: Path) -> None:
    """Killed after a checkpoint was committed and before its picture was: at its step it is drawn, later removed."""
    checkpoints = Checkpoints(tmp_path, keep=2)
    best, picture = Best(METRIC, checkpoints), tmp_path / "best.png"
    save(checkpoints, best, 1, 2.0)
    best.show(1, drawn)
    save(checkpoints, best, 2, 1.0)
    (tmp_path / ".best.png.1.tmp").touch()
    assert restored(checkpoints, checkpoints.load()["best"]).show(2, drawn) is None
    assert np.asarray(Image.open(picture)).item() == 2 and os.readlink(tmp_path / "best.pt") == best.path.name
    picture.write_bytes(png(np.zeros((1, 1, 1), np.uint8), checkpoint="step_00000001.0123456789abcdef.pt"))
    save(checkpoints, best, 3, 9.0)
    best.show(3, drawn)
    assert not picture.exists() and not list(tmp_path.glob(".best*"))


@pytest.mark.parametrize("refused", ["symlink", "replace"])
def test_where_links_are_not_possible_there_is_none(tmp_path: Path, monkeypatch, refused: str) -> None:
    """And an earlier one, which leads elsewhere, does not stay."""

    def refuse(*_: Any) -> None:
        raise OSError("no links here")

    (tmp_path / "best.pt").symlink_to("elsewhere")
    with monkeypatch.context() as patched:
        patched.setattr(f"ganrun.record.atomic.os.{refused}", refuse)
        link_atomically(tmp_path / "best.pt", "a")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "best.pt").mkdir()  # nor in the place of a folder
    link_atomically(tmp_path / "best.pt", "a")
    assert [path.name for path in tmp_path.iterdir()] == ["best.pt"]


def test_a_picture_that_is_damaged_names_no_checkpoint(tmp_path: Path) -> None:
    whole = png(np.zeros((4, 4, 3), np.uint8), checkpoint="name")
    for name, content in {"whole": whole, "cut": whole[:40], "empty": b"", "else": b"\x80\x04N."}.items():
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "pipe")
    found = {path.name: text_of(path, "checkpoint") for path in tmp_path.iterdir()}
    assert found == {"whole": "name", "cut": None, "empty": None, "else": None, "pipe": None}
    assert text_of(tmp_path / "missing", "checkpoint") is None


def drawn(step: int) -> np.ndarray:
    """A picture of one pixel."""
    return np.full((1, 1, 1), step, np.uint8)


def test_without_a_metric_nothing_is_recorded_or_spared(tmp_path: Path) -> None:
    best = Best(None, Checkpoints(tmp_path, keep=2))
    best.consider(1, {METRIC: 1.0})
    assert best.step is None and best.record() is None


def test_a_name_or_nothing_is_wanted() -> None:
    with pytest.raises(ConfigError, match=r"log\.best: 3, expected the name of a metric"):
        check_values(composed(*tiny("log.best=3")))


def run(path: Path, *overrides: str) -> dict[str, Any]:
    """A whole small session of BEGAN, from its start or from where it was; returns summary.json."""
    session = Session(signals=Signals(), console=Console(file=io.StringIO()))
    if path.exists():
        cfg, changes = reopen(path, list(overrides))
        code = session.resume(cfg, path, overrides=list(overrides), changes=changes)
    else:
        often = ("log.every=2", "log.checkpoint=2", "log.samples=100", f"log.best={METRIC}")
        code = session.start(composed(*tiny(*often, *overrides, model="began")), path, overrides=[])
    assert code == 0
    return json.loads((path / "summary.json").read_text())


def test_m_picks_the_checkpoint_of_a_began_and_resuming_changes_nothing(tmp_path: Path) -> None:
    """The lowest of the means over log windows, by metrics.jsonl; 6 steps and 4 more are 10."""
    fast = ("optim.generator.lr=0.01", "optim.discriminator.lr=0.01")
    whole = run(tmp_path / "whole", "steps=10", *fast)
    run(tmp_path / "parts", "steps=6", *fast)
    parts = run(tmp_path / "parts", "steps=10")
    assert whole["best"] == parts["best"]
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    means = {line["step"]: line[METRIC] for line in lines}
    assert len(means) == 5 and whole["best"]["step"] == min(means, key=means.__getitem__)
    assert whole["best"]["value"] == pytest.approx(min(means.values()))
    for name in ("whole", "parts"):
        assert sorted({8, 10, whole["best"]["step"]}) == steps(tmp_path / name / "checkpoints")
        where = tmp_path / name / "checkpoints"
        assert (where / "best.pt").resolve() == Checkpoints(where, keep=2).at(whole["best"]["step"])
    pictures = [np.asarray(Image.open(tmp_path / name / "checkpoints" / "best.png")) for name in ("whole", "parts")]
    assert np.array_equal(*pictures) and pictures[0].std() > 1


@pytest.mark.slow
def test_m_falls_while_began_learns_digits(tmp_path: Path) -> None:
    """experiment=began, its first 300 steps: M falls to less than half."""
    cfg = composed("experiment=began", "steps=300", "log.samples=300", "engine.device=cpu",
                   "engine.workers=0", "log.checkpoint=100")  # fmt: skip
    session = Session(signals=Signals(), console=Console(file=io.StringIO()))
    assert session.start(cfg, tmp_path / "run", overrides=[]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    first, last = lines[0][METRIC], lines[-1][METRIC]
    assert last < first / 2, (first, last)
    best = json.loads((tmp_path / "run" / "summary.json").read_text())["best"]
    assert best["metric"] == METRIC and best["value"] <= last
