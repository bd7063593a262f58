"""The command in one of several processes that torchrun started: the first runs it, the others do what it tells."""

from __future__ import annotations

import os
from collections.abc import Callable

from ganrun.core.errors import ENVIRONMENT


def in_one_process(command: Callable[[], int]) -> int:
    """Run the command in the first process alone; returns the exit code, the same in all."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
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
