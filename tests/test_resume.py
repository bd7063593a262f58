"""Interrupted, killed, resumed: the same weights, bit for bit, and a word about whatever changed."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from commands import TINY, Nursery, Started, checkpoints, config, lines_of, points_of, refusal, same_state
from PIL import Image

from ganrun.version import __version__

TRICKS = "tricks=[ema,instance_noise,noisy_labels]"  # an average, a schedule and draws
LONG = "steps=1000000"
EVERY = ("log.every=10", "log.checkpoint=20", "log.samples=40")


@pytest.fixture
def start(nursery: Nursery, tmp_path: Path):
    """Starts a long run in tmp_path/run, and ends it whatever happens."""
    started: list[Started] = []

    def begin(*more: str, tricks: str = TRICKS) -> Started:
        started.append(nursery.start(LONG, tricks, *TINY, *EVERY, "hydra.run.dir=run", *more, folder=tmp_path))
        return started[-1]

    yield begin
    for process in started:
        process.send_group(signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def finished(nursery: Nursery, tmp_path_factory) -> Path:
    """A run of three steps; tests copy it."""
    place = tmp_path_factory.mktemp("finished")
    assert nursery.run("steps=3", TRICKS, *TINY, "hydra.run.dir=run", folder=place).code == 0
    return place / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, with a space in its path."""
    return Path(shutil.copytree(finished, tmp_path / "my run"))


def reached(run: Path) -> int:
    """The step of the last checkpoint."""
    return int(checkpoints(run)[-1].name.split(".")[0].removeprefix("step_"))


def uninterrupted(nursery: Nursery, run: Path, steps: int) -> Path:
    """What the run would have been without interruption."""
    ended = nursery.run(f"steps={steps}", TRICKS, *TINY, "hydra.run.dir=whole", folder=run.parent)
    assert ended.code == 0, ended
    return run.parent / "whole"


def goes_on_as_if_nothing_had_happened(nursery: Nursery, run: Path) -> None:
    steps = reached(run) + 5
    resumed = nursery.run("resume", str(run), f"steps={steps}", folder=run.parent)
    assert resumed.code == 0, resumed
    assert same_state(run, uninterrupted(nursery, run, steps)) == []


def test_three_steps_and_three_are_six(nursery: Nursery, run: Path):
    resumed = nursery.run("resume", str(run), "steps=6", folder=run.parent)
    assert resumed.code == 0 and resumed.err == ""
    assert "resuming at step 3" in resumed.out and "steps: 3 -> 6" in resumed.out
    assert same_state(run, uninterrupted(nursery, run, 6)) == []
    assert config(run)["steps"] == 6
    assert yaml.safe_load((run / "overrides.yaml").read_text())[0] == "steps=3"  # what it began as is not forgotten
    assert yaml.safe_load((run / "overrides.yaml").read_text())[-1] == "steps=6"
    assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()] == [3, 6]
    assert {"reals.png", "step_00000003.png", "step_00000006.png"} == {p.name for p in (run / "samples").iterdir()}


def test_a_comparison_that_can_fail(nursery: Nursery, run: Path):
    """Another batch from step 3 on makes other weights: `same_state` sees it."""
    assert nursery.run("resume", str(run), "steps=6", "batch=5", folder=run.parent).code == 0
    assert same_state(run, uninterrupted(nursery, run, 6)) != []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_in_order(nursery: Nursery, start, number: int, code: int, tmp_path: Path):
    process = start()
    process.until(lambda: (tmp_path / "run" / "metrics.jsonl").exists())
    asked = time.monotonic()
    process.send(number)
    ended = process.wait()
    assert ended.code == code and time.monotonic() - asked < 10
    assert f"interrupted by {signal.Signals(number).name} at step {reached(tmp_path / 'run'):,}" in ended.out
    assert "ganrun resume run" in ended.out and ended.err == ""
    assert reached(tmp_path / "run") > 0 and reached(tmp_path / "run") % 20  # not just the last one that was due
    goes_on_as_if_nothing_had_happened(nursery, tmp_path / "run")


def test_killed_outright_it_goes_on_from_the_last_checkpoint(nursery: Nursery, start, tmp_path: Path):
    process = start()
    process.until(lambda: len(checkpoints(tmp_path / "run")) > 1)
    process.send(signal.SIGKILL)
    assert process.wait().code == -signal.SIGKILL
    goes_on_as_if_nothing_had_happened(nursery, tmp_path / "run")


