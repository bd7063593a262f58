"""Arrays of images, in an .npy or .npz file, with labels or without."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.data.datasets.base import Dataset
from ganrun.data.readers.npy import open_arrays, readable
from ganrun.data.transforms.classes import Wanted, select
from ganrun.data.transforms.resize import check_shape, fit
from ganrun.data.transforms.value_range import measure, pieces, scale, settle

COLOURS = (1, 3)  # how many channels images have
LAYOUTS = ("NCHW", "NHWC")


class Array(Dataset):
    """Images of an array file, mapped from the disk and converted when they are asked for."""

    def __init__(
        self,
        *,
        path: str | None,
        images: str | None,
        labels: str | None,
        layout: str | None,
        range: Sequence[float] | None,
        channels: int | None,
        resolution: int | None,
        classes: Wanted,
    ):
        """`images`, `labels`: names inside an .npz (null: the usual ones), or for an .npy another file of labels."""
        check_shape(channels, resolution)
        file = readable(path, "dataset.path")
        values, marks = open_arrays(file, images, labels)
        self._values = channels_first(values, layout, channels, str(file))  # [N, C, H, W], any kind of number
        self._ends = settle(values.dtype, measure(self._values, str(file)), range)
        numbers, names = (None, ()) if marks is None else number(marks, len(values))
        self._rows, self.labels, self.classes = select(classes, names, numbers)
        self.channels = channels or self._values.shape[1]
        self.resolution = resolution or self._square(str(file))

    def __len__(self) -> int:
        return len(self._values) if self._rows is None else len(self._rows)

    def image(self, index: int) -> Tensor:
        row = index if self._rows is None else int(self._rows[index])
        return self._fitted(self._values[row : row + 1])[0]

    def bulk(self) -> tuple[Tensor, Tensor | None]:
        if self._rows is not None:
            return super().bulk()
        return torch.cat([self._fitted(piece) for _, piece in pieces(self._values)]), self.labels

    def _fitted(self, values: np.ndarray) -> Tensor:
        return fit(scale(values, self._ends), channels=self.channels, resolution=self.resolution)

    def _square(self, path: str) -> int:
        height, width = self._values.shape[2:]
        if height != width:
            expected = "squares, or a resolution to crop and resize to"
            remedy = f"dataset.resolution={min(height, width)}"
            raise ConfigError(path, f"images of {height}x{width} pixels", expected, remedy)
        return height


def channels_first(values: np.ndarray, layout: str | None, channels: int | None, path: str) -> np.ndarray:
    """A view [N, C, H, W] of images that come as [N, H, W], [N, C, H, W] or [N, H, W, C]."""
    if layout not in (None, *LAYOUTS):
        raise ConfigError("dataset.layout", repr(layout), "NCHW, NHWC or null", "dataset.layout=NHWC")
    if values.ndim not in (3, 4) or 0 in values.shape:
        raise ConfigError(path, f"an array of shape {values.shape}", "images [N, H, W], [N, C, H, W] or [N, H, W, C]",
                      "numpy.reshape, and saving it again")  # fmt: skip
    if values.ndim == 3:
        return values[:, None]
    return values.transpose(0, 3, 1, 2) if find_layout(values.shape, layout, channels, path) == "NHWC" else values


def find_layout(shape: Sequence[int], layout: str | None, channels: int | None, path: str) -> str:
    """Where the channels are: told, or the only place where 1 or 3 of them can be."""
    at = {"NCHW": shape[1], "NHWC": shape[3]}
    if layout is not None:
        if at[layout] not in COLOURS:
            other = next((name for name in LAYOUTS if at[name] in COLOURS), None)
            found = f"{layout}, so {at[layout]} channels in {tuple(shape)}"
            remedy = f"dataset.layout={other}" if other else "saving the colours alone"
            raise ConfigError("dataset.layout", found, "1 or 3 channels", remedy)
        return layout
    fitting = [name for name in LAYOUTS if at[name] in COLOURS]
    exact = [name for name in fitting if at[name] == channels]
    if len(fitting) == 1 or len(exact) == 1:
        return (exact or fitting)[0]
    if fitting:
        raise ConfigError(
            "dataset.layout", f"not set, and {tuple(shape)} may be either", "NCHW or NHWC", "dataset.layout=NHWC"
        )
    found = f"an array of shape {tuple(shape)}, neither {at['NCHW']} nor {at['NHWC']} of which are colours"
    raise ConfigError(path, found, "1 or 3 channels", "saving the colours alone, without alpha")


def number(marks: np.ndarray, images: int) -> tuple[Tensor, tuple[str, ...]]:
    """Labels as 0..k-1, and the names of the classes: the numbers that were found."""
    where = "dataset.labels"
    if marks.shape == (images, 1):
        marks = marks[:, 0]
    if marks.shape != (images,):
        raise ConfigError(
            where, f"labels of shape {marks.shape} for {images} images", f"({images},)", "labels of these images"
        )
    if marks.dtype.kind == "f" and np.isfinite(marks).all() and (marks == np.round(marks)).all():
        marks = marks.astype(np.int64)
    if marks.dtype.kind not in "buiU":
        raise ConfigError(
            where, f"labels of type {marks.dtype}", "whole numbers from 0 up, or names", "saving them as int64"
        )
    if marks.dtype.kind == "i" and marks.min() < 0:
        first = int((marks < 0).argmax())
        raise ConfigError(where, f"the label {marks[first]} of image {first}", "whole numbers from 0 up",
                      "leaving unlabelled images out")  # fmt: skip
    kinds, numbers = np.unique(marks, return_inverse=True)
    return torch.from_numpy(numbers.astype(np.int64)), tuple(str(kind) for kind in kinds)
