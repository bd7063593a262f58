"""SIGTERM and SIGINT end a run in order: a checkpoint at the step reached, then exit 143 or 130."""

from __future__ import annotations

import os
import signal
from types import FrameType


class Interrupted(BaseException):
    """A signal came while there was nothing to save yet."""

    def __init__(self, number: int):
        self.number = number


class Signals:
    """Turns the first signal into a wish that the loop reads; before the loop, into `Interrupted`.

    A second SIGINT exits at once.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._deferred = False

    def install(self) -> Signals:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        return self

    def defer(self) -> None:
        """From now on the loop looks at `received` between steps."""
        self._deferred = True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            os._exit(128 + number)
        self.received = number
        if not self._deferred:
            raise Interrupted(number)
