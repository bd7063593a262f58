"""Streaming: worker processes read data that do not fit into memory, in the same order as resident data."""

from __future__ import annotations

import copy
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty, Full, Queue
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ganrun.core.errors import ConfigError, EnvironmentFailed, WaitInterrupted
from ganrun.core.ranks import ALONE, Rank
from ganrun.core.seeding import generator
from ganrun.data.datasets.base import Dataset
from ganrun.data.sources.order import Chunks
from ganrun.data.sources.source import Rows, Source, joined
from ganrun.data.sources.workers import child_handler_kept, prepare_worker, signals_blocked

TICK = 0.1  # seconds between two looks at what may have ended a wait
PATIENCE = 600.0  # seconds without an image after which a source is given up


class Streamed(Source):
    """Batches that worker processes read ahead. The workers ignore signals: the run decides when to stop."""

    def __init__(
        self,
        dataset: Dataset,
        *,
        seed: int,
        device: torch.device,
        workers: int,
        timeout: float = PATIENCE,
        rank: Rank = ALONE,
        stream: str = "data",
    ):
        """Starts no process before the first draw. `timeout`: seconds without an image after which a draw fails."""
        super().__init__(dataset, seed=seed, device=device, rank=rank, stream=stream)
        self.workers, self.timeout = workers, timeout
        self._images = 0  # in a list that the workers read
        self._ahead: Ahead | None = None
        self._read: list[Rows] = []  # and not drawn yet
        self._drawn = self._usual = 0  # images that this step has drawn, and that the step before did
        self._interrupted: Callable[[], bool] = lambda: False
        self._end: weakref.finalize | None = None

    def ready(self, interrupted: Callable[[], bool]) -> bool:
        """Wait for as many images as the last step drew. False when that was interrupted.

        Draws ask `interrupted` too while they wait.
        """
        self._interrupted = interrupted
        self._usual, self._drawn = self._drawn, 0
        try:
            while self.rank.world == 1 and self._usual > self._held():
                self._read.append(self._next_read(self._images))
        except WaitInterrupted:
            return False
        return True

    def _next(self, images: int) -> Rows:
        if self.rank.world > 1 and images != self._images:
            self._stop()  # what was read ahead belongs to other processes now
        while self._held() < images:
            self._read.append(self._next_read(images))
        pieces, missing = [], images
        while missing > 0:
            first = self._read.pop(0)
            pieces.append(_cut(first, 0, missing))
            if len(first.images) > missing:
                self._read.insert(0, _cut(first, missing, None))
            missing -= len(pieces[-1].images)
        self._drawn += images
        return self._placed(pieces[0] if len(pieces) == 1 else joined(pieces))

    def _held(self) -> int:
        """Images that were read and not drawn."""
        return sum(len(rows.images) for rows in self._read)

    def _fetch(self, indices: Tensor) -> Rows:
        return self._placed(IndexedReader(self.dataset.stored).rows(indices.tolist()))

    def _placed(self, rows: Rows) -> Rows:
        layout = torch.channels_last if rows.images.shape[-1] > 1 else torch.contiguous_format

        def placed(column: Tensor) -> Tensor:
            kept = layout if column.dim() == 4 else torch.preserve_format
            return column.to(self.device, non_blocking=True, memory_format=kept)

        return rows.each(placed)

    def _next_read(self, images: int) -> Rows:
        """The next list that was read ahead. Raises EnvironmentFailed, and WaitInterrupted while there is none yet."""
        if self._ahead is None:
            self._ahead = self._begin(images)
        give_up = time.monotonic() + self.timeout
        while (read := self._ahead.take(TICK)) is None:
            if self._interrupted():
                raise WaitInterrupted
            if time.monotonic() > give_up:
                found = f"data: not one image came for {self.timeout:g} s"
                raise EnvironmentFailed(f"{found}. Try: engine.data_timeout={2 * self.timeout:g}, if that is usual")
        if isinstance(read, str):
            raise EnvironmentFailed(read)
        return read

    def _begin(self, images: int) -> Ahead:
        """Start the workers at the current position."""
        self._images = images
        parallel = {"prefetch_factor": 2, "worker_init_fn": prepare_worker} if self.workers else {}
        forks = self.workers and sys.platform.startswith("linux")
        order = copy.copy(self._order)  # the thread that reads ahead has one of its own
        loader: DataLoader = DataLoader(
            IndexedReader(self.dataset.stored, order.stream.replace("data", "dataset").replace("/", ".")),  # type: ignore[arg-type]
            batch_sampler=Chunks(order=order, start=self._seen, images=images, rank=self.rank),
            num_workers=self.workers,
            collate_fn=_identity,
            pin_memory=self.device.type == "cuda",
            generator=generator(self.seed, "loader"),  # the loader would draw from torch's own otherwise
            multiprocessing_context="fork" if forks else None,
            **parallel,  # type: ignore[arg-type]
        )
        ahead = Ahead(loader)
        self._end = weakref.finalize(self, ahead.close)  # also at exit, without close()
        return ahead

    def _stop(self) -> None:
        self._ahead, self._read = None, []
        self._drawn = 0
        if self._end is not None:
            self._end()
            self._end = None


