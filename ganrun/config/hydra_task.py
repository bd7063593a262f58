"""What Hydra calls for each job, in this process or in one that a launcher of Hydra has started."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

from omegaconf import DictConfig

Task = Callable[[DictConfig], Any]


class HydraTask:
    """Here it is a function of a job's configuration. Pickled for another process it is what `elsewhere` returns."""

    def __init__(self, here: Task, elsewhere: Callable[[], Task] | None):
        update_wrapper(self, here)
        self.here, self.elsewhere = here, elsewhere

    def __call__(self, cfg: DictConfig) -> Any:
        return self.here(cfg)

    def __reduce__(self) -> tuple[Callable[[], Task], tuple[()]]:
        assert self.elsewhere is not None, "only training is started in other processes"
        return self.elsewhere, ()
