"""A job of a sweep where another launcher of Hydra has started it, such as joblib's, Slurm's or Ray's.

There it trains in a `ganrun` process of its own, as under this project's launcher: so it resumes what an earlier sweep
has left, one that fails takes none of the others with it, and nothing of Hydra's state needs to travel.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from ganrun.config.folder_made import ENDED
from ganrun.record.atomic import write_atomically
from ganrun.record.stored import text
from ganrun.run.sweep import Job, JobOutcome, Processes, job_options


def task() -> Callable[[DictConfig], float | None]:
    """What such a launcher calls for each job."""
    return train_job


def train_job(cfg: DictConfig) -> float | None:
    """Train the job that Hydra has just composed, in a process; returns its objective, None when it failed.

    Where a scheduler takes the machine away, the run writes a checkpoint, and the job resumes it at its next turn.
    """
    hydra = HydraConfig.get()
    job = Job(
        number=hydra.job.num,
        overrides=list(hydra.overrides.task),
        folder=str(Path(hydra.runtime.output_dir).absolute()),
        options=job_options(hydra, hydra.job.num),
    )
    processes = Processes([job])
    try:
        outcome = processes.run(job)
    except BaseException:  # such as the exit with which submitit asks for another turn: the run is saved first
        processes.end()
        processes.wait()
        raise
    keep(outcome, Path(hydra.sweep.dir))
    return outcome.objective


def keep(outcome: JobOutcome, sweep: Path) -> None:
    """Write how a job ended into the folder of its sweep, where the command that started the sweep reads it."""
    kept = sweep / ENDED
    kept.mkdir(parents=True, exist_ok=True)
    write_atomically(kept / f"{outcome.job.number}.json", json.dumps(asdict(outcome)))


def outcomes(sweep: Path) -> Iterator[JobOutcome]:
    """How the jobs of this sweep ended that were started elsewhere, by number."""
    files = sorted((sweep / ENDED).glob("*.json"), key=lambda path: int(path.stem))
    for path in files:
        found = json.loads(text(path) or "")
        job = found["job"] | {"options": tuple(found["job"]["options"])}
        yield JobOutcome(**found | {"job": Job(**job)})
