"""The loops that scripts/bench.py compares do the same arithmetic, and take turns."""

import importlib.util
import json
import subprocess
import sys
from contextlib import ExitStack
from copy import deepcopy
from pathlib import Path
from types import ModuleType

import pytest
import torch
from support import composed, tiny
from torch import Tensor, nn

from ganrun.config.build import Run, build
from ganrun.core.seeding import reseed
from ganrun.record.folder import RunFolder

BENCH = Path(__file__).parents[1] / "scripts" / "bench.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench", BENCH)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def small(precision: str) -> Run:
    return build(composed(*tiny(f"engine.precision={precision}", "batch=8", tricks=["ema"])))


def weights(*nets: nn.Module) -> dict[str, Tensor]:
    return {f"{i}.{name}": tensor for i, net in enumerate(nets) for name, tensor in net.state_dict().items()}


def steps(run: Run, count: int):
    """The batches and the random states that a run would have at its steps."""
    for step in range(count):
        batch = run.source.draw(run.game.shape)
        reseed(run.settings["seed"], "train", 0, step)  # of process 0
        yield batch.images


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_steps_of_ours_and_of_the_bare_loop_agree_bit_for_bit(bench: ModuleType, precision: str, tmp_path: Path):
    ours, other = small(precision), small(precision)
    with ExitStack() as stack:
        folder = RunFolder.create(tmp_path / "run")
        stack.callback(folder.close)
        bench.Ours(ours, folder, stack)(2)
    bare = bench.Bare(other)
    before = deepcopy(weights(bare.generator, bare.discriminator))
    for real in steps(other, 2):
        bare.step(real)
    found = weights(bare.generator, bare.discriminator)
    expected = weights(*ours.game.networks("generator").values(), *ours.game.networks("discriminator").values())
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not any(torch.equal(found[name], before[name]) for name in found if name.endswith("weight"))
    average = ours.game.pairs["main"].tricks["ema"].average
    torch.testing.assert_close(weights(bare.average), weights(average))  # another order of the same sums
    assert not torch.equal(bare.average.to_image.conv.weight, bare.generator.to_image.conv.weight)


@pytest.mark.slow
def test_the_whole_script_compares_all_three_loops() -> None:
    """With the usual loop in its own process, as it runs from the shell; its numbers at this size mean nothing."""
    command = [sys.executable, str(BENCH), "--json", "--rounds=1", "--seconds=0.05", "--width=8", "--batch=8"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode in (0, 1) and done.stdout, done.stderr  # 1: a target was missed
    found = json.loads(done.stdout)
    assert found["images_per_second"].keys() == {"ganrun", "bare", "usual"}
    assert all(one["median"] > 0 for one in [*found["images_per_second"].values(), *found["ratio"].values()])
