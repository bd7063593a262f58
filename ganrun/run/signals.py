"""SIGTERM, SIGINT, SIGHUP: a run saves a checkpoint at the step it has reached, then exits with 128 and the signal."""

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


def heard() -> list[int]:
    """The signals that end a run in order. SIGHUP comes when a terminal closes; under nohup it stays ignored."""
    hangup = [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN else []
    return [signal.SIGTERM, signal.SIGINT, *hangup]


class Interrupted(BaseException):
    """A signal that came before there was anything to save."""

    def __init__(self, number: int):
        self.number = number


def behind(error: BaseException | None) -> Interrupted | None:
    """The interruption that led to this error, as when code in a `finally` fails; None without one."""
    while error is not None and not isinstance(error, Interrupted):
        error = error.__context__
    return error


class Signals:
    """Records the first signal for the loop to read; before the loop, raises `Interrupted`.

    A second SIGINT exits at once.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._deferred = False
        self._owns_process = True

    def install(self) -> Signals:
        """Handle these signals from now on; returns itself."""
        for number in heard():
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
        before = {number: signal.signal(number, self._on_signal) for number in heard()}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def defer(self) -> None:
        """From now on the loop reads `received` between steps. Raises Interrupted for a signal that came before."""
        self._deferred = True
        if self.received is not None:  # it came where Python ignores an exception of a handler
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
    """Have the kernel send SIGTERM to this job when its sweep dies, however it dies. Linux only."""
    parent = os.environ.pop(PARENT, None)
    if parent is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before
        os.kill(os.getpid(), signal.SIGTERM)
