"""Sweeps by launchers of Hydra: a process for each job there too, one table, and what was done is kept."""

import json
import pickle
import re
import signal
from importlib.util import find_spec
from pathlib import Path

import cloudpickle
import psutil
import pytest
from commands import PATIENCE, TINY, Nursery, checkpoints, config
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from omegaconf import OmegaConf

from ganrun.config.folder_made import FolderMade
from ganrun.config.hydra_packages import PACKAGES
from ganrun.config.hydra_task import HydraTask
from ganrun.config.yaml_files import CheckedFiles, check_files
from ganrun.run import hydra_job
from ganrun.run.sweep import Job, JobOutcome

SWEEP = ("-m", *TINY)
LONG = 8 * PATIENCE
# Each in the form that needs no cluster, and the package that it comes in.
LAUNCHERS = {
    "joblib": "hydra_joblib_launcher",
    "submitit_local": "hydra_submitit_launcher",
    "ray": "hydra_ray_launcher",
}


def there(launcher: str) -> None:
    """Skip where this launcher is not installed."""
    if find_spec("hydra_plugins") is None or find_spec(f"hydra_plugins.{LAUNCHERS[launcher]}") is None:
        pytest.skip(f"{LAUNCHERS[launcher]} is not installed")


def test_here_a_task_is_called_and_elsewhere_it_is_what_starts_a_process() -> None:
    seen: list[object] = []
    task = HydraTask(seen.append, hydra_job.task)
    task("a configuration")  # type: ignore[arg-type]
    assert seen == ["a configuration"]
    assert pickle.loads(cloudpickle.dumps(task)) is hydra_job.train_job


def test_the_readers_of_files_may_be_registered_again() -> None:
    """As a launcher does in its own processes, with the state of this one."""
    check_files()
    SourcesRegistry.instance().register(FileConfigSource)
    assert SourcesRegistry.instance().types["file"] is CheckedFiles


def test_what_jobs_elsewhere_have_kept_is_read_in_their_order(tmp_path: Path) -> None:
    jobs = [Job(number=number, overrides=[f"seed={number}"], folder="f", options=("a", "b")) for number in range(12)]
    made = [JobOutcome(job=job, code=job.number % 2, seconds=1.5, message="why") for job in jobs]
    for outcome in made:
        hydra_job.keep(outcome, tmp_path)
    assert list(hydra_job.outcomes(tmp_path)) == made
    assert not list(hydra_job.outcomes(tmp_path / "none"))


def test_a_new_sweep_in_the_same_folder_forgets_how_jobs_of_the_last_one_ended(tmp_path: Path) -> None:
    hydra_job.keep(JobOutcome(job=Job(number=3, overrides=["seed=4"], folder="f"), code=0), tmp_path)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "mine.json").write_text("{}")
    FolderMade().on_multirun_start(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}}))
    assert FolderMade.sweep == tmp_path and not list(hydra_job.outcomes(tmp_path))
    assert (tmp_path / "jobs" / "mine.json").exists()


@pytest.mark.parametrize("choice", ["hydra/launcher/rq", "hydra/sweeper/nevergrad"])
def test_what_is_not_installed_is_refused_with_its_package(choice: str, nursery: Nursery, tmp_path: Path) -> None:
    group, _, name = choice.rpartition("/")
    package = PACKAGES[choice]
    if find_spec(f"hydra_plugins.{package.replace('-', '_')}") is not None:
        pytest.skip(f"{package} is installed")
    ended = nursery.run(*SWEEP, f"{group}={name}", "seed=1,2", folder=tmp_path)
    assert ended.code == 2 and not list(tmp_path.iterdir())
    line = rf"ganrun: error: {choice}: not installed, expected basic.*, or its package. Try: pip install {package}\n"
    assert re.fullmatch(line, ended.err), ended


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_sweep(launcher: str, nursery: Nursery, tmp_path: Path) -> None:
    """Three jobs, of which one is refused; then once more, which keeps what is done."""
    there(launcher)
    words = (*SWEEP, "steps=2,x", "seed=1,2", f"hydra/launcher={launcher}", "hydra.sweep.dir=here")
    ended = nursery.run(*words, folder=tmp_path, patience=LONG)
    assert ended.code == 5 and "2 of 4 jobs done, 2 failed" in ended.out, ended
    assert "steps: 'x', expected a whole number" in ended.out
    assert [config(tmp_path / "here" / str(job))["seed"] for job in (0, 1)] == [1, 2]
    assert len(json.loads((tmp_path / "here" / "sweep.json").read_text())) == 4
    again = nursery.run(*words, folder=tmp_path, patience=LONG)
    assert again.code == 5 and again.out.count("done before, kept") >= 2, again
    assert not [one for one in psutil.Process().children(recursive=True) if "ganrun" in one.name()]


@pytest.mark.slow
def test_a_job_whose_machine_is_taken_away_is_queued_again_and_resumes(nursery: Nursery, tmp_path: Path) -> None:
    """By the signal that submitit has Slurm send before it takes the machine."""
    there("submitit_local")
    rare = ("log.every=5", "log.checkpoint=1000000")
    launcher = ("hydra/launcher=submitit_local", "hydra.sweep.dir=here")
    process = nursery.start(*SWEEP, "steps=4000", *rare, *launcher, folder=tmp_path)
    job = tmp_path / "here" / "0"
    process.until(lambda: (job / "metrics.jsonl").exists() and (job / "metrics.jsonl").read_text().count("\n") > 3)
    (worker,) = [one.parent() for one in psutil.process_iter() if _trains(one, job)]
    assert worker is not None
    worker.send_signal(signal.SIGUSR2)
    ended = process.wait(patience=LONG)
    assert ended.code == 0 and "resumed, done" in ended.out, ended
    steps = [json.loads(line)["step"] for line in (job / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)) and steps[-1] == 4000 and checkpoints(job)


def _trains(process: psutil.Process, job: Path) -> bool:
    try:
        return str(job) in " ".join(process.cmdline()) and "-m" in process.cmdline()
    except psutil.Error:
        return False
