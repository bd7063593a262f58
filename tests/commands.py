"""`ganrun` as a user starts it, in real processes.

PyTorch's import costs seconds, so most processes here are forked from one that has imported everything and done nothing
else. `fresh` starts one from scratch where that is what a test is about.
"""

from __future__ import annotations

import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
# The least that trains: a second or so on one core.
TINY = (
    "model=dcgan",
    "model.generator.width=4",
    "model.discriminator.width=4",
    "dataset=digits",
    "dataset.held_out=0",
    "dataset.resolution=16",
    "metrics=none",
    "diagnosis=none",
    "batch=4",
    "engine.device=cpu",
    "game.grid=4",
)
PATIENCE = 90.0  # seconds, for what takes a few

NURSERY = """
import atexit, gc, json, os, sys, threading
sys.path[0] = ""  # as python -m has it
import torch, torchvision, tensorboard  # what runs import
import torch.utils.tensorboard, torch.testing._comparison
import ganrun.cli.main, ganrun.config.compose, ganrun.config.resume, ganrun.run.session, ganrun.run.sweep
import ganrun.cli.help
import ganrun.data.datasets.bundled, ganrun.data.datasets.array
gc.freeze()  # or every child would look through all of it
for line in sys.stdin:
    order = json.loads(line)
    if "wait" in order:
        pid, status = os.waitpid(order["wait"], os.WNOHANG)
        answer = os.waitstatus_to_exitcode(status) if pid else None
        print(json.dumps(answer), flush=True)
        continue
    pid = os.fork()
    if pid == 0:
        break
    print(json.dumps(pid), flush=True)
else:
    os._exit(0)
os.setsid()
for number, path in enumerate(order["files"]):
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, number)
    os.close(file)
sys.stdin = open(0)
os.environ.clear()
os.environ.update(order["environment"])
os.chdir(order["folder"])
sys.path[1:1] = [path for path in os.environ.get("PYTHONPATH", "").split(":") if path]
sys.argv = ["ganrun", *order["arguments"]]
code = 1
try:
    code = ganrun.cli.main.main()
except SystemExit as end:
    code = end.code if isinstance(end.code, int) else 1
except BaseException:
    sys.excepthook(*sys.exc_info())
threading._shutdown()  # the end of an interpreter, but for taking apart what was imported
atexit._run_exitfuncs()
sys.stdout.flush()
sys.stderr.flush()
os._exit(code)
"""


@dataclass(frozen=True)
class Ended:
    """A process that has ended, and what it said."""

    code: int
    out: str
    err: str
    seconds: float
    cpu: float = 0.0  # seconds of work, which do not depend on what else the machine does

    @property
    def run(self) -> Path:
        """The folder of the run that it tells of."""
        lines = [line for line in self.out.splitlines() if line.startswith("run ")]
        assert len(lines) == 1, self
        return Path(shlex.split(lines[0])[1])


def environment(**more: str) -> dict[str, str]:
    """One thread, so that tests side by side do not wait for each other; this checkout."""
    paths = [str(ROOT), *filter(None, [more.pop("PYTHONPATH", "")])]
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HYDRA_", "GANRUN_TAG", "COLUMNS"))}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)  # as a user has it: compiled once
    cache = str(ROOT / ".pytest_cache" / "bytecode")
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": ":".join(paths), "PYTHONPYCACHEPREFIX": cache} | more


