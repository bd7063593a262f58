"""Kill real runs at random moments, resume them, and compare each with one that was never interrupted.

    .venv/bin/python scripts/torture.py                     # 100 kills, a few minutes on one core
    .venv/bin/python scripts/torture.py --kills 500 --seed 1
    .venv/bin/python scripts/torture.py --only disk --kills 20

Real processes and real signals: KILL, TERM, INT and HUP to a run and to its group, KILL to its workers, to the other
process of two, to sweeps and to their jobs, and a disk that fills. A moment is anywhere in the life of a process, its
start and its end included. A run is a child of one process that has imported torch and done nothing else, which saves
seconds for each; a sweep is started as a user does. The disk is a tmpfs of its own, or, where none can be mounted, a
limit to the size of files.

Compared are the last checkpoint, bit for bit, the best one, every line of metrics.jsonl and every point of every curve
without what the clock decides, and summary.json with the objective. Prints one table. Exits with 1 when work was lost,
anything differs, or a process ended in another way than it should have.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from commands import (  # type: ignore[import-not-found]  # noqa: E402
    TINY,
    Nursery,
    checkpoints,
    environment,
    lines_of,
    points_of,
    states_differ,
)

from ganrun.core.errors import ConfigError  # noqa: E402
from ganrun.record.checkpoint import Checkpoints  # noqa: E402
from ganrun.record.folder import is_run  # noqa: E402

STEPS = 60
OFTEN = (f"steps={STEPS}", "log.every=7", "log.checkpoint=10", "log.samples=25", "log.best=loss/generator/adversarial",
         "objective=score/real")  # fmt: skip
PATIENCE = 120.0  # seconds in which every process must have ended that was told to
CHAIN = 4  # kills of one run
GENTLE = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
CLOCK = ("training/images_per_second", "time")


@dataclass(frozen=True)
class Scenario:
    """A kind of run, and what happens to it."""

    name: str
    overrides: tuple[str, ...]
    hits: tuple[str, ...]  # who is hit by what, such as `run KILL`
    share: int  # of the kills
    prepare: Callable[[Path], None] = lambda place: None


@dataclass
class Tally:
    """What came of one kind of hit in one scenario."""

    kills: int = 0
    lost: int = 0  # work before the last committed checkpoint, or that checkpoint
    differences: int = 0  # of finished runs that were hit in this way last
    odd: int = 0  # ended in another way than it should have
    slowest: float = 0.0  # seconds from the hit to the end


@dataclass
class Report:
    """Every tally, and a line for all that went wrong."""

    tallies: dict[tuple[str, str], Tally] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def of(self, scenario: Scenario, hit: str) -> Tally:
        """The tally of this hit."""
        return self.tallies.setdefault((scenario.name, hit), Tally())


def pictures(place: Path) -> None:
    """A folder of 40 pictures."""
    (place / "pictures").mkdir(exist_ok=True)
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / "pictures" / f"{number:02d}.png")


STREAMED = ("dataset=folder", "dataset.path=pictures", "engine.memory=0", "engine.workers=2")
SCENARIOS = (
    Scenario("default", (), ("run KILL", "run TERM", "run INT", "run HUP"), 28),
    Scenario(
        "streamed by 2 workers",
        STREAMED,
        ("run KILL", "run TERM", "run INT", "group TERM", "group INT", "worker KILL", "worker KILL"),
        24,
        pictures,
    ),
    Scenario(
        "tricks with state",
        ("tricks=[ema,replay,lecam,historical_averaging,checkpoint_swap,instance_noise,noisy_labels]",
         "tricks.replay.size=16", "tricks.checkpoint_swap.interval=5", "tricks.checkpoint_swap.p=0.5"),
        ("run KILL", "run TERM", "run INT"),
        16,
    ),
    Scenario(
        "ada, lazy r1, rate decay",
        ("tricks=[ema,ada,r1,lr_decay]", "model.discriminator.norm=none", "tricks.r1.every=5", "tricks.ada.start=0.3"),
        ("run KILL", "run TERM"),
        12,
    ),
    Scenario(
        "two processes",
        ("engine.ranks=2",),
        ("run KILL", "run TERM", "run INT", "group TERM", "rank KILL", "rank KILL"),
        12,
    ),
    Scenario("a disk that fills", STREAMED, ("disk FULL",), 15, pictures),
    Scenario("sweep", (), ("sweep KILL", "sweep TERM", "sweep INT", "job KILL"), 5),
)  # fmt: skip


class Disk:
    """A small disk that can be filled: a tmpfs, or else a limit to the size of files."""

    def __init__(self, place: Path):
        self.place = place
        command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)]
        self.mounted = bool(shutil.which("mount")) and not subprocess.run(command, capture_output=True).returncode

    def fill(self, pid: int) -> None:
        """Leave no room for this process."""
        if not self.mounted:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (512, resource.RLIM_INFINITY))
            return
        with suppress(OSError), (self.place / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def clear(self) -> None:
        """Make room again. A limit is gone with its process."""
        (self.place / "filler").unlink(missing_ok=True)

    def close(self) -> None:
        """Take the disk away."""
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.place)], check=True)


class Process:
    """A process of ganrun: a child of the nursery, or, for a sweep, one of its own."""

    def __init__(self, nursery: Nursery, arguments: Sequence[str], folder: Path, *, fresh: bool):
        self.began = time.monotonic()
        if fresh:
            self.errors = tempfile.TemporaryFile()  # noqa: SIM115
            command = [sys.executable, "-P", "-m", "ganrun", *arguments]
            null = subprocess.DEVNULL
            self.own: Any = subprocess.Popen(
                command,
                cwd=folder,
                env=environment(),
                stdin=null,
                stdout=null,
                stderr=self.errors,
                start_new_session=True,
            )
        else:
            self.own = nursery.start(*arguments, folder=folder)
        self.pid: int = self.own.pid
        self.fresh = fresh

    def code(self) -> int | None:
        """The exit code; None while it lives."""
        found: int | None = self.own.poll()
        return found

    def error_output(self) -> str:
        """What it has written to standard error."""
        if not self.fresh:
            return str(self.own.err)
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")

    def below(self, word: str = "") -> list[psutil.Process]:
        """The processes that it started."""
        with suppress(psutil.NoSuchProcess):
            return [child for child in psutil.Process(self.pid).children(recursive=True) if word in _command(child)]
        return []

    def wait(self, patience: float = PATIENCE) -> int:
        """Wait for its end, and that of all it started; returns the exit code. Raises TimeoutError."""
        end = time.monotonic() + patience
        while (code := self.code()) is None or _group(self.pid):
            if time.monotonic() > end:
                with suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
                raise TimeoutError(f"{'left processes behind' if code is not None else 'still running'}")
            time.sleep(0.01)
        return code


def _group(leader: int) -> bool:
    """Whether anything of this process group still runs."""
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return any(_runs_in(process, leader) for process in psutil.process_iter())


def _runs_in(process: psutil.Process, group: int) -> bool:
    """Whether this process is of the group, and is not only waiting to be asked how it ended."""
    try:
        return os.getpgid(process.pid) == group and bool(process.status() != psutil.STATUS_ZOMBIE)
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def strike(process: Process, hit: str, disk: Disk | None) -> bool:
    """Hit once; returns whether there was anything to hit."""
    who, what = hit.split()
    with suppress(ProcessLookupError, psutil.NoSuchProcess):
        if process.code() is not None:
            return False
        if who == "disk":
            assert disk is not None
            disk.fill(process.pid)
        elif who == "group":
            os.killpg(process.pid, signal.Signals[f"SIG{what}"])
        elif who in ("worker", "job", "rank"):
            some = process.below("" if who == "worker" else "-m ganrun")
            for child in some[:1]:
                child.kill()
            return bool(some)
        else:
            os.kill(process.pid, signal.Signals[f"SIG{what}"])
        return True
    return False


def expected(hit: str) -> set[int]:
    """The exit codes that a process may end with after this hit. It may have been done, or deaf at its very start."""
    who, what = hit.split()
    if who in ("worker", "rank", "disk", "job"):
        return {"worker": {0, 4}, "rank": {0, 4}, "disk": {0, 2, 4}, "job": {0, 5}}[who]
    number = signal.Signals[f"SIG{what}"]
    return {-number} if number not in GENTLE else {0, 128 + number, -number}


def reached(run: Path) -> int:
    """The step of the newest checkpoint, which must be whole; 0 without one."""
    if not checkpoints(run):
        return 0
    found = Checkpoints(run / "checkpoints", keep=2)
    latest = found.latest()
    return int(found.load(latest)["step"])


def runs_of(place: Path, scenario: Scenario, name: str) -> list[Path]:
    """The folders that a run, or a sweep, of this name has."""
    return [place / name / "0", place / name / "1"] if scenario.name == "sweep" else [place / name]


def command(scenario: Scenario, name: str, runs: Sequence[Path]) -> list[str]:
    """What is typed: for a run that is there `resume`, for a sweep the same again."""
    typed = [*OFTEN, *TINY, *scenario.overrides]
    if scenario.name == "sweep":
        return ["-m", *typed, "seed=1,2", f"hydra.sweep.dir={name}"]
    return ["resume", name] if is_run(runs[0]) else [*typed, f"hydra.run.dir={name}"]


def differences(whole: Path, run: Path) -> list[str]:
    """In what a run that was hit differs from one that was not."""
    found = [f"state: {key}" for key in states_differ(checkpoints(whole)[-1], checkpoints(run)[-1])]
    one, other = (_summary(path) for path in (whole, run))
    found += [f"summary: {key}" for key in one.keys() | other.keys() if one.get(key) != other.get(key)]
    if not found and (step := one["best"]["step"]) is not None:
        best = [Checkpoints(path / "checkpoints", keep=2).at(step) for path in (whole, run)]
        found += ["no best checkpoint"] if None in best else [f"best: {key}" for key in states_differ(*best)]
        link = run / "checkpoints" / "best.pt"
        found += [] if best[1] and link.read_bytes() == best[1].read_bytes() else ["best.pt is another checkpoint"]
        found += [] if np.array_equal(_best_picture(whole), _best_picture(run)) else ["best.png is another picture"]
    found += ["metrics.jsonl"] if lines_of(whole) != lines_of(run) else []
    found += ["findings.jsonl"] if findings_of(whole) != findings_of(run) else []
    points = [points_of(path) for path in (whole, run)]
    return found + [f"points: {k}" for k in points[0].keys() | points[1].keys() if points[0].get(k) != points[1].get(k)]


def _best_picture(run: Path) -> np.ndarray:
    return np.asarray(Image.open(run / "checkpoints" / "best.png"))


def findings_of(run: Path) -> str:
    """What a run has found, line by line; empty where it was not watched."""
    path = run / "findings.jsonl"
    return path.read_text() if path.exists() else ""


def _summary(run: Path) -> dict[str, Any]:
    summary = json.loads((run / "summary.json").read_text())
    summary["final"] = {key: value for key, value in summary["final"].items() if not key.startswith(CLOCK)}
    return summary


def done(runs: Sequence[Path]) -> bool:
    """Whether every run has come to its end."""
    with suppress(OSError, ValueError):
        return all(json.loads((run / "summary.json").read_text())["step"] == STEPS for run in runs)
    return False


class Chain:
    """One run, hit a few times and resumed each time, until it is done."""

    def __init__(self, scenario: Scenario, place: Path, nursery: Nursery, rng: random.Random, report: Report):
        self.scenario, self.place, self.nursery, self.rng, self.report = scenario, place, nursery, rng, report
        self.runs = runs_of(place, scenario, "run")
        self.hit = scenario.hits[0]
        self.at: dict[Path, int] = {}
        self.seconds = 0.0  # of the life of a process

    def play(self, seconds: float, kills: int, disk: Disk | None) -> int:
        """Hit it at most so often, at moments of a life of these seconds; returns how often."""
        hits, self.seconds = 0, seconds
        for _ in range(10 * CHAIN):
            process = self._start()
            if hits < kills:
                struck = self._one(process, self.rng.uniform(0, self.seconds), disk)
                hits += struck
                if not struck:  # it was done before: the first run, on a cold machine, takes longest
                    self.seconds = min(self.seconds, time.monotonic() - process.began)
            elif (code := self._end(process)) != 0:
                self._wrong("odd", f"the last start ended with {code}: {process.error_output()[-300:]}")
                break
            if done(self.runs):
                break
        self._compare()
        return hits

    def _start(self) -> Process:
        arguments = command(self.scenario, "run", self.runs)
        return Process(self.nursery, arguments, self.place, fresh=self.scenario.name == "sweep")

    def _one(self, process: Process, nap: float, disk: Disk | None) -> bool:
        self.hit = self.rng.choice(self.scenario.hits)
        end = process.began + nap
        while process.code() is None and time.monotonic() < end:
            time.sleep(0.002)
        struck, began = strike(process, self.hit, disk), time.monotonic()
        code = self._end(process)
        if disk is not None:
            disk.clear()
        tally = self.report.of(self.scenario, self.hit)
        tally.kills += struck
        tally.slowest = max(tally.slowest, time.monotonic() - began if struck else 0.0)
        if code not in (expected(self.hit) if struck else {0}) or _traceback(process.error_output()):
            self._wrong("odd", f"exit code {code}: {process.error_output()[-300:]}")
        self._check_kept()
        return struck

    def _end(self, process: Process) -> int | None:
        try:
            return process.wait()
        except TimeoutError as error:
            self._wrong("odd", str(error))
            return None

    def _check_kept(self) -> None:
        """Nothing that was committed may be gone or damaged."""
        for run in self.runs:
            try:
                step = reached(run)
            except ConfigError as error:
                self._wrong("lost", str(error))
                continue
            if step < self.at.get(run, 0):
                self._wrong("lost", f"{run.name}: step {self.at[run]} was committed, and it is at {step}")
            self.at[run] = step

    def _compare(self) -> None:
        for whole, run in zip(runs_of(self.place, self.scenario, "whole"), self.runs, strict=True):
            try:
                found = differences(whole, run)
            except (OSError, ValueError, IndexError, KeyError) as error:
                found = [f"not finished: {error!r}"]
            if found:
                self._wrong("differences", "; ".join(found[:5]))

    def _wrong(self, kind: str, what: str) -> None:
        tally = self.report.of(self.scenario, self.hit)
        setattr(tally, kind, getattr(tally, kind) + 1)
        self.report.wrong.append(f"{self.scenario.name}, {self.hit}: {what}")


def _traceback(told: str) -> bool:
    """Whether this tells of a bug. A Ctrl-C before ganrun is imported is Python's."""
    return "Traceback" in told and "KeyboardInterrupt" not in told


