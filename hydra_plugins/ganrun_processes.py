"""The launcher of sweeps, where Hydra looks for launchers; ganrun.run.sweep does the work."""

from collections.abc import Sequence
from typing import Any, ClassVar

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict


class ProcessLauncher(Launcher):
    """Runs every job of a sweep as a `ganrun` process of its own, and continues when one fails."""

    outcomes: ClassVar[list[Any]] = []  # of every job so far: the command line turns them into a table and an exit code

    def __init__(self, *, jobs: int):
        self.jobs = jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from ganrun.run.sweep import Job, job_options, run_jobs

        jobs = [
            Job(
                number=number,
                overrides=list(overrides),
                folder=self._folder(list(overrides), number),
                options=job_options(self.config.hydra, number),
            )
            for number, overrides in enumerate(job_overrides, initial_job_idx)
        ]
        ended = run_jobs(jobs, self.outcomes, at_once=self.jobs)
        return [
            JobReturn(overrides=o.job.overrides, status=JobStatus.COMPLETED, _return_value=o.objective) for o in ended
        ]

    def _folder(self, overrides: list[str], number: int) -> str:
        config = self.context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.num, config.hydra.job.id = number, str(number)
        return f"{config.hydra.sweep.dir}/{config.hydra.sweep.subdir}"
