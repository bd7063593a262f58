"""The launcher of sweeps, where Hydra looks for launchers; ganrun.run.sweep does the work."""

from collections.abc import Sequence
from typing import Any, ClassVar

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

# Settings of Hydra for the sweep itself, which its jobs do not get.
OF_THE_SWEEP = ("hydra.mode=", "hydra.run.", "hydra.sweep.", "hydra.sweeper.", "hydra.launcher.", "hydra/launcher",
                "hydra/sweeper")  # fmt: skip


class ProcessLauncher(Launcher):
    """Runs every job of a sweep as a `ganrun` process of its own, and continues when one fails."""

    outcomes: ClassVar[list[Any]] = []  # of every job so far: the command line turns them into a table and an exit code

    def __init__(self, *, jobs: int):
        self.jobs = jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from ganrun.run.sweep import Job, run_jobs

        jobs = [
            Job(
                number=number,
                overrides=list(overrides),
                folder=self._folder(list(overrides), number),
                options=(*self._options(), f"hydra.job.num={number}", f"hydra.job.id={number}"),
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

    def _options(self) -> list[str]:
        """Options that the jobs need too: folders of configuration, and settings of Hydra."""
        sources = self.config.hydra.runtime.config_sources
        folders = [source.path for source in sources if source.provider == "command-line"]
        name = self.config.hydra.job.config_name
        return [
            *(word for folder in folders for word in ("--config-dir", folder)),
            *(("--config-name", name) if name != "config" else ()),
            *(o for o in self.config.hydra.overrides.hydra if not o.startswith(OF_THE_SWEEP)),
        ]
