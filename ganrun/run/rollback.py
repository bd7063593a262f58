"""After numbers that are not finite: from the newest checkpoint with half the learning rates, in place of an end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from ganrun.config.resume import earlier_overrides, reopen
from ganrun.core.errors import NotFinite, typed
from ganrun.record.checkpoint import Checkpoints
from ganrun.record.stored import record

TIMES = 3  # in one call, before the run ends all the same
RATES = "optim.decay"  # both learning rates are multiplied by it


class Resuming(Protocol):
    """What rolls back: a session."""

    def tell(self, line: str) -> None:
        """Print a line, and log it."""

    def resume_once(self, cfg: Any, path: Path, *, overrides: list[str], changes: Mapping[str, str]) -> int:
        """Go on where the run in this folder stopped, to its end or a failure; returns the exit code."""


def with_rollback(session: Resuming, path: Path, begin: Callable[[], int]) -> int:
    """Train by `begin`; where the run is set to roll back, go on after numbers that are not finite.

    Returns the exit code. Raises NotFinite where the run is to stop, has no checkpoint, follows a schedule in
    optim.decay, or has rolled back three times.
    """
    for _ in range(TIMES):
        try:
            return begin()
        except NotFinite as error:
            begin = _again(session, path, error)
    return begin()


def _again(session: Resuming, path: Path, error: NotFinite) -> Callable[[], int]:
    plugins = [word for word in record(path / "overrides.yaml") or [] if word.startswith("plugins=")]
    before, _ = reopen(path, plugins)
    decay = before.optim.get("decay")
    possible = Checkpoints(path / "checkpoints", keep=2).latest() is not None and isinstance(decay, (int, float))
    if before.diagnosis.on_nonfinite != "rollback" or not possible:
        raise error
    halved = [*plugins, typed(RATES, decay / 2)]
    cfg, changes = reopen(path, halved)
    session.tell(
        f"{str(error).partition('. Try: ')[0]}: going on from the newest checkpoint with half the learning rates"
    )
    overrides = [*earlier_overrides(path), *halved]
    return lambda: session.resume_once(cfg, path, overrides=overrides, changes=changes)
