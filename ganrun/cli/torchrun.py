"""The command in one of several processes that torchrun started: the first runs it, the others do what it tells."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from ganrun.core.errors import ENVIRONMENT, ConfigError

STARTED = "TORCHELASTIC_RUN_ID"  # in the environment of what torchrun starts


def in_one_process(command: Callable[[], int]) -> int:
    """Run the command in the first process alone; returns the exit code, the same in all."""
    if STARTED not in os.environ:
        return command()
    from ganrun.run.processes import dismiss, launched

    if (launch := launched()) is not None and launch.rank.number > 0:
        from ganrun.run.follow import follow

        return follow()
    code = ENVIRONMENT
    try:
        code = command()
    finally:
        dismiss(code)
    return code


def refuse_sweep(arguments: Sequence[str]) -> None:
    """Raises ConfigError for a sweep under torchrun: its jobs would each take themselves for the first process."""
    if STARTED in os.environ and {"-m", "--multirun"} & set(arguments):
        remedy = "ganrun -m engine.ranks=2, which starts the processes of each job"
        raise ConfigError("torchrun", "a sweep", "one run", remedy)
