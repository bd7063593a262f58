"""Checkpoints: whole or not there, never poisoned, never code."""

import logging
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import OrderedDict
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch

from ganrun.core.errors import ConfigError, EnvironmentFailed, Stopped
from ganrun.record.checkpoint import FORMAT, Checkpoints


def state(step: int = 0, size: int = 1000) -> dict:
    torch.manual_seed(step)
    network = torch.nn.Linear(size // 10, 10)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.rand(2, size // 10)).sum().backward()
    optimizer.step()
    return {
        "step": step,
        "game": network.state_dict(),
        "optimizers": {"generator": optimizer.state_dict()},
        "half": torch.ones(3, dtype=torch.bfloat16),
        "seen": torch.tensor([1, 2]),
        "flag": torch.tensor(True),
        "config": '{"a": 1}',
        "extra": (None, True, 1.5, ["x"]),
    }


def equal(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b) and a.dtype == b.dtype
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def commit(folder: Path, step: int, content: object) -> Path:
    """A file whose name carries the right digest, whatever is in it."""
    temporary = folder / "temporary"
    torch.save(content, temporary)
    digest = sha256(temporary.read_bytes()).hexdigest()[:16]
    return temporary.rename(folder / f"step_{step:08d}.{digest}.pt")


@pytest.fixture
def checkpoints(tmp_path) -> Checkpoints:
    return Checkpoints(tmp_path, keep=2)


def test_what_is_saved_is_loaded(checkpoints):
    path = checkpoints.save(5, state(5))
    assert path.name.startswith("step_00000005.") and "=" not in path.name
    assert path.name.split(".")[1] == sha256(path.read_bytes()).hexdigest()[:16]
    assert checkpoints.latest() == path
    assert equal(checkpoints.load(), state(5)) and equal(checkpoints.load(path), state(5))
    assert torch.load(path, weights_only=True)["step"] == 5  # a plain torch file


def test_at_least_two_are_kept(checkpoints):
    for step in (1, 2, 3, 4):
        checkpoints.save(step, state(step))
    assert [path.name[:13] for path in sorted(checkpoints.folder.iterdir())] == ["step_00000003", "step_00000004"]
    with pytest.raises(ConfigError, match="at least 2"):
        Checkpoints(checkpoints.folder, keep=1)


def test_every_flipped_bit_is_found(checkpoints):
    path = checkpoints.save(1, state(1))
    whole, rng = path.read_bytes(), random.Random(0)
    places = {0, len(whole) - 1, *(rng.randrange(len(whole)) for _ in range(300))}
    for place in sorted(places):
        broken = bytearray(whole)
        broken[place] ^= 1 << rng.randrange(8)
        path.write_bytes(broken)
        with pytest.raises(ConfigError, match="damaged"):
            checkpoints.load(path)
    path.write_bytes(whole)
    assert equal(checkpoints.load(), state(1))


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: b"", lambda data: b"<html>" * 99])
def test_a_damaged_newest_is_passed_over_with_a_warning(checkpoints, damage, caplog):
    checkpoints.save(1, state(1))
    path = checkpoints.save(2, state(2))
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert checkpoints.load()["step"] == 1
    assert path.name in caplog.text
    with pytest.raises(ConfigError, match="damaged"):
        checkpoints.load(path)
    for other in checkpoints.folder.iterdir():
        other.write_bytes(b"")
    with pytest.raises(ConfigError, match="at least one whole checkpoint"):
        checkpoints.load()


def test_no_checkpoint_at_all_is_refused(checkpoints, tmp_path):
    assert checkpoints.latest() is None
    with pytest.raises(ConfigError, match="no checkpoints"):
        checkpoints.load()
    with pytest.raises(ConfigError, match="does not exist"):
        checkpoints.load(tmp_path / "step_00000001.0123456789abcdef.pt")
    with pytest.raises(ConfigError, match="not a checkpoint's name"):
        checkpoints.load(tmp_path / "model.pt")


def test_a_damaged_one_never_displaces_a_whole_one(checkpoints):
    for step in (1, 2):
        path = checkpoints.save(step, state(step))
    path.write_bytes(b"damaged")
    assert checkpoints.load()["step"] == 1
    checkpoints.save(2, state(2) | {"again": 1})  # resumed from 1, now at 2 once more
    whole = [torch.load(p, weights_only=True)["step"] for p in checkpoints.folder.glob("step_*.pt")]
    assert sorted(whole) == [1, 2]


def test_going_on_from_an_older_one_sets_the_newer_aside(checkpoints):
    for step in (1, 9):
        newer = checkpoints.save(step, state(step))
    checkpoints.save(2, state(2))
    latest = checkpoints.latest()
    assert latest is not None and latest.name.startswith("step_00000002")
    assert newer.with_name(newer.name + ".superseded").exists()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_never_committed(checkpoints, number):
    checkpoints.save(1, state(1))
    poisoned = state(2)
    poisoned["game"]["weight"][3, 7] = number
    with pytest.raises(Stopped, match=r"step 2: game\.weight"):
        checkpoints.save(2, poisoned)
    poisoned = state(2)
    poisoned["optimizers"]["generator"]["state"][1]["exp_avg"][0] = number
    with pytest.raises(Stopped, match=r"optimizers\.generator\.state\.1\.exp_avg"):
        checkpoints.save(2, poisoned)
    for place in ({"x": [torch.tensor(number, dtype=torch.bfloat16)]}, {"x": [number]}):
        with pytest.raises(Stopped, match=r"x\[0\]"):
            checkpoints.save(2, place)
    assert len(list(checkpoints.folder.iterdir())) == 1 and checkpoints.load()["step"] == 1


