"""Training in several processes is training in one: draws, statistics, gradients; and how such a run ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from support import SIZES, built, composed, everything, family, host, host_of_loss, tiny
from torch import Tensor

from ganrun.cli.explain import explain
from ganrun.cli.torchrun import refuse_sweep
from ganrun.config.build import Run, build
from ganrun.core.across import Shared, on_the_whole, sharing, whole
from ganrun.core.context import BatchShape, Progress, Update
from ganrun.core.errors import ConfigError
from ganrun.core.ranks import ALONE, Rank
from ganrun.core.train import train
from ganrun.run import processes
from ganrun.run.processes import FIRST, FOLDER, NUMBER, WORLD, Others, others
from ganrun.run.state import state_of

TOLERANCE = 1e-5  # of the largest number of a tensor, at least 1
# Batch norm of the whole batch; and an optimiser that does not blow rounding errors up: Adam divides a gradient that
# is 0 but for rounding by its own size.
ALIKE = ("engine.sync_batch_norm=true", "+optim.generator.eps=0.01", "+optim.discriminator.eps=0.01")
SUITED = {
    # So that it acts from the first step on, and draws from the second.
    "chain": ("tricks.chain.least=0.1", "tricks.chain.change=0.5", "tricks.chain.target=-1"),
    "pacgan": ("batch=8",),  # two packs for each process, for batch norm
    # Of its many units some lie at the kink of a ReLU by the second step.
    "wide_filters": ("model.generator.activation=tanh", "model.discriminator.activation=tanh"),
}
UNSUITED = {"sgd_discriminator": ALIKE[2:]}  # SGD has no eps
DRAWS: dict[str, Callable[[int], Tensor]] = {
    "rand": lambda rows: torch.rand(rows, 5),
    "rand of a size": lambda rows: torch.rand((rows, 1, 1, 1), dtype=torch.float64),
    "randn": lambda rows: torch.randn(rows, 7),
    "randint": lambda rows: torch.randint(9, (rows, 3)),
    "randint between": lambda rows: torch.randint(-4, 5, (rows,)),
    "two batches": lambda rows: torch.randn(2 * rows, 3).unflatten(0, (2, rows)).transpose(0, 1),
    "half a batch": lambda rows: torch.randn(rows // 2, 3),
    "like maps": lambda rows: torch.randn_like(torch.zeros(rows, 3, 4, 4)),
    "like maps channels last": lambda rows: torch.randn_like(
        torch.zeros(rows, 3, 4, 4).to(memory_format=torch.channels_last)
    ),
    "like what is repeated": lambda rows: torch.rand_like(torch.zeros(1, 2).expand(rows, -1)),
    "in place": lambda rows: torch.zeros(rows, 20).normal_(),
    "dropout": lambda rows: F.dropout(torch.arange(rows * 6.0).view(-1, 6)[:rows] * 0 + 1, 0.5),
    "dropout channels last": lambda rows: F.dropout(
        torch.ones(rows, 3, 4, 4).to(memory_format=torch.channels_last), 0.5
    ),
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("world", [2, 4])
def test_processes_draw_together_what_one_would_draw(name: str, world: int) -> None:
    rows, found = 4, []
    for number in range(world):
        torch.manual_seed(0)
        with sharing(Rank(number, world), rows, norms=False):
            found.append(DRAWS[name](rows))
        after = torch.rand(())
    torch.manual_seed(0)
    assert torch.equal(torch.cat(found), DRAWS[name](rows * world))
    assert torch.equal(torch.rand(()), after), "the generators have come as far"


def test_a_number_without_rows_is_the_same_in_all() -> None:
    def drawn(rank: Rank) -> Tensor:
        torch.manual_seed(0)
        with sharing(rank, 4, norms=False):
            return torch.randint(1, 100, ()) + torch.rand(())

    assert torch.equal(drawn(Rank(0, 2)), drawn(Rank(1, 2)))
    assert torch.equal(drawn(Rank(0, 2)), drawn(ALONE))


def test_a_generator_of_ones_own_is_left_alone() -> None:
    with sharing(Rank(1, 2), 4, norms=False):
        drawn = torch.rand(4, generator=torch.Generator().manual_seed(3))
    assert torch.equal(drawn, torch.rand(4, generator=torch.Generator().manual_seed(3)))


@pytest.mark.parametrize("draw", [lambda: torch.randperm(4), lambda: torch.bernoulli(torch.ones(4))])
def test_what_cannot_be_shared_out_is_refused(draw: Callable[[], Tensor]) -> None:
    with sharing(Rank(1, 2), 4, norms=False), pytest.raises(ConfigError, match=r"engine.ranks: 2, and a part draws"):
        draw()
    draw()


def test_with_one_process_nothing_is_changed() -> None:
    values = torch.ones(3, requires_grad=True)
    with sharing(ALONE, 3, norms=True):
        assert whole(values) is values and not isinstance(torch.overrides._get_current_function_mode(), Shared)
        assert on_the_whole(lambda given: given, [values])[0] is values


def test_a_share_of_an_update() -> None:
    then = Update(player="generator", role="generator", shape=BatchShape(12, 8), given_fakes=True)
    update = Update(player="discriminator", role="discriminator", shape=BatchShape(8, 8), then=then)
    shared = Rank(1, 4).share(update)
    assert shared.shape.images == 2 and shared.then is not None and shared.then.shape == BatchShape(3, 8)
    assert ALONE.share(update) is update


# Real processes


@pytest.fixture(scope="module")
def two() -> Iterator[Others]:
    with others(2, Path("nowhere")) as found:
        assert found is not None
        yield found


def trained(overrides: tuple[str, ...], steps: int, among: Others | None = None) -> dict[str, Tensor]:
    """Every tensor of a run after these steps, by one process or among others."""
    rank = ALONE if among is None else among.rank
    run: Run = build(composed(*overrides, f"steps={steps}"), rank)  # the others read how long it is
    if among is not None:
        among.send(run, Progress())
    train(game=run.game, engine=run.engine, updates=run.updates, data=run.data, callbacks=[],
          seed=run.settings["seed"], start=Progress(), steps=steps, rank=rank)  # fmt: skip
    assert state_of(run, Progress())["seen"] and len(everything(run)) > 10
    return everything(run)


def compare(overrides: tuple[str, ...], steps: int, among: Others) -> None:
    whole, shared = trained(overrides, steps), trained(overrides, steps, among)
    assert whole.keys() == shared.keys()
    for name, value in whole.items():
        if value.numel():
            size = max(1.0, value.double().abs().max().item())
            gap = (value.double() - shared[name].double()).abs().max().item()
            assert gap <= TOLERANCE * size, f"{name}: {gap} of {size}"


def hosted(kind: str, name: str) -> tuple[str, ...]:
    if kind == "loss":
        return (*host_of_loss(name), *ALIKE)
    found = host(name) if kind == "tricks" else tiny(model=name)
    assert isinstance(found, tuple), found
    return (*found, *SUITED.get(name, ()), *(one for one in ALIKE if one not in UNSUITED.get(name, ())))


# What looks at the whole batch, in each of the ways there are.
FEW = [("tricks", "ada"), ("tricks", "replay"), ("tricks", "minibatch_discrimination"), ("tricks", "top_k"),
       ("loss", "relativistic_average"), ("model", "dcgan"), ("model", "stackgan")]  # fmt: skip
FAMILY = [
    (kind, name)
    for kind, names in (("tricks", family("tricks")), ("loss", family("loss")), ("model", SIZES))
    for name in names
]
# Where within 200 updates some unit comes to lie at the kink of a ReLU, rounding decides on which side: without kinks,
# or with small steps where an architecture is never without.
SMOOTH = ("model.generator.activation=tanh", "model.discriminator.activation=tanh")
SMALL_STEPS = ("optim.generator.lr=1e-5", "optim.discriminator.lr=1e-5")
SHALLOW = ("model.discriminator.slope=0.9", "model.generator.augmentation=none")
KINKS = {
    **dict.fromkeys(("dropout", "head_start", "sgd_discriminator", "biggan"), SMOOTH),
    **dict.fromkeys(("stylegan2", "stackgan_v2"), SMALL_STEPS),
    **dict.fromkeys(("stackgan", "stackgan_stage2"), (*SMALL_STEPS, *SHALLOW)),
    "infogan": (*SMOOTH, *SMALL_STEPS),
}


@pytest.mark.parametrize(("kind", "name"), FEW)
def test_two_processes_are_one(kind: str, name: str, two: Others) -> None:
    compare(hosted(kind, name), 3, two)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), FAMILY)
def test_two_processes_are_one_for_200_updates(kind: str, name: str, two: Others) -> None:
    """Every trick, every loss, and every game by the models that play it: 100 steps, each of one update or more of D
    and of G.
    """
    compare((*hosted(kind, name), *KINKS.get(name, ())), 100, two)


def test_the_family_is_whole() -> None:
    assert set(FAMILY) >= set(FEW) and len(FAMILY) > 100 and {name for _, name in FAMILY} >= KINKS.keys()


@pytest.mark.parametrize("method", ["directional", "finite_difference"])
@pytest.mark.parametrize(("batch", "share"), [(8, 0.25), (8, 1.0)])
def test_slopes_along_the_gradient_are_those_of_one_process(batch: int, share: float, method: str, two: Others) -> None:
    """Each process takes every n-th of its images, which together are every n-th of the batch."""
    chosen = [f"tricks.{one}.{key}" for one in ("r1", "r2") for key in (f"method={method}", f"share={share}")]
    smooth = ("model.discriminator.norm=none", "model.discriminator.activation=silu")
    plain, noisy = (*smooth, f"batch={batch}"), ["diffusion_noise", "r1", "r2"]
    compare((*tiny(*plain, tricks=noisy), *chosen, "tricks.diffusion_noise.start=0.5", *ALIKE), 3, two)


@pytest.mark.parametrize("name", ["ada", "apa", "diffusion_noise"])
def test_what_follows_overfitting_follows_that_of_the_whole_batch(name: str, two: Others) -> None:
    """Begun at p = 1/2, so that it acts, and changed at every update."""
    keys = ("start=0.5", "interval=1", "images=100", *(("size=6",) if name == "apa" else ()))
    compare((*host(name), *(f"tricks.{name}.{key}" for key in keys), *ALIKE), 3, two)


def test_two_processes_differ_where_batch_norm_is_local(two: Others) -> None:
    """The test above would see it."""
    local = tiny("engine.sync_batch_norm=false", *ALIKE[1:])
    with pytest.raises(AssertionError, match=r"pairs.main.* of "):
        compare(local, 3, two)


def test_what_explain_counts_is_what_processes_add_up(
    two: Others, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Gradients, synced batch norm, and what a trick and the metrics exchange."""
    overrides, sizes = (*tiny(tricks=["minibatch_stddev"]), "engine.sync_batch_norm=true"), []
    exchange = dist.all_reduce

    def counting(values: Tensor, **more: object) -> object:
        if "op" not in more:  # with one, processes agree on something between steps
            sizes.append(values.nbytes)
        return exchange(values, **more)

    monkeypatch.setattr(dist, "all_reduce", counting)
    trained(overrides, 1, two)
    monkeypatch.undo()
    explain(composed(*overrides, "engine.ranks=2"))
    told = [
        line.split() for line in capsys.readouterr().out.split("add up in an update")[1].splitlines() if " MB " in line
    ]
    assert sum(int(words[words.index("in") + 1]) for words in told) == len(sizes) > 4
    assert sum(float(words[words.index("MB") - 1]) for words in told) == pytest.approx(sum(sizes) / 1e6, rel=0.01)


