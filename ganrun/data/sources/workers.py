"""Worker processes: how they and the run hear signals, and end together."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from torch.utils.data._utils import signal_handling

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DIES_WITH_ITS_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl
ENDING = 5.0  # seconds that a process which is killed may take to end its workers


def prepare_worker(worker: int) -> None:
    """Ignore signals, as the run needs its workers for its last checkpoint; end with the run, on Linux at once."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(DIES_WITH_ITS_PARENT, signal.SIGKILL)
        run = multiprocessing.parent_process()
        if run is not None and os.getppid() != run.pid:  # it ended before this line
            os._exit(0)
    sys.excepthook = _after_a_moment


def _after_a_moment(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print what nobody caught, but for a connection that breaks as the run ends: it closes its files a moment earlier.

    PyTorch's threads in a worker send tensors to the run, and would print a traceback of that.
    """
    if isinstance(error, (EOFError, OSError)):
        time.sleep(ENDING)
    sys.__excepthook__(kind, error, trace)


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Block signals while workers and threads start, which inherit the mask: the run's own thread is to hear them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def child_handler_kept() -> Iterator[None]:
    """Keep torch from installing a handler that raises wherever the run is when a worker dies, be it in a save.

    To install it and to put back what was there would leave a moment in which a worker may die.
    """
    before = signal_handling._SIGCHLD_handler_set
    signal_handling._SIGCHLD_handler_set = True  # as if it were installed
    try:
        yield
    finally:
        signal_handling._SIGCHLD_handler_set = before
