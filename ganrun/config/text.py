"""The setting `dataset.text`, which every data set has, and what is measured of captions for the networks."""

from __future__ import annotations

from typing import Annotated, Any

from ganrun.config.types import Called, fits, unfit
from ganrun.core.errors import ConfigError
from ganrun.data.datasets.base import DataSets
from ganrun.data.datasets.captions import give_text

TEXT = Annotated[str | None, Called("words, a FILE.npy, or null")]
NOTHING: dict[str, Any] = {"text_size": 0, "word_count": 0, "words": ""}  # of data whose captions are not read


def take_text(node: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Take `text`, and what was measured before, out of the settings of a data set; a run of before them has none."""
    return node.pop("text", None), {key: node.pop(key, nothing) for key, nothing in NOTHING.items()}


def measure_text(data: DataSets, setting: Any, stated: dict[str, Any]) -> dict[str, Any]:
    """Give the data their text; returns how long sentences are and which words there are, for the configuration.

    Raises ConfigError for a setting that is none, for data without captions, and where a run had other captions.
    """
    if not fits(setting, TEXT):
        raise unfit("dataset.text", setting, TEXT)
    found = NOTHING if setting is None else _measured(data, setting)
    if stated not in (NOTHING, found):
        key = next(key for key, value in found.items() if stated[key] != value)
        what = f"{str(stated[key])[:80]!r}, but the captions have {str(found[key])[:80]!r}"
        raise ConfigError(f"dataset.{key}", what, "nothing: it is measured", f"'~dataset.{key}'")
    return found


def _measured(data: DataSets, setting: str) -> dict[str, Any]:
    try:
        vocabulary = give_text(data, setting)
    except ConfigError as error:
        raise error.at("dataset") from error
    if vocabulary is None:
        (dataset,) = data.streams.values()
        assert dataset.embedding is not None
        return NOTHING | {"text_size": dataset.embedding.shape[1]}
    words = " ".join(vocabulary.words)
    return {"text_size": vocabulary.length, "word_count": vocabulary.size, "words": words}