# What is refused and noted


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^batch: 4, which 3 processes cannot share, .* Try: batch=6$"):
        built("engine.ranks=3")
    with pytest.raises(ConfigError, match="one image for each process, and the networks have batch norm"):
        built("engine.ranks=4")


def test_images_that_are_judged_together_are_not_parted() -> None:
    packs = ("tricks.pacgan.images=4", "engine.ranks=2", "model.generator.norm=none")
    plain = ("model.discriminator.norm=none", *packs)
    assert built("batch=8", *plain, tricks=["pacgan"])
    with pytest.raises(ConfigError, match=r"^batch: 12, and a trick judges 4 neighbours together, .* Try: batch=16$"):
        built("batch=12", *plain, tricks=["pacgan"])
    with pytest.raises(ConfigError, match=r"^batch: 8, 4 images that are judged together for each process, .*batch=16"):
        built("batch=8", "model.discriminator.norm=batch", *packs, tricks=["pacgan"])


def test_local_statistics_are_noted_once() -> None:
    def rules(*overrides: str) -> list[str]:
        return [found.id for found in built(*overrides).diagnostics]

    assert rules("engine.ranks=2").count("C57") == 1
    assert "C57" not in rules() + rules("engine.ranks=2", "engine.sync_batch_norm=true")
    without = ("model.generator.norm=none", "model.discriminator.norm=none")
    assert "C57" not in rules("engine.ranks=2", *without)


