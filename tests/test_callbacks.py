"""The callbacks of a run: which process writes, and searches of networks that are kept."""

import io
from contextlib import closing
from copy import deepcopy
from pathlib import Path

import pytest
from rich.console import Console
from support import composed, loop, tiny
from torch import nn

from ganrun.config.build import build
from ganrun.core.context import Progress
from ganrun.core.found import Found, parameters
from ganrun.core.ranks import ALONE, Rank
from ganrun.record.checkpoint import Checkpoints
from ganrun.record.folder import RunFolder
from ganrun.record.progress import Display
from ganrun.record.recorder import Recorder
from ganrun.run.callbacks import Checkpointing, Grids, Record


@pytest.mark.parametrize("rank", [ALONE, Rank(1, 2)], ids=["alone", "second of two"])
def test_of_several_processes_the_first_writes(tmp_path: Path, rank: Rank) -> None:
    """The others train on their own share of the data, keep means for tricks to read, and leave no file."""
    run = build(composed(*tiny("steps=2", "log.every=1", "log.samples=1", "log.checkpoint=1")), rank)
    layers = {name: player.layers(name) for name, player in run.engine.players.items()}
    with closing(RunFolder.create(tmp_path / "run")) as folder:
        before = {path for path in folder.path.rglob("*") if path.is_file()}
        with closing(Recorder(folder, every=1, layers=layers, writes=rank.writes)) as recorder:
            display = Display(steps=2, console=Console(file=io.StringIO()))
            record, grids = Record(run, recorder, display, Progress()), Grids(run, folder, recorder)
            saving = Checkpointing(run, Checkpoints(folder.checkpoints, keep=2), recorder, [record, grids])
            grids.write_reals(0)
            loop(run, 0, 2, record, grids, saving)
        assert recorder.means["loss/discriminator/adversarial"] > 0 and run.source.seen == 8 * rank.world
        written = {path.suffix for path in folder.path.rglob("*") if path.is_file() and path not in before}
    assert bool(written) == rank.writes and ({".png", ".pt", ".jsonl"} <= written) == rank.writes


def test_a_search_is_made_once_and_a_copy_makes_its_own() -> None:
    calls: list[nn.Module] = []

    def search(net: nn.Module) -> list:
        calls.append(net)
        return parameters(net)

    found, one, other = Found(search), nn.Linear(2, 2), nn.Linear(2, 2)
    assert found(one) is found(one) and calls == [one]
    assert found(other)[0] is other.weight and len(calls) == 2
    assert deepcopy(found)(other)[0] is other.weight and len(calls) == 3, "a copy of a trick has networks of its own"
