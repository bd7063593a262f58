"""What every test gets: gpu tests that skip themselves, and a look for processes left behind at the end."""

import os
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import closing

import psutil
import pytest
from commands import Nursery

TAG = "GANRUN_TEST_SESSION"
# Helpers of Python and torch that live as long as the process that asked for them, by what their command line says.
LIVE_AS_LONG_AS_WE_DO = ("resource_tracker", "forkserver", "_inductor/compile_worker")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch  # only here: collecting and most tests do without

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session", autouse=True)
def _no_process_left_behind() -> Iterator[None]:
    """Tests end every process that they start, orphans included: those are known by a tag in their environment."""
    tag = f"{os.getpid()}-{uuid.uuid4()}"
    os.environ[TAG] = tag
    yield
    del os.environ[TAG]
    left = _settled(tag)
    commands = [_command(process) for process in left]
    for process in left:
        process.kill()
    assert not commands, f"tests left processes behind: {commands}"


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    """A test that calls `main` in this process leaves its handlers, and Ctrl-C would no longer end the tests."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Starts `ganrun` in processes that have imported everything."""
    with closing(Nursery(tmp_path_factory.mktemp("nursery"))) as nursery:
        yield nursery


def _settled(tag: str, patience: float = 3.0) -> list[psutil.Process]:
    """What is still there after those that are about to end had the time to."""
    deadline = time.monotonic() + patience
    while (left := _left_behind(tag)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def _left_behind(tag: str) -> list[psutil.Process]:
    children = {process.pid for process in psutil.Process().children(recursive=True)}
    return [process for process in psutil.process_iter() if _is_ours(process, tag, children)]


def _is_ours(process: psutil.Process, tag: str, children: set[int]) -> bool:
    try:
        if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
            return False
        tagged = process.pid in children or process.environ().get(TAG) == tag
        return tagged and not any(word in _command(process) for word in LIVE_AS_LONG_AS_WE_DO)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return "(ended)"
