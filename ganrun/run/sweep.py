"""Sweeps: one process for each job, and a table at the end."""

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
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import yaml
from rich.console import Console

from ganrun.core.errors import CONFIG_ERROR, ENVIRONMENT, STOPPED, ConfigError, ConfigErrors
from ganrun.record.folder import is_run
from ganrun.record.stored import record, summarised, text
from ganrun.run.signals import PARENT

REASONS = {
    1: "failed with a bug",
    CONFIG_ERROR: "refused",
    STOPPED: "stopped by a guard",
    ENVIRONMENT: "the machine failed",
    128 + signal.SIGHUP: "interrupted",
    128 + signal.SIGINT: "interrupted",
    128 + signal.SIGTERM: "interrupted",
}
PREFIX = "ganrun: error: "  # of a message on standard error


# Settings of Hydra for the sweep itself, which its jobs do not get.
OF_THE_SWEEP = ("hydra.mode=", "hydra.run.", "hydra.sweep.", "hydra.sweeper.", "hydra.launcher.", "hydra/launcher",
                "hydra/sweeper")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job of a sweep."""

    number: int
    overrides: list[str]
    folder: str
    options: tuple[str, ...] = ()  # of Hydra, such as --config-dir

    @property
    def arguments(self) -> list[str]:
        """Of `ganrun`, to run this job."""
        quoted = self.folder.replace("\\", "\\\\").replace("'", "\\'")
        return [*self.options, *self.overrides, f"hydra.run.dir='{quoted}'"]

    @property
    def going_on(self) -> list[str]:
        """Arguments of `ganrun`, to resume this job. Plug-ins are named again: a file alone makes no code run."""
        return ["resume", self.folder, *(o for o in self.overrides if o.startswith("plugins="))]

    def found(self) -> Literal["missing", "unfinished", "done"]:
        """What an earlier sweep has left of this job. Raises ConfigError where its folder holds another run."""
        folder = Path(self.folder)
        if not is_run(folder):
            return "missing"
        own = [override for override in self.overrides if not override.startswith("hydra")]
        typed = (record(folder / "overrides.yaml") or [])[: len(own)]
        if typed != own:
            found = f"holds the run of {' '.join(typed) or 'no overrides'}"
            raise ConfigError(self.folder, found, "that of this job, or none", "another hydra.sweep.dir")
        return "done" if summarised(folder / "summary.json") == _steps(folder) else "unfinished"


@dataclass(frozen=True, kw_only=True)
class JobOutcome:
    """How a job ended."""

    job: Job
    code: int | None  # its exit code; negative: the signal that killed it; None: it was never started
    seconds: float = 0.0
    found: Literal["missing", "unfinished", "done"] = "missing"  # what an earlier sweep had left of it
    message: str = ""  # why it failed, as the job itself printed it
    objective: float | None = None  # the metric that the setting `objective` names, for sweepers that optimise

    @property
    def ended(self) -> str:
        """How it ended, in words."""
        if self.found == "done":
            return "done before, kept"
        return f"resumed, {self._ended}" if self.found == "unfinished" and self.code is not None else self._ended

    @property
    def _ended(self) -> str:
        if self.code is None:
            return "not started"
        if self.code == 0:
            return f"done in {self.seconds:.0f} s"
        if self.code < 0:
            name = signal.Signals(-self.code).name
            return f"killed by {name}" + (" (out of memory?)" if -self.code == signal.SIGKILL else "")
        explained = self.message or self.code > 128
        how = REASONS.get(self.code, "failed") if explained else "failed without an error message"
        return f"{how} (exit code {self.code})"


class Processes:
    """The jobs of one launch, each in a process; an interrupted sweep ends those that are running."""

    def __init__(self, jobs: Sequence[Job]):
        self.jobs, (self.common, self.names) = jobs, split_overrides(jobs)
        self.console = Console(soft_wrap=True, markup=False, highlight=False, emoji=False)
        self.alive: set[subprocess.Popen] = set()
        self.ended = self.suspicious = False
        self.lock = Lock()

    def run(self, job: Job) -> JobOutcome:
        """Run this job, go on with it, or keep it; refuse it where that is known already. Prints how it ended."""
        try:
            found = job.found()
        except ConfigError as refusal:
            outcome = JobOutcome(job=job, code=CONFIG_ERROR, message=str(refusal))
        else:
            outcome = self._outcome(job, found)
        self.suspicious |= outcome.code == CONFIG_ERROR
        if outcome.code is not None:
            self.console.print(f"job {job.number}: {outcome.ended}")
        return outcome

    def _outcome(self, job: Job, found: Literal["missing", "unfinished", "done"]) -> JobOutcome:
        if found == "done":
            return JobOutcome(job=job, code=0, found=found, objective=objective(job))
        if found == "missing" and self.suspicious and not self.ended and (line := self.refusals.get(job.number)):
            return JobOutcome(job=job, code=CONFIG_ERROR, message=line)
        return replace(self._run(job, job.arguments if found == "missing" else job.going_on), found=found)

    def _run(self, job: Job, arguments: list[str]) -> JobOutcome:
        began = time.monotonic()
        with tempfile.TemporaryFile() as errors:
            with self.lock:
                if self.ended:
                    return JobOutcome(job=job, code=None)
                self.console.print(f"job {job.number}: {self.names[job.number]}  ({job.folder})")
                process = self._start("ganrun", *arguments, stdin=subprocess.DEVNULL, errors=errors.fileno())
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
            message=reason(text) if code else "",
            objective=objective(job) if code == 0 else None,
        )

    @staticmethod
    def _start(module: str, *arguments: str, stdin: int, errors: int) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments],  # -P: no module of the current folder
            stdin=stdin,
            stdout=subprocess.DEVNULL if stdin == subprocess.DEVNULL else subprocess.PIPE,
            stderr=errors,
            env=os.environ | {PARENT: str(os.getpid())},
        )

    @cached_property
    def refusals(self) -> dict[int, str]:
        """The errors of all jobs that would be refused, found by one process when the first job was refused."""
        process = self._start("ganrun.cli.dry_run", stdin=subprocess.PIPE, errors=subprocess.DEVNULL)
        with self.lock:
            self.alive.add(process)
        answers, _ = process.communicate(json.dumps([job.arguments for job in self.jobs]).encode())
        self.alive.discard(process)
        lines = [json.loads(line) for line in answers.decode().splitlines()]
        return {job.number: line for job, line in zip(self.jobs, lines, strict=False) if line}

    def end(self) -> None:
        """Stop the running jobs; each writes a checkpoint first."""
        with self.lock:
            self.ended = True
        for process in list(self.alive):
            process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Until every job that was stopped has ended."""
        for process in list(self.alive):
            process.wait()


