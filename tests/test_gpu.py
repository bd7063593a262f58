"""The CUDA path by one command, `scripts/test -m gpu`: a run, resume, bf16, streamed files, every family, the bench.

Each test is one function of the device: on a CPU the long tests run the same, so that only the device differs.
"""

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import properties
import pytest
import torch
from data_formats import images
from PIL import Image
from support import built, composed, drawn, everything, pair_in, play, progress, tiny
from test_bench import BENCH
from test_meta import EVERYTHING, overrides_of

import ganrun
from ganrun.config.build import Run, build
from ganrun.core.context import Progress
from ganrun.data.sources.streamed import Streamed
from ganrun.run.state import restore, state_of

DEVICES = [pytest.param("cuda", marks=pytest.mark.gpu), pytest.param("cpu", marks=pytest.mark.slow)]
everywhere = pytest.mark.parametrize("device", DEVICES)


def on(device: str, overrides: tuple[str, ...]) -> Run:
    """A run of these overrides on this device."""
    return build(composed(*(o for o in overrides if not o.startswith("engine.device")), f"engine.device={device}"))


def finite(rows: list) -> bool:
    return bool(rows) and all(math.isfinite(value) for _, _, metrics in rows for value in metrics.values())


@everywhere
def test_the_default_run_trains_saves_and_samples(device: str, tmp_path: Path) -> None:
    """As it is typed, but for its length: pictures, checkpoints, events, and samples from the loaded networks."""
    cfg = ganrun.compose(["steps=30", "log.every=10", f"engine.device={device}"])
    run = ganrun.train(cfg, tmp_path / "run")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30]
    assert all(math.isfinite(value) for line in lines for value in line.values() if isinstance(value, int | float))
    assert list((run / "samples").glob("step_*30.png")) and list((run / "checkpoints").glob("*30.*.pt"))
    net = ganrun.load(run, device=device)
    assert {p.device.type for p in net.generator.parameters()} == {device}
    samples = net.sample(16, seed=1)
    assert samples.device.type == "cpu" and torch.isfinite(samples).all() and samples.abs().max() <= 1
    torch.testing.assert_close(samples, net.sample(16, seed=1), rtol=0, atol=0 if device == "cpu" else 1e-4)


@everywhere
def test_resume_brings_everything_back(device: str) -> None:
    """State is bit for bit what was saved; the steps after it are the same but for the order of sums on a GPU."""
    overrides = tiny("batch=16", tricks=["ema", "instance_noise", "replay"])
    whole, again = on(device, overrides), on(device, overrides)
    play(whole, 0, 3)
    saved, before = properties.round_trip(state_of(whole, progress(whole, 3))), everything(whole)
    properties.scramble(again)
    restore(again, saved, "test")
    differs = properties.differences(before, everything(again))
    assert not [name for name in differs if not name.endswith((".value", "samples"))]  # numbers that follow the step
    one, other = play(whole, 3, 6).rows, play(again, 3, 6).rows
    for (_, _, expected), (_, _, found) in zip(one, other, strict=True):
        for name in (name for name in expected if name.startswith(("loss/", "probability/"))):
            torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-3, msg=name)
    assert finite(other)


@everywhere
def test_bf16_computes_what_fp32_does_nearly(device: str) -> None:
    """With weights, optimisers and losses in float32; under penalties that differentiate twice too."""
    rows = {}
    for precision in ("fp32", "bf16"):
        overrides = (*tiny("batch=16", "model.discriminator.norm=none", tricks=["r1", "ema"]),)
        run = on(device, (*(o for o in overrides if "precision" not in o), f"engine.precision={precision}"))
        rows[precision] = play(run, 0, 3).rows
        assert run.engine.autocast == (precision == "bf16")
        assert all(p.dtype == torch.float32 for p in run.game.parameters())
    assert finite(rows["bf16"])
    (_, _, exact), (_, _, near) = (rows[precision][0] for precision in ("fp32", "bf16"))
    assert near["loss/discriminator/adversarial"].item() == pytest.approx(
        exact["loss/discriminator/adversarial"].item(), rel=0.05
    )


@everywhere
def test_a_folder_too_large_for_the_device_is_streamed_to_it(device: str, tmp_path: Path) -> None:
    """The same batches as when they are kept on the device, read by processes that are gone at the end."""
    for i, pixels in enumerate(images(24, 20, 20, 3)):
        Image.fromarray(pixels).save(tmp_path / f"{i:02}.png")
    overrides = tiny("dataset=folder", f"dataset.path={tmp_path}", "dataset.resolution=16")
    few = tuple(o for o in overrides if not o.startswith("engine.workers"))
    with ExitStack() as stack:
        streamed, kept = (on(device, (*few, f"engine.memory={memory}", "engine.workers=2")) for memory in ("0", "2"))
        for run in (streamed, kept):
            stack.enter_context(closing(run.data))
        assert isinstance(streamed.source, Streamed) and not isinstance(kept.source, Streamed)
        for _ in range(8):  # beyond an epoch of six
            one, other = (run.source.draw(run.game.shape).images for run in (streamed, kept))
            assert one.device.type == device and torch.allclose(one, other, atol=1e-6)
        assert finite(play(streamed, 0, 3).rows)


@contextmanager
def alarmed(device: str) -> Iterator[None]:
    """Whatever waits for the device raises: CUDA's own alarm, or what finds it on a CPU."""
    if device == "cpu":
        with properties.NoHostSync(), properties.NoHostValue():
            yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def never_waits(device: str, overrides: tuple[str, ...]) -> None:
    run = on(device, overrides)
    with closing(run.data):
        assert finite(play(run, 0, 1).rows)
        run.engine.begin(Progress(1))  # between updates the host may wait: `throttle` reads its number there
        updates = [(update, drawn(run, update)) for update in run.updates(run.game, 1)]
        with alarmed(device):
            results = [result for update, batches in updates for result in run.engine.run(update, batches)]
        assert results and all(torch.isfinite(result.values).all() for result in results)
        assert {p.device.type for p in run.game.parameters()} == {device}


CASES = [pytest.param(*one, id="-".join(one)) for one in EVERYTHING]


@pytest.mark.gpu
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_no_update_waits_for_a_gpu(kind: str, name: str) -> None:
    """Every trick, loss, model and experiment, with the game it needs."""
    never_waits("cuda", overrides_of(kind, name))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), CASES[::40])
def test_the_check_of_a_gpu_passes_on_a_cpu(kind: str, name: str) -> None:
    never_waits("cpu", overrides_of(kind, name))


@everywhere
def test_a_trick_follows_its_pair_to_the_device(device: str) -> None:
    """Averages and labelled images among them, also when the game is moved once it is bound."""
    run = built("model.discriminator.classes=10", "loss=minimax", model="improved", tricks=["semi_supervised", "ema"])
    run.game.to(device)
    tricks = pair_in(run).tricks
    assert {t.device.type for t in (*run.game.buffers(), tricks["semi_supervised"].images)} == {device}


@pytest.mark.gpu
def test_the_bench_compares_its_loops_on_a_gpu() -> None:
    """Its figures at this size mean nothing."""
    small = ["--device=cuda", "--json", "--rounds=1", "--seconds=0.1", "--width=8", "--batch=8"]
    done = subprocess.run(
        [sys.executable, str(BENCH), *small], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode in (0, 1) and done.stdout, done.stderr  # 1: a target was missed
    found = json.loads(done.stdout)
    assert found["images_per_second"].keys() == {"ganrun", "bare", "usual"}
    assert all(one["median"] > 0 for one in found["images_per_second"].values())
