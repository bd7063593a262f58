"""Held-out images: a part of any data set that no run trains on, the same in every run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import blake2b

import torch
from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.core.seeding import generator
from ganrun.data.datasets.base import Dataset, DataSets


def hold_out(data: DataSets, share: float) -> DataSets:
    """The data without some images of each stream, which become the `test` of that stream.

    `share` below 1 is the part of the images, rounded, so that very few images stay whole; from 1 on it is their
    number; 0 leaves the data as they are, with a test split of their own where they have one. Held-out crops, stacks
    and variants are made of what the others are made of too.
    Raises ConfigError for a number of images that a stream does not have.
    """
    if not share:
        return data
    return data.with_streams({name: _divided(dataset, share) for name, dataset in data.streams.items()})


def _divided(dataset: Dataset, share: float) -> Dataset:
    total = len(dataset)
    count = _count(share, total)
    if not count:
        dataset.notes = [
            *dataset.notes,
            f"{total:,} images are too few to hold some out: there is nothing to compare with",
        ]
        return dataset
    order = _order(dataset)
    count = _whole_files(count, order, dataset.file_names())
    kept, out = dataset.part(order[count:].sort().values), dataset.part(order[:count].sort().values)
    kept.test, out.test = out, None
    kept.notes = [*dataset.notes, f"{count:,} of {total:,} images are held out: they are never trained on"]
    return kept


def _count(share: float, total: int) -> int:
    """How many of `total` images."""
    count = round(share * total) if share < 1 else int(share)
    if not 0 <= count < total or (share > 1 and share != count):
        expected = f"a part below 1, or a number of images from 0 to {total - 1}"
        raise ConfigError(".held_out", f"{share:g} of {total} images", expected, ".held_out=0.1")
    return count


def _whole_files(count: int, order: Tensor, names: Sequence[str]) -> int:
    """The count, or a few more: an image that is there several times, once for each caption, is not divided.

    Fewer where these were all.
    """
    ends = [i for i in range(1, len(order)) if not names or names[int(order[i - 1])] != names[int(order[i])]]
    return next((end for end in ends if end >= count), ends[-1] if ends else count)


def _order(dataset: Dataset) -> Tensor:
    """Indices at random, the first of which are held out; the same in every run. [N]

    Files are in the order of a hash of their names: when one is gone or another comes, the rest stay where they are.
    """
    names = dataset.file_names()
    if not names:
        return torch.randperm(len(dataset), generator=generator(0, "held out"))
    hashes = [blake2b(os.fsencode(name), digest_size=8).digest() for name in names]
    return torch.tensor(sorted(range(len(names)), key=hashes.__getitem__))