def streamed(folder: Path, *, workers: int) -> tuple[str, ...]:
    """Settings of a run that streams a few pictures, which are made here."""
    folder.mkdir()
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return "dataset=folder", f"dataset.path={folder}", "engine.memory=0", f"engine.workers={workers}"


def at_work(process: psutil.Process) -> bool:
    """Whether it has not ended; one that waits for whoever inherited it has."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_workers_of_a_run_that_is_killed_outright_end_with_it_and_say_nothing(start, tmp_path: Path):
    process = start(*streamed(tmp_path / "pictures", workers=2))
    process.until(lambda: (tmp_path / "run" / "metrics.jsonl").exists())
    workers = psutil.Process(process.pid).children()
    process.send(signal.SIGKILL)
    ended = process.wait()
    deadline = time.monotonic() + 5
    while any(map(at_work, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert ended.code == -signal.SIGKILL and ended.err == "" and len(workers) == 2, ended
    assert not any(map(at_work, workers))


def test_a_run_that_waits_for_data_is_saved_when_it_is_told_to_end(nursery: Nursery, start, tmp_path: Path):
    """A disk that does not answer: the workers are stopped, and the signal comes while the run waits for them."""
    process = start(*streamed(tmp_path / "pictures", workers=1))
    process.until(lambda: (tmp_path / "run" / "metrics.jsonl").exists())
    workers = psutil.Process(process.pid).children()
    for worker in workers:
        worker.send_signal(signal.SIGSTOP)
    time.sleep(0.5)
    asked = time.monotonic()
    process.send(signal.SIGTERM)
    ended = process.wait()
    assert ended.code == 143 and time.monotonic() - asked < 10, ended
    assert f"interrupted by SIGTERM at step {reached(tmp_path / 'run'):,}" in ended.out
    assert not any(worker.is_running() for worker in workers)
    shown = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    assert reached(tmp_path / "run") >= shown  # the step reached, not only the last that was due


def test_killed_between_two_logs_it_records_what_it_would_have_without(nursery: Nursery, start, tmp_path: Path):
    """Logs come every 7 steps and checkpoints every 20, so a window is open at most of them; one penalty is lazy.

    The kill comes after step 40, about where updates cease to have points of their own.
    """
    often = ("log.every=7", "log.full=45", "log.checkpoint=20", "log.samples=100000", "log.minutes=1000")
    penalty = ("model.discriminator.norm=none", "tricks.r1.every=5")
    tricks = "tricks=[ema,r1]"
    process = start(*often, *penalty, tricks=tricks)
    process.until(lambda: (tmp_path / "run" / "checkpoints").is_dir() and reached_any(tmp_path / "run") >= 40)
    process.send(signal.SIGKILL)
    assert process.wait().code == -signal.SIGKILL
    at = reached(tmp_path / "run")
    steps = at + 35
    resumed = nursery.run("resume", "run", f"steps={steps}", folder=tmp_path)
    assert resumed.code == 0, resumed
    whole = nursery.run(f"steps={steps}", tricks, *TINY, *often, *penalty, "hydra.run.dir=whole", folder=tmp_path)
    assert whole.code == 0, whole
    assert at % 7, "the kill must come between two logs"
    assert lines_of(tmp_path / "run") == lines_of(tmp_path / "whole")
    found, expected = points_of(tmp_path / "run"), points_of(tmp_path / "whole")
    assert found == expected
    steps_of_loss = [step for step, _ in found["loss/discriminator/total"]]
    assert steps_of_loss == [*range(1, 46), *range(49, steps, 7), steps] and "loss/discriminator/r1" in found
    assert [step for step, _ in found["window/largest/loss/generator/total"]] == [*range(49, steps, 7), steps]


def reached_any(run: Path) -> int:
    """The step of the last checkpoint; 0 without one."""
    return reached(run) if checkpoints(run) else 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_any_moment(nursery: Nursery, start, seed: int, tmp_path: Path):
    run = tmp_path / "run"
    process = start()
    process.until(lambda: checkpoints(run))
    for nap in (0.05 * seed, 0.03 * (10 - seed), 0.02):
        time.sleep(nap)
        process.send(signal.SIGKILL)
        process.wait()
        process = nursery.start("resume", str(run), folder=tmp_path)
        time.sleep(0.4)
    process.send(signal.SIGTERM)
    assert process.wait().code in (143, 0)
    goes_on_as_if_nothing_had_happened(nursery, run)


def test_a_second_ctrl_c_exits_at_once(start, tmp_path: Path):
    slow_trick(tmp_path)
    process = start("plugins=[slow]", "--config-dir=conf", tricks="tricks=[slow]")
    process.until(lambda: (tmp_path / "slow").exists())
    process.send(signal.SIGINT)
    time.sleep(0.2)
    assert process.poll() is None  # the step must end first, and takes a minute
    process.send(signal.SIGINT)
    asked = time.monotonic()
    assert process.wait().code == 130 and time.monotonic() - asked < 2


def slow_trick(folder: Path) -> None:
    """A trick of the user's that takes a minute."""
    (folder / "conf" / "tricks").mkdir(parents=True)
    (folder / "conf" / "tricks" / "slow.yaml").write_text("slow:\n  _target_: slow.Slow\n")
    (folder / "slow.py").write_text(
        "import pathlib, time\nfrom ganrun.core.trick import Trick\n"
        "class Slow(Trick):\n    def targets(self, targets):\n"
        "        pathlib.Path('slow').touch()\n        end = time.monotonic() + 60\n"
        "        while time.monotonic() < end: time.sleep(0.01)\n        return targets\n"
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_while_it_starts_leaves_nothing(nursery: Nursery, number: int, code: int, tmp_path: Path):
    process = nursery.start(LONG, *TINY, folder=tmp_path)
    process.until(lambda: (tmp_path / "outputs").exists())  # Hydra makes the folder before there is anything to run
    process.send(number)
    ended = process.wait()
    assert ended.code == code
    assert "interrupted before there was anything to save" in ended.err and len(ended.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_an_error_on_the_way_out_does_not_hide_the_signal(nursery: Nursery, tmp_path: Path):
    """As argparse fails in a `finally` when it is interrupted in the wrong place."""
    (tmp_path / "clumsy.py").write_text(
        "import os, signal, time\ntry:\n    os.kill(os.getpid(), signal.SIGTERM)\n    time.sleep(60)\n"
        "finally:\n    not_defined\n"
    )
    ended = nursery.run("plugins=[clumsy]", *TINY, folder=tmp_path)
    assert ended.code == 143 and ended.err == "ganrun: error: interrupted before there was anything to save\n"


@pytest.mark.slow
@pytest.mark.parametrize("delay", [n / 50 for n in range(15)])
def test_a_signal_at_any_moment_leaves_nothing_or_a_run(nursery: Nursery, start, delay: float, tmp_path: Path):
    process = start()
    time.sleep(delay)
    process.send(signal.SIGTERM)
    assert process.wait().code in (143, -signal.SIGTERM)  # the latter before Python could listen
    if list(tmp_path.iterdir()):
        goes_on_as_if_nothing_had_happened(nursery, tmp_path / "run")


def test_a_finished_run_says_what_would_be_more(nursery: Nursery, run: Path):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    ended = nursery.run("resume", str(run), folder=run.parent)
    assert ended.code == 0 and ended.err == ""
    assert "has all its steps already: it is at step 3" in ended.out and "ganrun resume 'my run' steps=6" in ended.out
    now = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    assert now == before


# What may change


def test_what_changed_is_told(nursery: Nursery, run: Path):
    free = ("steps=4", "log.every=2", "engine.memory=1.5", "name=again", "objective=score/real")
    warned = ("batch=5", "optim.generator.lr=0.001", "optim.decay=0.5")
    ended = nursery.run("resume", str(run), *free, *warned, folder=run.parent)
    assert ended.code == 0
    for line in ("steps: 3 -> 4", "log.every: 50 -> 2", "engine.memory: 2.0 -> 1.5", "name: ganrun -> again"):
        assert f"  {line}\n" in ended.out
    assert ended.err.splitlines() == [
        "ganrun: WARNING: resumed at step 3 with batch: 4 -> 5",
        "ganrun: WARNING: resumed at step 3 with optim.generator.lr: 0.0002 -> 0.001",
        "ganrun: WARNING: resumed at step 3 with optim.decay: 1.0 -> 0.5",
    ]
    assert "batch: 4 -> 5" in (run / "run.log").read_text()


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("model.generator.width=8", "model.generator.width: 4 -> 8 would make it another run"),
        ("seed=4", "seed: 0 -> 4"),
        ("loss=hinge", "loss=hinge would make it another run"),
        ("dataset.classes=[3]", "dataset.classes: None -> [3]"),
        ("tricks.ema.decay=0.5", "tricks.ema.decay: 0.999 -> 0.5"),
        ("game.grid=9", "game.grid: 4 -> 9"),
        ("force=[C1]", "force: [] -> ['C1'] would make it another run"),
        ("optim.generator.betas=[0,0.9]", "optim.generator.betas: [0.5, 0.999] -> [0, 0.9]"),
        ("stepz=9", "stepz: there is no such setting, expected one of "),
        ("steps=abc", "steps: 'abc'"),
        ("~steps", "expected one value for each key"),
        ("steps=4,5", "expected one value for each key"),
        ("tricks.soft_labels.real=[0.8,1]", "there is no such setting, expected one of "),
        ("trian", "neither a command nor KEY=VALUE"),
    ],
)
def test_what_may_not_change_is_refused_with_the_difference(nursery: Nursery, run: Path, typed: str, words: str):
    before = sorted((path, path.read_bytes()) for path in run.rglob("*") if path.is_file())
    line = refusal(nursery.run("resume", str(run), "steps=9", typed, folder=run.parent))
    assert words in line
    after = sorted((path, path.read_bytes()) for path in run.rglob("*") if path.is_file())
    assert [path for path, _ in after if path.name not in (".lock", "run.log")] == [
        path for path, _ in before if path.name not in (".lock", "run.log")
    ]
    assert dict(after)[run / "config.yaml"] == dict(before)[run / "config.yaml"]


