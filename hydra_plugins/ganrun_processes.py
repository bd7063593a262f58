"""Hydra looks for launchers in this package; the work is done in ganrun.sweep."""

from collections.abc import Sequence
from typing import Any, ClassVar

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict


class ProcessLauncher(Launcher):
    """Runs every job of a sweep as a `ganrun` process of its own, and goes on when one fails."""

    outcomes: ClassVar[list[Any]] = []  # of every job so far: the command line turns them into a table and an exit code

    def __init__(self, *, jobs: int):
        self.jobs = jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from ganrun.sweep import Job, run_jobs

        hydra_wide = [o for o in self.config.hydra.overrides.hydra if o.startswith("hydra.searchpath")]
        folders = [self._folder(list(o), initial_job_idx + i) for i, o in enumerate(job_overrides)]
        jobs = [
            Job(number=initial_job_idx + i, overrides=[*overrides, *hydra_wide], folder=folder)
            for i, (overrides, folder) in enumerate(zip(job_overrides, folders, strict=True))
        ]
        outcomes = run_jobs(jobs, at_once=self.jobs, config_dir=self._config_dir())
        self.outcomes.extend(outcomes)
        return [
            JobReturn(overrides=job.overrides, status=JobStatus.COMPLETED, _return_value=outcome.objective)
            for job, outcome in zip(jobs, outcomes, strict=True)
        ]

    def _folder(self, overrides: list[str], number: int) -> str:
        config = self.context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.num, config.hydra.job.id = number, str(number)
        return f"{config.hydra.sweep.dir}/{config.hydra.sweep.subdir}"

    def _config_dir(self) -> str | None:
        """The folder that --config-dir named."""
        sources = self.config.hydra.runtime.config_sources
        return next((s.path for s in sources if s.provider == "command-line"), None)
