"""Streaming: worker processes read data that do not fit into memory, in the same order as resident data."""

from __future__ import annotations

import signal
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ganrun.core.errors import ConfigError, EnvironmentFailed
from ganrun.core.ranks import ALONE, Rank
from ganrun.core.seeding import generator
from ganrun.data.datasets.base import Dataset
from ganrun.data.sources.order import Chunks
from ganrun.data.sources.source import Source

SIGNALS = (signal.SIGINT, signal.SIGTERM)
Rows = tuple[Tensor, Tensor | None]


class Streamed(Source):
    """Batches that worker processes read ahead. The workers ignore signals: the run decides when to stop."""

    def __init__(
        self,
        dataset: Dataset,
        *,
        seed: int,
        device: torch.device,
        workers: int,
        rank: Rank = ALONE,
        stream: str = "data",
    ):
        """Starts no process before the first draw."""
        super().__init__(dataset, seed=seed, device=device, rank=rank, stream=stream)
        self.workers = workers
        self._images = 0  # in a list that the workers read
        self._chunks: Iterator[Any] | None = None
        self._rest: Rows | None = None  # read already, not drawn yet
        self._end: weakref.finalize | None = None

    def _next(self, images: int) -> Rows:
        if self.rank.world > 1 and images != self._images:
            self._stop()  # what was read ahead belongs to other processes now
        pieces, missing = [], images
        while missing > 0:
            piece = self._rest or self._read(images)
            pieces.append(_cut(piece, 0, missing))
            self._rest = _cut(piece, missing, None) if len(piece[0]) > missing else None
            missing -= len(pieces[-1][0])
        return self._placed(pieces[0] if len(pieces) == 1 else _joined(pieces))

    def _fetch(self, indices: Tensor) -> Rows:
        return self._placed(IndexedReader(self.dataset).rows(indices.tolist()))

    def _placed(self, rows: Rows) -> Rows:
        layout = torch.channels_last if rows[0].shape[-1] > 1 else torch.contiguous_format
        images = rows[0].to(self.device, non_blocking=True, memory_format=layout)
        return images, None if rows[1] is None else rows[1].to(self.device, non_blocking=True)

    def _read(self, images: int) -> Rows:
        if self._chunks is None:
            self._chunks = self._begin(images)
        try:
            read = next(self._chunks)
        except (RuntimeError, OSError, EOFError) as problem:  # a worker died: out of memory, or killed
            known = isinstance(problem, RuntimeError)  # else it died while it sent what it had read
            reason = str(problem).splitlines()[0] if known else f"a worker was killed ({type(problem).__name__})"
            raise EnvironmentFailed(f"data: reading ahead failed: {reason}. Try: engine.workers=0") from problem
        return _checked(read)

    def _begin(self, images: int) -> Iterator[Any]:
        """Start the workers at the current position."""
        self._images = images
        parallel = {"prefetch_factor": 2, "worker_init_fn": ignore_signals} if self.workers else {}
        forks = self.workers and sys.platform.startswith("linux")
        loader: DataLoader = DataLoader(
            IndexedReader(self.dataset),  # type: ignore[arg-type]
            batch_sampler=Chunks(order=self._order, start=self._seen, images=images, rank=self.rank),
            num_workers=self.workers,
            collate_fn=_identity,
            pin_memory=self.device.type == "cuda",
            generator=generator(self.seed, "loader"),  # the loader would draw from torch's own otherwise
            multiprocessing_context="fork" if forks else None,
            **parallel,  # type: ignore[arg-type]
        )
        with _signals_blocked():
            chunks = iter(loader)
        self._end = weakref.finalize(self, _shut_down, chunks)  # also at exit, without close()
        return chunks

    def _stop(self) -> None:
        self._chunks = self._rest = None
        if self._end is not None:
            self._end()
            self._end = None


class IndexedReader:
    """Reads lists of indices in a worker. Images and labels, or the message of a ConfigError."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def rows(self, indices: list[int]) -> Rows:
        """The images [B, C, H, W] at these indices, as stored, and their labels [B]."""
        images = torch.stack([self.dataset.image(index) for index in indices])
        labels = self.dataset.labels
        return images, None if labels is None else labels[torch.tensor(indices)]

    def __getitems__(self, indices: list[int]) -> Rows | str:
        try:
            return self.rows(indices)
        except ConfigError as problem:  # cannot be raised across processes as it is
            return str(problem)


def ignore_signals(worker: int) -> None:
    """Ignore signals in a worker, which the run still needs while it writes its last checkpoint."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block signals while workers start, which inherit the mask, until they ignore them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _shut_down(chunks: Any) -> None:
    """End the workers, and kill those that do not: they ignore the signal that a loader would send."""
    workers = list(getattr(chunks, "_workers", ()))
    if workers:
        with suppress(RuntimeError):  # one of them was killed
            chunks._shutdown_workers()
    for worker in workers:
        if worker.is_alive():
            worker.kill()
        worker.join()


def _checked(read: Rows | str) -> Rows:
    if isinstance(read, str):
        raise EnvironmentFailed(read)
    return read[0], read[1]


def _identity(read: Any) -> Any:
    return read


def _cut(rows: Rows, start: int, stop: int | None) -> Rows:
    return rows[0][start:stop], None if rows[1] is None else rows[1][start:stop]


def _joined(pieces: list[Rows]) -> Rows:
    labels = [piece[1] for piece in pieces if piece[1] is not None]
    return torch.cat([piece[0] for piece in pieces]), torch.cat(labels) if labels else None