def test_other_data_under_the_same_name_are_noticed(nursery: Nursery, tmp_path: Path):
    import numpy as np

    images = np.random.default_rng(0).integers(0, 256, (16, 16, 16), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    array = ("dataset=array", "dataset.path=images.npy")
    assert nursery.run("steps=1", *array, *TINY, "hydra.run.dir=run", folder=tmp_path).code == 0
    np.save(tmp_path / "moved.npy", images)
    (tmp_path / "images.npy").unlink()
    moved = nursery.run("resume", "run", "steps=2", "dataset.path=moved.npy", folder=tmp_path)
    assert moved.code == 0, moved
    np.save(tmp_path / "moved.npy", 255 - images)
    line = refusal(nursery.run("resume", "run", "steps=3", folder=tmp_path))
    assert "not those that this run was trained on" in line


# What cannot be resumed


def test_a_live_run_is_left_alone(nursery: Nursery, start, tmp_path: Path):
    process = start()
    process.until(lambda: (tmp_path / "run" / "metrics.jsonl").exists())
    line = refusal(nursery.run("resume", "run", folder=tmp_path))
    assert f"in use by a live run, process {process.pid}" in line
    assert process.poll() is None


def test_what_is_no_run(nursery: Nursery, run: Path):
    line = refusal(nursery.run("resume", "my rum", folder=run.parent))
    assert "my rum: does not exist" in line and f"Try: '{run}'" in line
    line = refusal(nursery.run("resume", "my run/checkpoints", folder=run.parent))
    assert "is not a run" in line and f"Try: '{run}'" in line
    (run / "config.yaml").write_text("{{{")
    assert "cannot be read" in refusal(nursery.run("resume", str(run), folder=run.parent))
    (run / "config.yaml").write_text("- 1\n- 2\n")
    assert "line 1: a list, expected settings" in refusal(nursery.run("resume", str(run), folder=run.parent))
    (run / "config.yaml").write_text("steps: 3\n")
    assert "not a run's configuration" in refusal(nursery.run("resume", str(run), folder=run.parent))
    (run / "config.yaml").unlink()
    assert "config.yaml" in refusal(nursery.run("resume", str(run), folder=run.parent))


def test_a_damaged_checkpoint_gives_way_to_the_one_before(nursery: Nursery, run: Path):
    assert nursery.run("resume", str(run), "steps=4", folder=run.parent).code == 0
    last = checkpoints(run)[-1]
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 1
    last.write_bytes(data)
    ended = nursery.run("resume", str(run), "steps=5", folder=run.parent)
    assert ended.code == 0 and "resuming at step 3" in ended.out and "is damaged" in ended.err
    assert same_state(run, uninterrupted(nursery, run, 5)) == []


def test_damaged_checkpoints_alone_are_refused(nursery: Nursery, run: Path):
    for path in checkpoints(run):
        path.write_bytes(path.read_bytes()[:1000])
    ended = nursery.run("resume", str(run), "steps=5", folder=run.parent)
    assert ended.code == 2 and "Traceback" not in ended.err
    assert "is damaged" in ended.err and "starting a new run" in ended.err.splitlines()[-1]


# What version 0.1 left


def version_0_1(run: Path) -> Path:
    """A run's folder as ganrun 0.1 left it."""
    (run / "checkpoints").mkdir(parents=True)
    (run / "environment.json").write_text(json.dumps({"seed": 0, "ganrun": "0.1.0", "torch": "2.11.0"}))
    old = "steps: 3\nmodel:\n  generator:\n    _target_: ganrun.models.dcgan.Generator\nplugins: []\n"
    (run / "config.yaml").write_text(old)
    return run


def test_a_run_of_version_0_1_is_refused_with_the_version_that_opens_it(nursery: Nursery, tmp_path: Path):
    run = version_0_1(tmp_path / "old")
    line = refusal(nursery.run("resume", "old", folder=tmp_path))
    assert line.startswith(f"old: a run of ganrun 0.1.0, expected one of {__version__}")
    assert "the version that wrote it" in line and "'ganrun<0.2'" in line
    (run / "environment.json").write_text(json.dumps({"ganrun": __version__}))  # a comparison that can fail
    ended = nursery.run("resume", "old", folder=tmp_path)
    assert ended.code == 2 and "0.1.0" not in ended.err and "Traceback" not in ended.err


def test_a_run_without_a_recorded_version_is_judged_by_its_configuration(nursery: Nursery, run: Path):
    (run / "environment.json").unlink()
    assert nursery.run("resume", str(run), "steps=4", folder=run.parent).code == 0


# A configuration that somebody else wrote


EVIL = """
import pathlib
from ganrun.core.trick import Trick
pathlib.Path(__file__).with_name("ran").touch()
class Evil(Trick):
    def __init__(self, **settings):
        super().__init__()
"""


@pytest.mark.parametrize(
    ("place", "node"),
    [
        ("model.generator", {"_target_": "os.system", "command": "touch ran"}),
        ("loss", {"_target_": "subprocess.Popen", "args": ["touch", "ran"]}),
        ("tricks.x", {"_target_": "evil.Evil"}),
        ("tricks.x", {"_target_": "ganrun.run.session.sys.modules", "a": 1}),
        ("optim.generator.lr", {"_target_": "torch.load", "f": "evil.pt"}),
        ("optim.generator", {"_target_": "torch.optim.adam.warnings.os.system", "lr": 0.1, "command": "touch ran"}),
        ("hydra", {"callbacks": {"x": {"_target_": "evil.Evil"}}}),
        ("steps", "${oc.env:PATH}"),
        ("plugins", ["evil"]),
    ],
)
def test_a_foreign_configuration_runs_nothing(nursery: Nursery, run: Path, place: str, node: object):
    (run.parent / "evil.py").write_text(EVIL)
    settings = config(run) | {"steps": 9}
    *path, last = place.split(".")
    inner = settings
    for word in path:
        inner = inner[word]
    inner[last] = node
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    ended = nursery.run("resume", str(run), folder=run.parent, PYTHONPATH=str(run.parent))
    assert not [path for path in run.parent.rglob("ran")]
    if place != "hydra":  # what is not ours to read is ignored
        refusal(ended)


def test_a_name_from_the_environment_is_not_obeyed_as_a_number(nursery: Nursery, run: Path):
    text = (run / "config.yaml").read_text().replace("steps: 3", "steps: ${oc.env:STEPS}")
    (run / "config.yaml").write_text(text)
    assert "steps: '7'" in refusal(nursery.run("resume", str(run), folder=run.parent, STEPS="7"))
    assert os.environ.get("STEPS") is None
