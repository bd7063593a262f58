"""Captions as networks read them: numbers of words, or what another network made of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.data.datasets.base import Dataset, DataSets
from ganrun.data.readers.npy import open_npy
from ganrun.data.readers.regular import printable
from ganrun.data.transforms.vocabulary import LONGEST, MOST, Vocabulary, words_of

WORDS = "words"
DATA = "dataset=shapes, emoji or captions"


def give_text(data: DataSets, setting: str) -> Vocabulary | None:
    """Let networks read the captions of these data: their `words`, or the rows of a FILE.npy [N, E], one an image.

    Returns the vocabulary of words; None for a file. Raises ConfigError for data without captions, and for a file that
    does not belong to them.
    """
    if len(data.streams) > 1:
        raise ConfigError(".text", f"{setting}, but these are several data sets", "one data set", ".text=null")
    (dataset,) = data.streams.values()
    if dataset.test is not None:  # a test split has its own images, for which there is neither caption nor row
        dataset.test = None
        dataset.notes = [*dataset.notes, "their own test split has no captions and is left out"]
    if setting != WORDS:
        dataset.embedding = read_embeddings(setting, len(dataset))
        return None
    captions = dataset.captions
    if not captions:
        remedy = ".text=null, or a FILE.npy with a row for each image"
        raise ConfigError(".text", f"{WORDS}, but {dataset.kind} has no captions", DATA, remedy)
    vocabulary = Vocabulary.of(captions)
    dataset.text = vocabulary.encode(captions)
    dataset.notes = [*dataset.notes, *_notes(dataset, vocabulary)]
    return vocabulary


def read_embeddings(path: str, images: int) -> Tensor:
    """The rows of a .npy file, [N, E] float32, one an image. Raises ConfigError as `read_rows`, and for other data."""
    if not path.endswith(".npy"):
        raise ConfigError(".text", printable(path), f"{WORDS}, or a FILE.npy of numbers [N, E]", f".text={WORDS}")
    rows = read_rows(path, ".text")
    if len(rows) != images:
        raise ConfigError(".text", f"{printable(path)} has {len(rows):,} rows", f"{images:,}, one for each image")
    return rows


def read_rows(path: str, where: str) -> Tensor:
    """The rows of a .npy file, [N, E] float32. Raises ConfigError for another array, and for values not finite."""
    try:
        values = open_npy(Path(path).expanduser())
    except ConfigError as error:
        remedy = f"{where}={WORDS}" if where == ".text" else ""
        raise ConfigError(where, f"{error.where} {error.found}", error.expected, remedy) from error
    if values.ndim != 2 or values.dtype.kind not in "fiu" or not values.size:
        found = f"{printable(path)} has {list(values.shape)} values of {values.dtype}"
        raise ConfigError(where, found, "[N, E] numbers", f"{where}={WORDS}" if where == ".text" else "")
    rows = torch.from_numpy(np.array(values, dtype=np.float32))
    if not bool(rows.isfinite().all()):
        raise ConfigError(where, f"{printable(path)} has values that are not finite", "finite numbers")
    return rows


def _notes(dataset: Dataset, vocabulary: Vocabulary) -> list[str]:
    """What the captions hold, and what of them is not read."""
    assert dataset.text is not None
    different = len(torch.unique(dataset.text, dim=0))
    notes = [
        f"captions of up to {vocabulary.length} words, {different:,} of them different; {len(vocabulary.words):,} words"
    ]
    cut = sum(len(words_of(caption)) > LONGEST for caption in dataset.captions)
    notes += [f"{cut:,} captions have more than {LONGEST} words: the rest is not read"] if cut else []
    return notes + (["the rarest words are not read"] if len(vocabulary.words) == MOST else [])
