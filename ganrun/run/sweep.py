"""Sweeps: one process a job, a table at the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ganrun.core.errors import CONFIG_ERROR, ENVIRONMENT, STOPPED, ConfigErrors
from ganrun.run.signals import PARENT

REASONS = {
    1: "failed with a bug",
    CONFIG_ERROR: "refused",
    STOPPED: "stopped by a guard",
    ENVIRONMENT: "the machine failed",
    128 + signal.SIGINT: "interrupted",
    128 + signal.SIGTERM: "interrupted",
}
WIDE = 160  # columns of a table that no terminal shows
SAID = "ganrun: error: "


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job of a sweep."""

    number: int
    overrides: list[str]
    folder: str
    options: tuple[str, ...] = ()  # of Hydra, such as --config-dir

    @property
    def arguments(self) -> list[str]:
        quoted = self.folder.replace("\\", "\\\\").replace("'", "\\'")
        return [*self.options, *self.overrides, f"hydra.run.dir='{quoted}'"]


@dataclass(frozen=True, kw_only=True)
class JobOutcome:
    """How a job ended."""

    job: Job
    code: int | None  # its exit code; negative: the signal that killed it; None: it was never started
    seconds: float = 0.0
    said: str = ""  # why, in the words of the job
    objective: float | None = None  # the figure that `objective` names, for sweepers that optimise

    @property
    def ended(self) -> str:
        """How it ended, in words."""
        if self.code is None:
            return "not started"
        if self.code == 0:
            return f"done in {self.seconds:.0f} s"
        if self.code < 0:
            name = signal.Signals(-self.code).name
            return f"killed by {name}" + (" (out of memory?)" if -self.code == signal.SIGKILL else "")
        told = self.said or self.code > 128
        reason = REASONS.get(self.code, "failed") if told else "ended without a word"
        return f"{reason} (exit code {self.code})"


class Processes:
    """The jobs of one launch, each in a process; an interrupted sweep takes those that run along."""

    def __init__(self, jobs: Sequence[Job]):
        self.jobs, (self.common, self.names) = jobs, told_apart(jobs)
        self.console = Console(soft_wrap=True, markup=False, highlight=False, emoji=False)
        self.alive: set[subprocess.Popen] = set()
        self.ended = self.suspicious = False
        self.lock = Lock()

    def run(self, job: Job) -> JobOutcome:
        """Play this job, and say so."""
        if self.suspicious and not self.ended and (line := self.refusals.get(job.number)):
            outcome = JobOutcome(job=job, code=CONFIG_ERROR, said=line)
        else:
            outcome = self._play(job)
        self.suspicious |= outcome.code == CONFIG_ERROR
        if outcome.code is not None:
            self.console.print(f"job {job.number}: {outcome.ended}")
        return outcome

    def _play(self, job: Job) -> JobOutcome:
        began = time.monotonic()
        with tempfile.TemporaryFile() as errors:
            with self.lock:
                if self.ended:
                    return JobOutcome(job=job, code=None)
                self.console.print(f"job {job.number}: {self.names[job.number]}  ({job.folder})")
                process = self._start("ganrun", *job.arguments, stdin=subprocess.DEVNULL, errors=errors.fileno())
                self.alive.add(process)
            code = process.wait()
            self.alive.discard(process)
            errors.seek(0)
            text = errors.read().decode(errors="replace")
        if code not in (0, CONFIG_ERROR) and text and Path(job.folder).is_dir():
            (Path(job.folder) / "stderr.log").write_text(text)
        return JobOutcome(
            job=job,
            code=code,
            seconds=time.monotonic() - began,
            said=why(text) if code else "",
            objective=objective(job) if code == 0 else None,
        )

    @staticmethod
    def _start(module: str, *arguments: str, stdin: int, errors: int) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=stdin,
            stdout=subprocess.DEVNULL if stdin == subprocess.DEVNULL else subprocess.PIPE,
            stderr=errors,
            env=os.environ | {PARENT: str(os.getpid())},
        )

    @cached_property
    def refusals(self) -> dict[int, str]:
        """Which jobs would be refused and why, asked once, when a job was: what is common need not fail in each."""
        process = self._start("ganrun.cli.dry_run", stdin=subprocess.PIPE, errors=subprocess.DEVNULL)
        with self.lock:
            self.alive.add(process)
        answers, _ = process.communicate(json.dumps([job.arguments for job in self.jobs]).encode())
        self.alive.discard(process)
        lines = [json.loads(line) for line in answers.decode().splitlines()]
        return {job.number: line for job, line in zip(self.jobs, lines, strict=False) if line}

    def end(self) -> None:
        """Ask the living jobs to stop; each writes a checkpoint first."""
        with self.lock:
            self.ended = True
        for process in list(self.alive):
            process.send_signal(signal.SIGTERM)


