"""SIGTERM and SIGINT end a run in order: a checkpoint at the step reached, then exit 143 or 130."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PARENT = "GANRUN_PARENT"  # in the environment of a sweep's job: the process that started it
PR_SET_PDEATHSIG = 1


class Interrupted(BaseException):
    """A signal came while there was nothing to save yet."""

    def __init__(self, number: int):
        self.number = number


def behind(error: BaseException | None) -> Interrupted | None:
    """The interruption that an error came of: what makes way for one may fail at that, in a `finally`."""
    while error is not None and not isinstance(error, Interrupted):
        error = error.__context__
    return error


class Signals:
    """Turns the first signal into a wish that the loop reads; before the loop, into `Interrupted`.

    A second SIGINT exits at once.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._deferred = False
        self._owns_process = True

    def install(self) -> Signals:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        end_with_parent()
        return self

    @contextmanager
    def installed(self) -> Iterator[Signals]:
        """Within, signals are turned as above; after it, whoever handled them does again. For programs that go on.

        A second SIGINT raises KeyboardInterrupt, as the process is not ours to end. Outside the main thread, where
        Python allows no handler, signals stay as they are.
        """
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        self._owns_process = False
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def defer(self) -> None:
        """From now on the loop looks at `received` between steps."""
        self._deferred = True
        if self.received is not None:  # it came where Python ignores what a handler raises
            raise Interrupted(self.received)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            if number == signal.SIGINT and not self._owns_process:
                raise KeyboardInterrupt
            if number == signal.SIGINT:
                os._exit(128 + number)
            return
        self.received = number
        if not self._deferred:
            raise Interrupted(number)


def end_with_parent() -> None:
    """A job gets SIGTERM when its sweep dies, however it dies. Only Linux can do that."""
    parent = os.environ.pop(PARENT, None)
    if parent is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before
        os.kill(os.getpid(), signal.SIGTERM)
