"""Sweeps: one process a job, a table at the end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ganrun.errors import ENVIRONMENT, REFUSED, STOPPED

REASONS = {REFUSED: "refused", STOPPED: "stopped by a guard", ENVIRONMENT: "the machine failed", 1: "a bug"}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job of a sweep."""

    number: int
    overrides: list[str]
    folder: str


@dataclass(frozen=True, kw_only=True)
class JobOutcome:
    """How a job ended."""

    job: Job
    code: int  # its exit code; negative: the signal that killed it
    seconds: float
    said: str  # the last thing it said on standard error
    objective: float | None  # the figure that `objective` names, for sweepers that optimise

    @property
    def ended(self) -> str:
        """How it ended, in words."""
        if self.code == 0:
            return "done"
        if self.code < 0:
            name = signal.Signals(-self.code).name
            return f"killed by {name}" + (" (out of memory?)" if -self.code == signal.SIGKILL else "")
        return f"{REASONS.get(self.code, 'failed')} (exit code {self.code})"


class _Processes:
    """The jobs that run now, so that an interrupted sweep takes them along."""

    def __init__(self, config_dir: str | None, total: int):
        self.config_dir, self.total = config_dir, total
        self.console = Console(soft_wrap=True)
        self.alive: set[subprocess.Popen] = set()
        self.ended = False

    def run(self, job: Job) -> JobOutcome:
        began = time.monotonic()
        name = " ".join(job.overrides)
        if self.ended:
            return JobOutcome(job=job, code=-signal.SIGTERM, seconds=0, said="never started", objective=None)
        self.console.print(f"job {job.number} of {self.total}: {name}", markup=False, highlight=False)
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                self._command(job), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
            )
            self.alive.add(process)
            code = process.wait()
            self.alive.discard(process)
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
        outcome = JobOutcome(
            job=job,
            code=code,
            seconds=time.monotonic() - began,
            said=lines[-1].removeprefix("ganrun: error: ") if lines and code else "",
            objective=_objective(job) if code == 0 else None,
        )
        self.console.print(
            f"job {job.number}: {outcome.ended} after {outcome.seconds:.0f} s", markup=False, highlight=False
        )
        return outcome

    def _command(self, job: Job) -> list[str]:
        config = ["--config-dir", self.config_dir] if self.config_dir else []
        folder = job.folder.replace("\\", "\\\\").replace("'", "\\'")
        return [sys.executable, "-m", "ganrun", *config, *job.overrides, f"hydra.run.dir='{folder}'"]

    def end(self) -> None:
        """Ask the living jobs to stop; each writes a checkpoint first."""
        self.ended = True
        for process in list(self.alive):
            process.send_signal(signal.SIGTERM)


def run_jobs(jobs: Sequence[Job], *, at_once: int, config_dir: str | None) -> list[JobOutcome]:
    """Run every job, `at_once` at a time; none of them can end the others."""
    processes = _Processes(config_dir, jobs[-1].number if jobs else 0)
    with ThreadPoolExecutor(max(1, at_once)) as pool:
        try:
            return list(pool.map(processes.run, jobs))
        except BaseException:
            processes.end()
            raise


def _objective(job: Job) -> float | None:
    try:
        return json.loads((Path(job.folder) / "summary.json").read_text()).get("objective")
    except (OSError, ValueError):
        return None


def print_table(outcomes: Sequence[JobOutcome]) -> int:
    """Say how every job ended; returns how many failed."""
    table = Table(title="sweep", title_justify="left")
    for heading in ("job", "overrides", "ended", "why", "folder"):
        table.add_column(heading, overflow="fold")
    for outcome in outcomes:
        done = outcome.code == 0
        cells = (str(outcome.job.number), " ".join(outcome.job.overrides), outcome.ended, outcome.said)
        table.add_row(
            *map(_plain, cells), _plain(outcome.job.folder) if done or Path(outcome.job.folder).exists() else ""
        )
    failed = sum(outcome.code != 0 for outcome in outcomes)
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    console.print(f"{len(outcomes) - failed} of {len(outcomes)} jobs done, {failed} failed", highlight=False)
    return failed


def _plain(text: str) -> str:
    return text.replace("[", "\\[")
