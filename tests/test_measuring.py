"""Runs that measure their samples: what they record, keep and say, and that training stays what it was."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
from commands import TINY, Nursery, refusal, same_state
from PIL import Image

from ganrun.metrics.comparison import Comparison, spaces

OWN = ("dataset.held_out=0", "metrics=none")
SMALL = [word for word in TINY if word not in OWN]
OFTEN = ("metrics.every=2", "metrics.samples=50", "log.every=1", "log.checkpoint=2", "log.keep=9")


def run(nursery: Nursery, folder: Path, name: str, *more: str, steps: int = 6) -> Path:
    often = [word for word in OFTEN if not (word.startswith("metrics.") and "metrics=none" in more)]
    ended = nursery.run(f"steps={steps}", *SMALL, *often, f"hydra.run.dir={name}", *more, folder=folder)
    assert ended.code == 0, ended
    (folder / f"{name}.out").write_text(ended.out)
    return folder / name


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def measured(run: Path) -> dict[int, dict[str, float]]:
    """What was measured at each step."""
    found = {line["step"]: {k: v for k, v in line.items() if k.startswith("metrics/")} for line in lines(run)}
    return {step: values for step, values in found.items() if values}


@pytest.fixture(scope="module")
def whole(nursery: Nursery, tmp_path_factory) -> Path:
    """A run of six steps that measures at every second."""
    return run(nursery, tmp_path_factory.mktemp("measuring"), "whole")


def test_it_measures_at_its_steps_and_the_names_say_how_many_samples(whole: Path) -> None:
    found = measured(whole)
    assert list(found) == [2, 4, 6]
    assert {"metrics/quality_50", "metrics/mmd_spectrum_50", "metrics/coverage_50", "metrics/memorised_50"} <= found[
        2
    ].keys()


def test_not_one_bit_of_training_changes(nursery: Nursery, whole: Path) -> None:
    without = run(nursery, whole.parent, "without", "metrics=none")
    assert same_state(whole, without) == []
    own = [{k: v for k, v in line.items() if not k.startswith(("metrics/", "time"))} for line in lines(whole)]
    plain = [{k: v for k, v in line.items() if k != "time"} for line in lines(without)]
    clock = "training/images_per_second"
    assert [line | {clock: 0} for line in own] == [line | {clock: 0} for line in plain]
    assert measured(without) == {}


def test_the_summary_says_how_good_and_when_best(whole: Path) -> None:
    summary = json.loads((whole / "summary.json").read_text())
    history = {step: values["metrics/quality_50"] for step, values in measured(whole).items()}
    best = min(history, key=history.__getitem__)
    own = summary["quality"]
    assert own.pop("reals") < 3 < own["last"]
    late = min(value for step, value in history.items() if step > 4.5)
    gained = min(value for step, value in history.items() if step <= 4.5) - late
    assert own == {"metric": "metrics/quality_50", "last": history[6], "best": history[best], "best_step": best,
                   "gained": pytest.approx(gained)}  # fmt: skip
    assert summary["objective"] == history[6]
    assert summary["best"] == {"metric": "metrics/quality_50", "step": best, "value": history[best]}
    out = (whole.parent / "whole.out").read_text()
    (line,) = [line for line in out.splitlines() if line.startswith("quality ")]
    assert f"{history[6]:.1f}, where other reals have " in line
    assert f"best        whole/checkpoints/step_{best:08d}." in out


def test_the_best_is_found_by_name_and_its_picture_is_the_grid_of_its_step(nursery: Nursery, whole: Path) -> None:
    """`best.pt` leads to its checkpoint; drawn from that file anew, the grid of the same noise is `best.png`."""
    from ganrun.record.grid import grid
    from ganrun.run.load import load

    best = json.loads((whole / "summary.json").read_text())["best"]
    link, loaded = whole / "checkpoints" / "best.pt", load(whole, checkpoint="best", device="cpu")
    assert link.resolve().name.startswith(f"step_{best['step']:08d}.") and loaded.step == best["step"]
    again = grid(loaded.game.sample(), loaded.game.rows)
    assert np.array_equal(np.asarray(Image.open(whole / "checkpoints" / "best.png")), again[..., 0])


def test_a_run_that_was_killed_records_what_it_would_have(nursery: Nursery, whole: Path) -> None:
    killed = run(nursery, whole.parent, "killed", steps=3)
    assert nursery.run("resume", str(killed), "steps=6", folder=whole.parent).code == 0
    for step in (2, 4, 6):
        assert measured(killed)[step] == measured(whole)[step]
    assert json.loads((killed / "summary.json").read_text())["quality"]["best"] == \
        json.loads((whole / "summary.json").read_text())["quality"]["best"]  # fmt: skip


def test_a_signal_is_not_kept_waiting_by_a_measurement(nursery: Nursery, tmp_path: Path) -> None:
    started = nursery.start("steps=100000", *SMALL, "log.every=1", "metrics.every=100000", "hydra.run.dir=run",
                            folder=tmp_path)  # fmt: skip
    started.until(lambda: (tmp_path / "run" / "metrics.jsonl").exists())
    started.send(signal.SIGTERM)
    assert started.wait().code == 143
    assert measured(tmp_path / "run") == {}


def test_the_best_by_a_share_is_where_it_was_highest(nursery: Nursery, tmp_path: Path) -> None:
    own = run(nursery, tmp_path, "run", "log.best=metrics/spread_50", "objective=metrics/mmd_pixels_50")
    summary, found = json.loads((own / "summary.json").read_text()), measured(own)
    assert summary["best"]["value"] == max(values["metrics/spread_50"] for values in found.values())
    assert summary["objective"] == found[6]["metrics/mmd_pixels_50"]


def test_a_measure_that_there_is_not_is_refused(nursery: Nursery, tmp_path: Path) -> None:
    line = refusal(nursery.run("steps=2", *SMALL, *OFTEN, "log.best=metrics/qualty_50", folder=tmp_path))
    assert line.startswith("log.best: this run has no metric 'metrics/qualty_50', expected one of ")
    assert line.endswith("Try: log.best=metrics/quality_50")


@pytest.mark.parametrize("more", [("dataset.held_out=0",), ("metrics=none",)])
def test_without_held_out_images_or_when_told_not_to_it_measures_nothing(
    nursery: Nursery, tmp_path: Path, more
) -> None:
    own = run(nursery, tmp_path, "run", *more, steps=2)
    summary = json.loads((own / "summary.json").read_text())
    assert "quality" not in summary and "best" not in summary and summary["objective"] is None
    assert measured(own) == {}


def test_a_conditional_run_is_measured_within_its_classes(nursery: Nursery, tmp_path: Path) -> None:
    small = [word for word in SMALL if "width" not in word]
    sizes = ("model=cgan", "model.generator.hidden=[16,16]", "model.discriminator.hidden=[16,16]")
    ended = nursery.run("steps=2", *small, *OFTEN, *sizes, "metrics.samples=100", "hydra.run.dir=run", folder=tmp_path)
    assert ended.code == 0, ended
    assert {"metrics/class_coverage_100", "metrics/class_spread_100"} <= measured(tmp_path / "run")[2].keys()


def test_translations_are_compared_with_their_target(nursery: Nursery, tmp_path: Path) -> None:
    small = [word for word in SMALL if "width" not in word and not word.startswith(("model=", "dataset"))]
    sizes = ("experiment=cyclegan", "dataset=outlines_to_shapes", "dataset.resolution=16", "dataset.a.size=300",
             "model.generator.width=4",
             "model.discriminator.width=4", "model.generator.blocks=1", "model.discriminator.halvings=1")  # fmt: skip
    ended = nursery.run("steps=2", *small, *OFTEN, *sizes, "hydra.run.dir=run", folder=tmp_path)
    assert ended.code == 0, ended
    (quality,) = (value for name, value in measured(tmp_path / "run")[2].items() if "/quality_" in name)
    assert quality > 5


def test_points_are_measured_too(nursery: Nursery, tmp_path: Path) -> None:
    ended = nursery.run("steps=2", "experiment=toys_nonsaturating", "dataset.size=2000", "batch=8", *OFTEN,
                        "engine.device=cpu", "hydra.run.dir=run", folder=tmp_path)  # fmt: skip
    assert ended.code == 0, ended
    assert {"metrics/quality_50", "metrics/mmd_points_50", "metrics/modes_50", "metrics/good_50"} <= \
        measured(tmp_path / "run")[2].keys()  # fmt: skip


def test_the_quality_is_that_of_these_samples_against_these_reals(whole: Path) -> None:
    """Once more by hand, from the last checkpoint: the samples of its step against 50 held-out reals."""
    from ganrun.core.seeding import reseed
    from ganrun.run.load import load_run

    loaded, step = load_run(whole)
    reseed(0, "metrics", step=step)
    fakes = loaded.game.draw(50)
    reals = loaded.source.held_out(50).images
    loaded.data.close()
    assert step == 6 and len(reals) == 50
    found = Comparison(spaces(reals)).measure(spaces(fakes))
    assert found["quality"] == pytest.approx(measured(whole)[6]["metrics/quality_50"], rel=1e-6)