@pytest.mark.parametrize("value", [Path("x"), np.float64(1), np.zeros(2), {1, 2}, object(), torch.optim.Adam])
def test_what_a_safe_load_would_refuse_is_never_saved(checkpoints, value):
    with pytest.raises(TypeError, match=r"cannot hold a\.b"):
        checkpoints.save(1, {"a": OrderedDict(b=value)})
    assert not list(checkpoints.folder.iterdir())


class Malicious:
    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return (os.mkdir, (str(self.target),))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_malicious_file_does_not_run(checkpoints, tmp_path):
    target = tmp_path / "pwned"
    checkpoints.save(1, state(1))
    torch_file = commit(tmp_path, 2, {"format": FORMAT, "state": Malicious(target)})
    bare = tmp_path / "bare"
    bare.write_bytes(pickle.dumps(Malicious(target)))
    bare = bare.rename(tmp_path / f"step_00000003.{sha256(bare.read_bytes()).hexdigest()[:16]}.pt")
    for path in (torch_file, bare):
        with pytest.raises(ConfigError, match="more than tensors and plain values"):
            checkpoints.load(path)
    assert checkpoints.load()["step"] == 1 and not target.exists()
    torch.load(torch_file, weights_only=False)  # the payload is a real one
    assert target.exists()


def test_newer_and_foreign_files_are_refused(checkpoints, tmp_path):
    checkpoints.save(1, state(1))
    newer = commit(tmp_path, 2, {"format": FORMAT + 1, "other": 1})
    for path in (newer, None):  # not passed over: going on from an older one would lose work in silence
        with pytest.raises(ConfigError, match=f"format {FORMAT + 1}.*Try: a newer ganrun"):
            checkpoints.load(path)
    older = commit(tmp_path, 4, {"format": 1, "step": 4, "state": {"step": 4}})
    with pytest.raises(ConfigError, match=r"a checkpoint of ganrun 0\.1 \(format 1\).*'ganrun<0\.2'") as refused:
        checkpoints.load(older)
    assert len(refused.value.lines) == 1
    older.unlink()
    for foreign in ({"weights": torch.ones(1)}, [1], {"format": FORMAT}, {"format": True, "state": {}}):
        with pytest.raises(ConfigError, match="not a checkpoint of ganrun"):
            checkpoints.load(commit(tmp_path, 3, foreign))


SAVE = """
import itertools, os, sys, torch
from pathlib import Path
from ganrun.record.checkpoint import Checkpoints
torch.set_num_threads(1)
checkpoints = Checkpoints(Path(sys.argv[1]), keep=2)
for _ in sys.stdin:
    child = os.fork()  # a new process for each line, without importing torch again
    if child:
        print(child, flush=True)
        os.waitpid(child, 0)
        print("killed", flush=True)
        continue
    first = checkpoints.load()["step"] if checkpoints.latest() else 0
    for step in itertools.count(first + 1):
        checkpoints.save(step, {"step": step, "weights": torch.full((500_000,), float(step))})
        os.write(1, f"{step}\\n".encode())
"""


def test_killed_while_saving_the_latest_loads(tmp_path):
    rng, told, patience = random.Random(1), 0, 0.1
    checkpoints = Checkpoints(tmp_path, keep=2)
    command = [sys.executable, "-c", SAVE, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdin is not None and process.stdout is not None
        for _ in range(20):
            process.stdin.write("go\n")
            child = int(process.stdout.readline())
            time.sleep(0.01 + rng.random() * patience)
            patience *= 1 if told else 2  # a busy machine saves nothing so soon
            os.kill(child, signal.SIGKILL)
            told = max([told, *(int(line) for line in iter(process.stdout.readline, "killed\n"))])
            if told:
                loaded = checkpoints.load(checkpoints.latest())  # the very latest, not the one before
                assert loaded["step"] >= told and torch.all(loaded["weights"] == loaded["step"])
        process.stdin.close()
    assert told > 3
    checkpoints.save(told + 100, state())
    assert not list(tmp_path.glob(".*")), "leftovers of killed saves are removed"


def test_a_file_that_may_not_grow_is_a_failure_of_the_machine(checkpoints):
    older = checkpoints.save(1, state(1))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(EnvironmentFailed, match=rf"cannot save .*{older.name} is intact"):
            checkpoints.save(2, state(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert list(checkpoints.folder.iterdir()) == [older] and checkpoints.load()["step"] == 1


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("mount"), reason="needs to mount a small disk")
def test_a_full_disk_leaves_the_older_ones_intact(tmp_path):
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        checkpoints = Checkpoints(tmp_path, keep=2)
        for step in (1, 2):
            checkpoints.save(step, {"step": step, "weights": torch.rand(50_000)})
        with pytest.raises(EnvironmentFailed, match=r"No space left on device; step_00000002.* is intact$"):
            checkpoints.save(3, {"step": 3, "weights": torch.rand(200_000)})
        assert len(list(tmp_path.iterdir())) == 2 and checkpoints.load()["step"] == 2
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_save_that_failed_holds_on_to_no_bytes(tmp_path: Path):
    """A view that outlives its buffer keeps the whole checkpoint in memory, and Python 3.13 complains of the order."""
    with pytest.raises(EnvironmentFailed) as failure:
        Checkpoints(tmp_path / "gone", keep=2).save(1, state())
    frames = [entry.frame.f_locals for entry in failure.traceback]
    views = [value for names in frames for value in names.values() if isinstance(value, memoryview)]
    assert views
    for view in views:
        with pytest.raises(ValueError, match="released"):
            len(view)