def run_jobs(jobs: Sequence[Job], outcomes: list[JobOutcome], *, at_once: int) -> list[JobOutcome]:
    """Run every job, `at_once` at a time; a job that fails ends no other. Adds to `outcomes` even when interrupted."""
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


def job_options(hydra: Any, number: int) -> tuple[str, ...]:
    """Options that this job needs too: folders of configuration, and settings of Hydra, as the sweep has them."""
    folders = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    name = hydra.job.config_name
    return (
        *(word for folder in folders for word in ("--config-dir", folder)),
        *(("--config-name", name) if name != "config" else ()),
        *(o for o in hydra.overrides.hydra if not o.startswith(OF_THE_SWEEP)),
        f"hydra.job.num={number}",
        f"hydra.job.id={number}",
    )


def split_overrides(jobs: Sequence[Job]) -> tuple[str, dict[int, str]]:
    """The overrides that all jobs have in common, and for each job's number the others."""
    common = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    names = {job.number: " ".join(o for o in job.overrides if o not in common) for job in jobs}
    shared = " ".join(o for o in jobs[0].overrides if o in common)
    return shared, {number: name or "as configured" for number, name in names.items()}


def reason(text: str) -> str:
    """Why a process failed, from its standard error: its error messages, or else the last line."""
    lines = text.strip().splitlines()
    complaints = [line.removeprefix(PREFIX) for line in lines if line.startswith(PREFIX)]
    return "\n".join(complaints or lines[-1:])


def objective(job: Job) -> float | None:
    """The objective that a finished job wrote into summary.json; None without one."""
    try:
        value = (record(Path(job.folder) / "summary.json") or {}).get("objective")
    except ConfigError:
        return None
    return value if isinstance(value, float) else None


def _steps(folder: Path) -> int | None:
    """The steps that a run is to have, as its configuration says; None where that cannot be read."""
    try:
        return yaml.safe_load(text(folder / "config.yaml") or "")["steps"]
    except (ConfigError, yaml.YAMLError, RecursionError, TypeError, KeyError):
        return None


def refuse_common(outcomes: Sequence[JobOutcome]) -> None:
    """Raises ConfigErrors when every job was refused for the same reason: then the sweep is refused for it."""
    endings = {(outcome.code, outcome.message) for outcome in outcomes}
    if len(endings) == 1 and outcomes[0].code == CONFIG_ERROR:
        raise ConfigErrors(outcomes[0].message.splitlines())
