"""Opening data sets: resident on the device where they fit, else streamed through worker processes."""

from __future__ import annotations

import torch

from ganrun.core.ranks import ALONE, Rank
from ganrun.data.datasets.base import Dataset, DataSets
from ganrun.data.sources.source import Resident, Source
from ganrun.data.sources.streamed import PATIENCE, Streamed
from ganrun.data.sources.streams import Streams


def open_streams(
    data: DataSets,
    *,
    seed: int,
    device: torch.device,
    workers: int,
    memory: float,
    timeout: float = PATIENCE,
    rank: Rank = ALONE,
) -> Streams:
    """The streams of these data. Together they stay on the device up to `memory` GiB.

    `timeout`: seconds without an image after which a draw fails.
    """
    share = memory / len(data.streams)
    sources = {}
    for name, dataset in data.streams.items():
        sources[name] = open_source(
            dataset,
            seed=seed,
            device=device,
            workers=workers,
            memory=share,
            timeout=timeout,
            rank=rank,
            stream=_order_of(name),
        )
    return Streams(sources)


def open_source(
    dataset: Dataset,
    *,
    seed: int,
    device: torch.device,
    workers: int,
    memory: float,
    timeout: float = PATIENCE,
    rank: Rank = ALONE,
    stream: str = "data",
) -> Source:
    """Keep the data on the device when they fit into `memory` GiB; stream them through `workers` processes if not.

    `stream` names the random order, so that streams do not run in step.
    """
    image, each = dataset.stored.image(0), 1 if dataset.inputs is None else 2
    dataset.fingerprint()  # while its files are there
    if len(dataset) * each * image.numel() * image.element_size() <= memory * 2**30:
        return Resident(dataset, seed=seed, device=device, rank=rank, stream=stream)
    return Streamed(dataset, seed=seed, device=device, workers=workers, timeout=timeout, rank=rank, stream=stream)


def _order_of(stream: str) -> str:
    """The name of a stream's random order; the only stream's is `data`."""
    return "data" if stream == "images" else f"data/{stream}"