def run_jobs(jobs: Sequence[Job], outcomes: list[JobOutcome], *, at_once: int) -> list[JobOutcome]:
    """Run every job, `at_once` at a time; none of them can end the others. Adds to `outcomes` even when interrupted."""
    processes = Processes(jobs)
    if len(jobs) > 1:
        processes.console.print(f"{len(jobs)} jobs, {at_once} at a time: {processes.common}")
    with ThreadPoolExecutor(max(1, at_once)) as pool:
        futures = [pool.submit(processes.run, job) for job in jobs]
        try:
            return [future.result() for future in futures]
        except BaseException:
            processes.end()
            raise
        finally:
            outcomes += [future.result() for future in futures]


def told_apart(jobs: Sequence[Job]) -> tuple[str, dict[int, str]]:
    """The overrides that all jobs have, and for each job the others."""
    common = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    names = {job.number: " ".join(o for o in job.overrides if o not in common) for job in jobs}
    shared = " ".join(o for o in jobs[0].overrides if o in common)
    return shared, {number: name or "as configured" for number, name in names.items()}


def why(text: str) -> str:
    """The reason among what a process said on standard error: its complaints, or else its last line."""
    lines = text.strip().splitlines()
    complaints = [line.removeprefix(SAID) for line in lines if line.startswith(SAID)]
    return "\n".join(complaints or lines[-1:])


def objective(job: Job) -> float | None:
    try:
        return json.loads((Path(job.folder) / "summary.json").read_text()).get("objective")
    except (OSError, ValueError):
        return None


def refuse_common(outcomes: Sequence[JobOutcome]) -> None:
    """When every job was refused for the same reason, refuse the sweep for it."""
    endings = {(outcome.code, outcome.said) for outcome in outcomes}
    if len(endings) == 1 and outcomes[0].code == CONFIG_ERROR:
        raise ConfigErrors(outcomes[0].said.splitlines())


def print_table(outcomes: Sequence[JobOutcome], console: Console | None = None) -> int:
    """Say how every job ended; returns how many failed."""
    console = console or Console(width=None if sys.stdout.isatty() else WIDE)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("job", justify="right")
    table.add_column("ended", overflow="fold", max_width=console.width // 3)
    table.add_column("overrides, and why it failed", overflow="fold")
    common, names = told_apart([outcome.job for outcome in outcomes])
    for outcome in outcomes:
        told = [names[outcome.job.number], *(f"  {line}" for line in outcome.said.splitlines())]
        table.add_row(str(outcome.job.number), Text(outcome.ended), Text("\n".join(told)))
    failed = sum(outcome.code != 0 for outcome in outcomes)
    console.print()
    console.print(table)
    folder = os.path.commonpath([os.path.dirname(outcome.job.folder) or "." for outcome in outcomes])
    line = f"{len(outcomes) - failed} of {len(outcomes)} jobs done, {failed} failed"
    line += f"; their folders are in {folder}" if Path(folder).is_dir() else ""
    common = common and f"every job: {common}\n"
    console.print(f"\n{common}{line}", highlight=False, markup=False, soft_wrap=True)
    return failed