# Whole runs

ARGUMENTS = [*tiny("model.generator.norm=none", "model.discriminator.norm=none", *ALIKE[1:]), "log.every=5"]


def command(*arguments: str, launcher: tuple[str, ...] = ()) -> list[str]:
    return [sys.executable, *launcher, "-m", "ganrun", *arguments]


def finished(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    return done


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """A run of two processes that has done a few steps, with those that it has started."""
    words = [*ARGUMENTS, "steps=1000000", "log.minutes=0", "engine.ranks=2", f"hydra.run.dir={folder}", *arguments]
    process = subprocess.Popen(command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not list(folder.glob("checkpoints/step_*.pt")):
            assert time.monotonic() < deadline and process.poll() is None, process.communicate()
            time.sleep(0.1)
        yield process, psutil.Process(process.pid).children()
    finally:
        process.kill()
        process.communicate()


def state_in(folder: Path) -> dict[str, Tensor]:
    """The tensors of the newest checkpoint's game."""
    newest = max(folder.glob("checkpoints/step_*.pt"))
    found = torch.load(newest, weights_only=True)["state"]["game"]
    return {key: value for key, value in found.items() if isinstance(value, Tensor)}


def step_of(folder: Path) -> int:
    return int(max(folder.glob("checkpoints/step_*.pt")).name.split("_")[1].split(".")[0])


def test_a_killed_process_ends_the_run_which_goes_on_with_another_number(tmp_path: Path) -> None:
    with running(tmp_path / "killed") as (process, started):
        assert len(started) == 1
        started[0].kill()
        _, errors = process.communicate(timeout=15)
        assert process.returncode == 4
        assert errors.count("ganrun: error: process 1 of 2 has ended by signal 9") == len(errors.splitlines()) == 1
        assert f"Try: ganrun resume {tmp_path / 'killed'}" in errors
    steps = step_of(tmp_path / "killed") + 5
    finished("resume", str(tmp_path / "killed"), f"steps={steps}", "engine.ranks=1")
    finished(*ARGUMENTS, f"steps={steps}", f"hydra.run.dir={tmp_path / 'whole'}")
    whole, resumed = state_in(tmp_path / "whole"), state_in(tmp_path / "killed")
    assert whole.keys() == resumed.keys()
    assert all(torch.allclose(resumed[key], value, atol=TOLERANCE) for key, value in whole.items())
    assert [path.name for path in tmp_path.iterdir()].count("killed") == 1 and len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
def test_the_others_end_with_the_first_process(tmp_path: Path) -> None:
    with running(tmp_path / "run") as (process, started):
        process.kill()
        assert not psutil.wait_procs(started, timeout=10)[1]


def test_another_process_ends_where_the_first_was_killed_before_it_began(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    told = {FOLDER: str(tmp_path / "shared"), NUMBER: "1", WORLD: "2", FIRST: str(gone.pid)}
    words = [sys.executable, "-m", "ganrun.run.follow"]
    assert subprocess.run(words, env=os.environ | told, timeout=60).returncode == 4
    assert not (tmp_path / "shared").exists()


def test_another_process_hears_no_signal_from_its_very_start(tmp_path: Path) -> None:
    """As when all processes of a terminal are sent one while the other still imports torch."""
    started = processes._start(2, str(tmp_path))[0]
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            started.send_signal(number)
        time.sleep(0.5)
        assert started.poll() is None
    finally:
        started.kill()
        started.wait()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_ends_all(number: signal.Signals, tmp_path: Path) -> None:
    with running(tmp_path / "run") as (process, started):
        process.send_signal(number)
        printed, errors = process.communicate(timeout=30)
        assert process.returncode == 128 + number and not errors
        assert f"interrupted by {number.name} at step" in printed
        assert not psutil.wait_procs(started, timeout=10)[1]


@pytest.mark.slow
def test_a_signal_to_another_than_the_first_process_is_not_heard(tmp_path: Path) -> None:
    with running(tmp_path / "run") as (process, started):
        started[0].terminate()
        time.sleep(2)
        assert process.poll() is None and started[0].is_running()


@pytest.mark.slow
def test_a_run_that_stops_by_itself_ends_all_once(tmp_path: Path) -> None:
    rates = ("optim.generator.lr=1e11", "optim.discriminator.lr=1e11")
    words = [*ARGUMENTS, *rates, "engine.ranks=2", "steps=200", f"hydra.run.dir={tmp_path}"]
    done = finished(*words, code=3)
    assert done.stderr.count("ganrun: error:") == 1


def test_a_refusal_is_told_once_for_all(tmp_path: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    words = command(*ARGUMENTS, "batch=7", f"hydra.run.dir={tmp_path / 'run'}", launcher=launcher)
    begun = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode and done.stderr.count("ganrun: error: batch: 7, which 2 processes cannot share") == 1
    assert not (tmp_path / "run").exists() and time.monotonic() - begun < 60


def test_a_sweep_under_torchrun_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its jobs would take itself for the first process, and wait for the others."""
    refuse_sweep(["-m", "seed=1,2"])
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    refuse_sweep(["seed=1"])
    with pytest.raises(ConfigError, match=r"^torchrun: a sweep, expected one run. Try: ganrun -m engine.ranks=2"):
        refuse_sweep(["-m", "seed=1,2"])


@pytest.mark.slow
def test_torchrun_trains_what_one_process_trains(tmp_path: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    words = command(*ARGUMENTS, "steps=5", f"hydra.run.dir={tmp_path / 'two'}", launcher=launcher)
    subprocess.run(words, check=True, capture_output=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"})
    finished(*ARGUMENTS, "steps=5", f"hydra.run.dir={tmp_path / 'one'}")
    one, two = state_in(tmp_path / "one"), state_in(tmp_path / "two")
    assert one.keys() == two.keys()
    assert all(torch.allclose(two[key], value, atol=TOLERANCE) for key, value in one.items())
