"""The callbacks of a run: which process writes, and searches of networks that are kept."""

import io
import json
from collections.abc import Sequence
from contextlib import closing
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console
from support import composed, loop, tiny
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from ganrun.config.build import build
from ganrun.core.callbacks import Callback
from ganrun.core.context import Progress, UpdateResult
from ganrun.core.errors import ConfigError
from ganrun.core.found import Found, parameters
from ganrun.core.ranks import ALONE, Rank
from ganrun.record.checkpoint import Checkpoints
from ganrun.record.folder import RunFolder
from ganrun.record.progress import Display
from ganrun.record.recorder import Recorder
from ganrun.run.callbacks import Checkpointing, Grids, Record, on_the_board
from ganrun.run.session import Session, recorder_of
from ganrun.run.signals import Signals


@pytest.mark.parametrize("rank", [ALONE, Rank(1, 2)], ids=["alone", "second of two"])
def test_of_several_processes_the_first_writes(tmp_path: Path, rank: Rank) -> None:
    """The callbacks of the others would leave no file. How they train is in test_processes.py."""
    run = build(composed(*tiny("steps=2", "log.every=1", "log.samples=1", "log.checkpoint=1")))
    run = replace(run, rank=rank)
    layers = {name: player.layers(name) for name, player in run.engine.players.items()}
    with closing(RunFolder.create(tmp_path / "run")) as folder:
        before = {path for path in folder.path.rglob("*") if path.is_file()}
        with closing(Recorder(folder, every=1, layers=layers, writes=rank.writes)) as recorder:
            display = Display(steps=2, console=Console(file=io.StringIO()))
            record, grids = Record(run, recorder, display, Progress()), Grids(run, folder, recorder)
            saving = Checkpointing(run, Checkpoints(folder.checkpoints, keep=2), recorder, [record, grids])
            grids.write_reals(0)
            loop(run, 0, 2, record, grids, saving)
        assert recorder.means["loss/discriminator/adversarial"] > 0 and run.source.seen == 8
        written = {path.suffix for path in folder.path.rglob("*") if path.is_file() and path not in before}
    assert bool(written) == rank.writes and ({".png", ".pt", ".jsonl"} <= written) == rank.writes


def test_a_long_run_leaves_few_of_its_grids_on_the_board() -> None:
    """A grid of the default run has 60 KB: two thousand of them would have 120 MB."""
    kept = [number for number in range(1, 2001) if on_the_board(number)]
    assert kept[:50] == list(range(1, 51)) and kept[50:53] == [52, 54, 56] and len(kept) < 200
    assert max(later - earlier for earlier, later in pairwise(kept)) <= 2000 / 25
    assert on_the_board(0), "the grid of a run that ends before its first is due"


def test_how_much_is_recorded_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A norm for each network, points for three updates, grids in files alone; others are refused."""
    monkeypatch.setattr("ganrun.run.callbacks.FIRST", 2)
    cfg = composed(*tiny("steps=6", "log.every=2", "log.samples=1", "log.full=3", "log.gradients=networks"))
    assert Session(signals=Signals(), console=Console(file=io.StringIO())).start(cfg, tmp_path, overrides=[]) == 0
    events = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    norms = [tag for tag in events.Tags()["scalars"] if tag.startswith("weight_gradient/")]
    assert norms == ["weight_gradient/discriminator/00_discriminator", "weight_gradient/generator/00_generator"]
    for tag in (*norms, "loss/generator/total", "probability/real"):
        assert [point.step for point in events.Scalars(tag)] == [1, 2, 3, 4, 6], tag
        assert [point.step for point in events.Scalars(f"window/least/{tag}")] == [4, 6]
    assert [picture.step for picture in events.Images("samples")] == [1, 2, 4, 6]
    assert len(list((tmp_path / "samples").glob("step_*.png"))) == 6
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["final"].keys() >= {"loss/discriminator/total", "loss/generator/total"}
    for override, message in (("log.gradients=all", "layers, networks or none"), ("log.full=-1", "from 0 up")):
        with pytest.raises(ConfigError, match=message):
            composed(override)


def test_half_a_million_steps_of_the_default_run_stay_below_150_megabytes(tmp_path: Path) -> None:
    """Its events: 20,000 steps with points of their own, a window for each 50 of the others, and the grids."""
    run = build(composed("steps=500000", "engine.device=cpu", "engine.workers=0"))
    kept = Kept()
    loop(run, 0, 1, kept)
    folder = RunFolder.create(tmp_path / "run")
    with closing(folder), closing(recorder_of(run, folder, None, [])) as recorder:
        display = Display(steps=500000, console=Console(file=io.StringIO()))
        record, grids = Record(run, recorder, display, Progress()), Grids(run, folder, recorder)
        recorder.full, sizes = 100, []
        for step in range(1, 1101):
            record.after_step(Progress(step, 64 * step), kept.results, last=False)
            if step in (50, 100, 1100):
                sizes.append(sum(path.stat().st_size for path in folder.path.glob("events*")))
        grids.write(1100)
        picture = sum(path.stat().st_size for path in folder.samples.glob("*"))
    log = run.settings["log"]
    each, window = (sizes[1] - sizes[0]) / 50, (sizes[2] - sizes[1]) / 20
    pictures = picture * sum(map(on_the_board, range(1, 500000 // log["samples"] + 1)))
    total = log["full"] * each + (500000 - log["full"]) / log["every"] * window + pictures
    assert each > 500 and window > each and total < 150e6


class Kept(Callback):
    """Keeps what the last step measured."""

    name = "kept"

    def after_step(self, now: Progress, results: Sequence[UpdateResult], *, last: bool) -> None:
        self.results = results


def test_a_search_is_made_once_and_a_copy_makes_its_own() -> None:
    calls: list[nn.Module] = []

    def search(net: nn.Module) -> list:
        calls.append(net)
        return parameters(net)

    found, one, other = Found(search), nn.Linear(2, 2), nn.Linear(2, 2)
    assert found(one) is found(one) and calls == [one]
    assert found(other)[0] is other.weight and len(calls) == 2
    assert deepcopy(found)(other)[0] is other.weight and len(calls) == 3, "a copy of a trick has networks of its own"