def torture(scenario: Scenario, kills: int, rng: random.Random, nursery: Nursery, place: Path, report: Report) -> None:
    """Hit runs of this scenario until it had its number of kills."""
    place.mkdir(parents=True)
    disk = Disk(place) if "disk FULL" in scenario.hits else None
    try:
        scenario.prepare(place)
        seconds = _whole(scenario, nursery, place)
        hits = 0
        while hits < kills:
            chain = Chain(scenario, place, nursery, rng, report)
            hits += chain.play(seconds, min(CHAIN, kills - hits), disk)
            seconds = chain.seconds
            shutil.rmtree(place / "run", ignore_errors=True)
    finally:
        if disk is not None:
            disk.close()


def _whole(scenario: Scenario, nursery: Nursery, place: Path) -> float:
    """Play it once without a hit; returns how many seconds that took."""
    runs = runs_of(place, scenario, "whole")
    process = Process(nursery, command(scenario, "whole", runs), place, fresh=scenario.name == "sweep")
    code = process.wait(10 * PATIENCE)
    if code:
        raise SystemExit(f"{scenario.name}: the run without a hit ended with {code}: {process.error_output()[-500:]}")
    return time.monotonic() - process.began


def shares(kills: int, scenarios: Sequence[Scenario]) -> list[int]:
    """How many of the kills each scenario gets: by its share, and one at least."""
    total = sum(scenario.share for scenario in scenarios)
    return [max(1, round(kills * scenario.share / total)) for scenario in scenarios]