class Ahead:
    """What a loader reads, through a thread: whoever takes it waits only as long as he likes, and hears signals.

    A loader's own wait ends with what its workers send: one that is stopped, or waits for a disk that does not answer,
    would keep the run from hearing anything.
    """

    def __init__(self, loader: DataLoader):
        """Starts the workers, and the thread."""
        with signals_blocked(), child_handler_kept():
            self._chunks = iter(loader)
            self._ready: Queue[Any] = Queue(1)
            self._stopped = threading.Event()
            arguments = (self._chunks, self._ready, self._stopped)
            self._thread = threading.Thread(target=_fill, args=arguments, name="reading ahead", daemon=True)
            self._thread.start()

    @property
    def workers(self) -> list[Any]:
        """The processes that read; none where the thread reads itself."""
        return list(getattr(self._chunks, "_workers", ()))

    def take(self, seconds: float) -> Rows | str | None:
        """The next list, or why it cannot be read; None when none comes within these seconds.

        Raises EnvironmentFailed when a worker died.
        """
        try:
            read = self._ready.get(timeout=seconds)
        except Empty:
            self._refuse_dead()
            return None
        if not isinstance(read, BaseException):
            return read
        for worker in self.workers:  # the end of one may be seen here a moment before it is one
            worker.join(TICK)
        self._refuse_dead()
        if isinstance(read, (RuntimeError, OSError, EOFError)):  # a worker died while it sent what it had read
            raise _failed(str(read).splitlines()[0] if str(read) else type(read).__name__) from read
        raise read

    def _refuse_dead(self) -> None:
        for worker in self.workers:
            if not worker.is_alive():
                raise _failed(f"a worker process {_ending(worker.exitcode)}")

    def close(self) -> None:
        """End the thread and the workers. These read only, so they are killed: they ignore every other signal.

        A worker that is killed while it asks whether to stop keeps the lock of that event, and torch would wait
        for it without bound: nobody is left to hear it, so an event of this process takes its place.
        """
        self._stopped.set()
        self._thread.join(4 * TICK)
        for worker in self.workers:
            worker.kill()
            worker.join()
        with suppress(OSError, EOFError, RuntimeError):  # what is left of the loader: queues, and their threads
            if self.workers:
                self._chunks._workers_done_event = threading.Event()  # type: ignore[attr-defined]
                self._chunks._shutdown_workers()  # type: ignore[attr-defined]


def _fill(chunks: Iterator[Any], ready: Queue, stopped: threading.Event) -> None:
    """Put what is read into the queue until told to stop, or until reading fails: then the reason, and no more."""
    read: Any = None
    while not (stopped.is_set() or isinstance(read, BaseException)):
        try:
            read = next(chunks)
        except BaseException as problem:
            read = problem
        while not stopped.is_set():
            with suppress(Full):
                ready.put(read, timeout=TICK)
                break


def _failed(reason: str) -> EnvironmentFailed:
    return EnvironmentFailed(f"data: reading ahead failed: {reason}. Try: engine.workers=0")


def _ending(code: int | None) -> str:
    """How a process ended that should not have, in words."""
    if code is None or code >= 0:
        return f"ended (exit code {code})"
    return f"was killed by {signal.Signals(-code).name}" + (" (out of memory?)" if -code == signal.SIGKILL else "")


class IndexedReader:
    """Reads lists of indices in a worker. Images and what belongs to them, or the message of a ConfigError."""

    def __init__(self, dataset: Dataset, place: str = "dataset"):
        """`place` is that of the data in the configuration, for messages."""
        self.dataset, self.place = dataset, place

    def __len__(self) -> int:
        return len(self.dataset)

    def rows(self, indices: list[int]) -> Rows:
        """The images [B, C, H, W] at these indices, as stored, and all that belongs to them."""
        inputs, chosen = self.dataset.inputs, torch.tensor(indices)
        condition = self.dataset.condition.each(lambda given: given[chosen])
        made_from = None if inputs is None else torch.stack([inputs.image(index) for index in indices])
        images = torch.stack([self.dataset.image(index) for index in indices])
        return Rows(images, condition._replace(image=made_from))

    def __getitems__(self, indices: list[int]) -> Rows | str:
        try:
            return self.rows(indices)
        except ConfigError as problem:  # cannot be raised across processes as it is
            return str(problem.at(self.place))


def _identity(read: Any) -> Any:
    return read


def _cut(rows: Rows, start: int, stop: int | None) -> Rows:
    return rows.each(lambda column: column[start:stop])
