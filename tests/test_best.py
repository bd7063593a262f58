"""The best checkpoint by a logged metric: kept beside the newest, named by the summary, remembered on resume."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from support import composed, tiny

from ganrun.config.resume import reopen
from ganrun.config.validate import check_values
from ganrun.core.errors import ConfigError
from ganrun.record.best import Best
from ganrun.record.checkpoint import Checkpoints
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