def fresh(*arguments: str, folder: Path, python: Sequence[str] = (), **more: Any) -> Ended:
    """`python -m ganrun` from scratch."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, *python, "-m", "ganrun", *arguments]
    ended = subprocess.run(
        command, cwd=folder, env=environment(**more), capture_output=True, text=True, timeout=PATIENCE
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Ended(ended.returncode, ended.stdout, ended.stderr, time.monotonic() - began, cpu)


class Started:
    """A process of ganrun that may still be running."""

    def __init__(self, nursery: Nursery, pid: int, out: Path, err: Path):
        self.nursery, self.pid, self._out, self._err = nursery, pid, out, err
        self.began = time.monotonic()
        self.code: int | None = None

    @property
    def out(self) -> str:
        return self._out.read_text(errors="replace")

    @property
    def err(self) -> str:
        return self._err.read_text(errors="replace")

    def poll(self) -> int | None:
        if self.code is None:
            self.code = self.nursery.ask(wait=self.pid)
        return self.code

    def send(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def send_group(self, number: int) -> None:
        """As a terminal does: to the process and to all that it started."""
        if self.poll() is None:
            os.killpg(self.pid, number)

    def wait(self, patience: float = PATIENCE) -> Ended:
        deadline = self.began + patience
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.send_group(signal.SIGKILL)
                raise AssertionError(f"still running after {patience} s:\n{self.out}\n{self.err}")
            time.sleep(0.01)
        assert self.code is not None
        return Ended(self.code, self.out, self.err, time.monotonic() - self.began)

    def until(self, sign: Callable[[], Any], patience: float = PATIENCE) -> Any:
        """Wait for something to be true while the process runs."""
        deadline = time.monotonic() + patience
        while not (value := sign()):
            assert self.poll() is None, f"ended with {self.code} before the sign:\n{self.out}\n{self.err}"
            assert time.monotonic() < deadline, f"no sign after {patience} s:\n{self.out}\n{self.err}"
            time.sleep(0.005)
        return value


class Nursery:
    """A process that has imported everything, from which others are forked."""

    def __init__(self, scratch: Path):
        self.scratch, self.count = scratch, 0
        command = [sys.executable, "-c", NURSERY]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
        )

    def ask(self, **order: Any) -> Any:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, *arguments: str, folder: Path, terminal: str = "", **more: str) -> Started:
        """Start `ganrun` in this folder; `terminal` is the path of one that it is to talk to."""
        self.count += 1
        chosen = {word.partition("=")[0] for word in arguments if word not in TINY}
        arguments = tuple(word for word in arguments if word not in TINY or word.partition("=")[0] not in chosen)
        out, err = (self.scratch / f"{self.count}.{name}" for name in ("out", "err"))
        out.touch()
        err.touch()
        files = [terminal] * 3 if terminal else ["/dev/null", str(out), str(err)]
        pid = self.ask(
            arguments=list(map(str, arguments)), folder=str(folder), files=files, environment=environment(**more)
        )
        return Started(self, pid, out, err)

    def run(self, *arguments: str, folder: Path, patience: float = PATIENCE, **more: str) -> Ended:
        return self.start(*arguments, folder=folder, **more).wait(patience)

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(10)


def refusal(ended: Ended, folder: Path | None = None) -> str:
    """The one line of a refusal; nothing else was said, and nothing was left behind."""
    assert ended.code == 2, ended
    assert ended.out == "", ended
    lines = ended.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("ganrun: error: "), ended
    if folder is not None:
        assert not list(folder.iterdir()), f"left behind: {list(folder.rglob('*'))}"
    return lines[0].removeprefix("ganrun: error: ")


def checkpoints(run: Path) -> list[Path]:
    return sorted((run / "checkpoints").glob("step_*.pt"))


def config(run: Path) -> dict[str, Any]:
    return yaml.safe_load((run / "config.yaml").read_text())


def same_state(one: Path, other: Path) -> list[str]:
    """Where the last checkpoints of two runs differ, bit by bit, but for the configuration and the metrics recorded."""
    found = states_differ(checkpoints(one)[-1], checkpoints(other)[-1])
    return [key for key in found if not key.startswith(".callbacks")]


def states_differ(one: Path, other: Path) -> list[str]:
    """Where two checkpoints differ, bit by bit, but for the configuration, which holds paths."""
    import torch

    def leaves(value: Any, where: str) -> dict[str, Any]:
        if isinstance(value, dict):
            return {k: v for key, item in value.items() for k, v in leaves(item, f"{where}.{key}").items()}
        if isinstance(value, (list, tuple)):
            return {k: v for i, item in enumerate(value) for k, v in leaves(item, f"{where}[{i}]").items()}
        return {where: value}

    a, b = (leaves(torch.load(path, weights_only=True)["state"], "") for path in (one, other))
    assert any(isinstance(value, torch.Tensor) for value in a.values())
    return [k for k in a.keys() | b.keys() if k != ".config" and not _same(a.get(k), b.get(k))]


def _same(one: Any, other: Any) -> bool:
    import torch

    both = isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)
    return torch.equal(one, other) if both else type(one) is type(other) and one == other


def lines_of(run: Path) -> list[dict]:
    """metrics.jsonl without what depends on the clock."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("time", "training/images_per_second")} for line in lines]


def points_of(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Every curve as TensorBoard reads it, over all event files of the run, without what depends on the clock."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag != "training/images_per_second"]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}
