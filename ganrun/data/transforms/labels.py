"""Labels of any kind as 0..k-1, with names."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ganrun.core.errors import ConfigError

WHERE = ".labels"


def encode_labels(raw: np.ndarray, images: int) -> tuple[Tensor, tuple[str, ...]]:
    """Labels [N], [N, 1], or one-hot [N, K], as 0..k-1, and the values that were found as names.

    Raises ConfigError for what is no label.
    """
    if raw.shape == (images, 1):
        raw = raw[:, 0]
    elif is_one_hot(raw, images):
        raw = raw.argmax(1)
    if raw.shape != (images,):
        remedy = "the labels of these images, or .labels=false"
        if raw.ndim == 2 and len(raw) == images:
            remedy = "numpy.argmax(labels, axis=1), and saving that"
        raise ConfigError(WHERE, f"labels of shape {raw.shape} for {images} images", f"({images},)", remedy)
    raw = _as_words(raw)
    values, numbers = np.unique(raw, return_inverse=True)
    return torch.from_numpy(numbers.reshape(-1).astype(np.int64)), tuple(str(value) for value in values)


def is_one_hot(raw: np.ndarray, images: int) -> bool:
    """Whether each row [K] is a one among zeros."""
    if raw.ndim != 2 or len(raw) != images or raw.shape[1] < 2 or raw.dtype.kind not in "buif":
        return False
    return bool(((raw == 0) | (raw == 1)).all() and (raw.sum(1) == 1).all())


def _as_words(raw: np.ndarray) -> np.ndarray:
    """Whole numbers or text [N]. Refuses everything else, and negative numbers."""
    if raw.dtype.kind == "f" and np.isfinite(raw).all() and (raw == np.round(raw)).all():
        raw = raw.astype(np.int64)
    if raw.dtype.kind == "S":
        raw = np.char.decode(raw, "utf-8", "backslashreplace")
    if raw.dtype.kind not in "buiU":
        expected = "whole numbers from 0 up, or names"
        raise ConfigError(WHERE, f"labels of type {raw.dtype}", expected, "saving them as int64")
    if raw.dtype.kind == "i" and raw.min() < 0:
        first = int((raw < 0).argmax())
        raise ConfigError(WHERE, f"the label {raw[first]} of image {first}", "whole numbers from 0 up",
                          "leaving unlabelled images out")  # fmt: skip
    return raw
