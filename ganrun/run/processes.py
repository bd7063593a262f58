"""The processes of one run: the first starts or finds the others, tells them what to train, and ends them."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import FileStore, Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from ganrun.config.build import Run
from ganrun.core.collective import ProcessLost
from ganrun.core.context import Progress
from ganrun.core.errors import ENVIRONMENT, EnvironmentFailed
from ganrun.core.ranks import ALONE, Rank
from ganrun.data.sources.workers import signals_blocked
from ganrun.run.state import state_of

FOLDER, NUMBER, WORLD = "GANRUN_PROCESSES", "GANRUN_PROCESS", "GANRUN_PROCESS_COUNT"  # in a started one's environment
FIRST = "GANRUN_FIRST_PROCESS"  # there too: the id of the process that started it
END, FAILED = "end", "failed"  # keys of what processes tell each other beside collectives
TICK = 0.2  # seconds between two looks at whether the others are there
GRACE = 5.0  # seconds in which a run that has lost a process is to end by itself
FOREVER = timedelta(days=30)  # a process that waits is ended by others, never by its patience


@dataclass(frozen=True)
class Launch:
    """How this process came to be one of several: by torchrun, or by the first of them."""

    rank: Rank
    folder: str | None  # of a file that they exchange keys by; None: by what torchrun provides
    first: int | None = None  # the id of the process that started this one

    def store(self) -> Store:
        """Where processes tell each other keys and values."""
        if self.folder is None:
            store, _, _ = next(rendezvous("env://"))
            return store
        return FileStore(str(Path(self.folder) / "store"), self.rank.world)

    def join(self, store: Store) -> None:
        """Become one of the group, which is complete when this returns."""
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(
            backend, store=store, rank=self.rank.number, world_size=self.rank.world, timeout=FOREVER
        )


def launched() -> Launch | None:
    """What torchrun, or the first process, says of this one; None where it is on its own."""
    found = os.environ
    if FOLDER in found:
        return Launch(Rank(int(found[NUMBER]), int(found[WORLD])), found[FOLDER], int(found[FIRST]))
    if "TORCHELASTIC_RUN_ID" in found and int(found.get("WORLD_SIZE", 1)) > 1:
        return Launch(Rank(int(found["RANK"]), int(found["WORLD_SIZE"])), None)
    return None


def prepare(launch: Launch) -> None:
    """Take this process's device among those of the machine, and talk by loopback where all are on one machine."""
    one_machine = launch.folder is not None or os.environ.get("LOCAL_WORLD_SIZE") == str(launch.rank.world)
    if one_machine and sys.platform.startswith("linux"):
        for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(name, "lo")
    local = int(os.environ.get("LOCAL_RANK", 0))
    if local < torch.cuda.device_count():
        torch.cuda.set_device(local)


class Others:
    """The other processes of a run, as its first process knows them."""

    def __init__(self, launch: Launch, started: list[subprocess.Popen]):
        self.launch, self.started = launch, started
        self._store: Store | None = None
        self._ended = False
        if started:
            threading.Thread(target=self._watch, daemon=True).start()

    @property
    def rank(self) -> Rank:
        """The place of this process."""
        return self.launch.rank

    def send(self, run: Run, start: Progress) -> None:
        """Let the others train this run too, from the state it is in. Raises ProcessLost."""
        if self._store is None:
            self._store = self.launch.store()
            self.launch.join(self._store)
        state = io.BytesIO()
        torch.save(state_of(run, start), state)
        broadcast({"config": run.yaml, "state": state.getvalue()})

    def reason(self) -> str:
        """Why a process was lost, as far as it can be found out."""
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            for number in range(1, self.rank.world):
                key = f"{FAILED}/{number}"
                if self._store is not None and self._store.check([key]):
                    return self._store.get(key).decode()
            if (found := self._dead()) is not None:
                return found
            time.sleep(TICK)
        return "another process of this run has ended"

    def close(self) -> None:
        """End the others."""
        self._ended = True
        if self.started and self._store is not None:
            self._store.set(END, "0")
        deadline = time.monotonic() + (3 if self._store is not None else 0)
        for process in self.started:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(deadline - time.monotonic(), 0))
            if process.poll() is None:
                process.kill()
            process.wait()
        if dist.is_initialized():
            dist.destroy_process_group()

    def _dead(self) -> str | None:
        for number, process in enumerate(self.started, 1):
            if (code := process.poll()) is not None:
                how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
                return f"process {number} of {self.rank.world} has ended {how}"
        return None

    def _watch(self) -> None:
        """End this process where it does not notice by itself that another one is gone, as when it waits for a GPU."""
        while not self._ended and self._dead() is None:
            time.sleep(TICK)
        deadline = time.monotonic() + GRACE
        while not self._ended and time.monotonic() < deadline:
            time.sleep(TICK)
        if not self._ended:
            print(f"ganrun: error: {self._dead()}", file=sys.stderr, flush=True)
            os._exit(ENVIRONMENT)


@contextmanager
def others(wanted: int, path: Path) -> Iterator[Others | None]:
    """Within, the other processes of the run in this folder: those of torchrun, or `wanted` less one that are started.

    None where there are none. Raises EnvironmentFailed, with what is known of it, when one of them is lost.
    """
    launch = launched()
    if launch is None and wanted == 1:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="ganrun-") as folder:
        started = []
        if launch is None:
            launch, started = Launch(Rank(0, wanted), folder), _start(wanted, folder)
        prepare(launch)
        found = Others(launch, started)
        try:
            yield found
        except ProcessLost as error:
            raise EnvironmentFailed(f"{found.reason()}. Try: ganrun resume {shlex.quote(str(path))}") from error
        finally:
            found.close()


def _start(world: int, folder: str) -> list[subprocess.Popen]:
    """Start the others, which print nothing, share the processor evenly and import what this process would.

    They never hear what ends a run in order, be it sent to all of its processes: the first one hears it for all.
    """
    threads = str(max(1, (os.cpu_count() or 1) // world))
    torch.set_num_threads(min(torch.get_num_threads(), int(threads)))
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path if entry)
    mine = {FOLDER: folder, WORLD: str(world), FIRST: str(os.getpid()), "PYTHONPATH": path}
    common = {"OMP_NUM_THREADS": threads} | os.environ | mine
    with signals_blocked():
        return [
            subprocess.Popen(
                [sys.executable, "-P", "-m", "ganrun.run.follow"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=common | {NUMBER: str(number), "LOCAL_RANK": str(number)},
            )
            for number in range(1, world)
        ]


def broadcast(job: Any = None) -> Any:
    """What the first process gives, in all. Raises ProcessLost."""
    box = [job]
    try:
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    except (RuntimeError, ValueError) as error:
        raise ProcessLost("another process of this run has ended") from error
    return box[0]


def dismiss(code: int) -> None:
    """Tell the processes that torchrun started beside this first one to end with this exit code."""
    launch = launched()
    if launch is not None and launch.folder is None:
        with suppress(RuntimeError):
            launch.store().set(END, str(code))


def rank_of(found: Others | None) -> Rank:
    """The place of this process among these."""
    return ALONE if found is None else found.rank