def table(report: Report) -> Iterator[str]:
    """The tallies in Markdown."""
    heads = ("scenario", "hit", "kills", "lost", "differences", "odd endings", "slowest end, s")
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    rows = [(*key, t.kills, t.lost, t.differences, t.odd, t.slowest) for key, t in report.tallies.items()]
    sums = [sum(row[column] for row in rows) for column in range(2, 6)]  # type: ignore[misc]
    for row in [*rows, ("all", "", *sums, max(row[6] for row in rows))]:
        yield f"| {' | '.join(map(str, row[:6]))} | {row[6]:.1f} |"


@contextmanager
def _scratch(folder: Path | None) -> Iterator[Path]:
    """The folder that was asked for, which stays, or one that goes."""
    if folder is not None:
        yield folder.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="torture-", ignore_cleanup_errors=True) as made:
        yield Path(made)


def main(arguments: Sequence[str] | None = None) -> int:
    """Torture, print the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the moments and signals")
    parser.add_argument("--only", default="", help="scenarios whose name has this in it")
    parser.add_argument("--folder", type=Path, help="where to work, and to leave everything")
    given = parser.parse_args(arguments)
    scenarios = [scenario for scenario in SCENARIOS if given.only in scenario.name]
    report, began = Report(), time.monotonic()
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of every restart
    with _scratch(given.folder) as scratch:
        scratch.mkdir(parents=True, exist_ok=True)
        nursery = Nursery(scratch)
        try:
            for number, (scenario, kills) in enumerate(zip(scenarios, shares(given.kills, scenarios), strict=True)):
                rng = random.Random(f"{given.seed}/{scenario.name}")
                torture(scenario, kills, rng, nursery, scratch / str(number), report)
                print(f"{scenario.name}: {kills} kills, {time.monotonic() - began:.0f} s so far, "
                      f"{len(report.wrong)} things wrong", file=sys.stderr)  # fmt: skip
        finally:
            nursery.close()
    print("\n".join([*report.wrong, *table(report)]))
    kills = sum(tally.kills for tally in report.tallies.values())
    print(
        f"\n{kills} kills in {time.monotonic() - began:.0f} s, seed {given.seed}: {len(report.wrong)} things went wrong"
    )
    return 1 if report.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
