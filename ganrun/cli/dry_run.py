"""`python -m ganrun.cli.dry_run`: which jobs of a sweep would be refused; builds their runs and trains nothing.

Reads a JSON list of the arguments of each job from standard input, and writes a line of JSON for each: null, or the
error.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from ganrun.cli.main import train
from ganrun.config.remedies import remedied
from ganrun.core.errors import ConfigError
from ganrun.run.signals import Signals


def main() -> None:
    """Check every job and print a line for each as soon as it is known."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # whatever else is printed
    for arguments in json.load(sys.stdin):
        print(json.dumps(refusal(arguments)), file=answers, flush=True)


def refusal(arguments: list[str]) -> str | None:
    """The error with which a run with these arguments would be refused, as it says it; None when it would train."""
    try:
        train(arguments, Signals(), play=_build)
    except ConfigError as error:
        return "\n".join(remedied(error, arguments).lines)
    return None


def _build(cfg: Any, hydra: Any, signals: Signals) -> tuple[int, float | None]:
    from ganrun.config.build import build

    build(cfg).data.close()
    return 0, None


if __name__ == "__main__":
    main()
