"""Arrays of images, in an .npy, .npz or HDF5 file, with labels or without."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.data.datasets.base import Dataset
from ganrun.data.readers.arrays import open_arrays
from ganrun.data.readers.regular import MappedFile, printable
from ganrun.data.transforms.classes import ClassSelection, select_classes
from ganrun.data.transforms.labels import encode_labels, is_one_hot
from ganrun.data.transforms.resize import check_fit, check_shape, to_shape
from ganrun.data.transforms.value_range import choose_range, chunks, measure, scale

CHANNELS = (1, 3)  # that images may have
LAYOUTS = ("NCHW", "NHWC")


class Array(Dataset):
    """The images of an array file, memory-mapped and converted when they are read."""

    def __init__(
        self,
        *,
        path: str | None,
        images: str | None,
        labels: str | bool | None,
        layout: str | None,
        range: Sequence[float] | None,
        fit: str,
        channels: int | None,
        resolution: int | None,
        classes: ClassSelection,
    ):
        """`images` and `labels` name arrays of the file, null the usual ones; for an .npy, `labels` is another file.

        `labels` is true to require some and false for none. Raises ConfigError for a file that cannot be read, and
        where layout or value range are ambiguous.
        """
        check_shape(channels, resolution)
        check_fit(fit)
        values, raw_labels, notes = open_arrays(path, images, labels)
        where = printable(str(path))
        self._file = MappedFile(str(path))
        self._values = channels_first(values, layout, channels, where)  # [N, C, H, W], any dtype
        self._ends = choose_range(values.dtype, measure(self._values, where), range)
        numbers, names = (None, ()) if raw_labels is None else encode_labels(raw_labels, len(values))
        self._rows, self.labels, self.classes = select_classes(classes, names, numbers)
        self.channels = channels or self._values.shape[1]
        self.resolution, self._fit = resolution or self._side(where), fit
        self.notes = [*notes, *self._more_notes(raw_labels)]

    def _more_notes(self, labels: np.ndarray | None) -> list[str]:
        """What was done to images and labels, a sentence each."""
        height, width = self._values.shape[2:]
        one_hot = labels is not None and labels.ndim == 2 and is_one_hot(labels, len(labels))
        found = [f"one-hot labels of {labels.shape[1]} numbers are read as classes"] if one_hot else []  # type: ignore[union-attr]
        if height != width:
            found.append(f"images of {height}x{width} pixels are made square: fit={self._fit}")
        return found

    def __len__(self) -> int:
        return len(self._values) if self._rows is None else len(self._rows)

    def image(self, index: int) -> Tensor:
        self._file.check()
        row = index if self._rows is None else int(self._rows[index])
        return self._converted(self._values[row : row + 1])[0]

    def bulk(self) -> tuple[Tensor, Tensor | None]:
        if self._rows is not None:
            return super().bulk()
        return torch.cat([self._converted(chunk) for _, chunk in chunks(self._values)]), self.labels

    def _converted(self, values: np.ndarray) -> Tensor:
        """Raw images as the data set has them. [N, C, H, W] -> [N, C', R, R]"""
        return to_shape(scale(values, self._ends), channels=self.channels, resolution=self.resolution, fit=self._fit)

    def _side(self, path: str) -> int:
        """Height and width of the images, which must be equal."""
        height, width = self._values.shape[2:]
        if height != width:
            expected = "squares, or a resolution to make them squares of"
            remedy = f".resolution={min(height, width)}"
            raise ConfigError(path, f"images of {height}x{width} pixels", expected, remedy)
        return height


def channels_first(values: np.ndarray, layout: str | None, channels: int | None, path: str) -> np.ndarray:
    """A view [N, C, H, W] of images [N, H, W], [N, C, H, W] or [N, H, W, C]. Raises ConfigError for other shapes."""
    if layout not in (None, *LAYOUTS):
        raise ConfigError(".layout", repr(layout), "NCHW, NHWC or null", ".layout=NHWC")
    if values.ndim not in (3, 4) or 0 in values.shape:
        raise ConfigError(path, f"an array of shape {values.shape}", "images [N, H, W], [N, C, H, W] or [N, H, W, C]",
                          "numpy.reshape, and saving it again")  # fmt: skip
    if values.ndim == 3:
        return values[:, None]
    return values.transpose(0, 3, 1, 2) if find_layout(values.shape, layout, channels, path) == "NHWC" else values


def find_layout(shape: Sequence[int], layout: str | None, channels: int | None, path: str) -> str:
    """NCHW or NHWC: as set, or the only one with 1 or 3 channels. Raises ConfigError when it is neither or unclear."""
    at = {"NCHW": shape[1], "NHWC": shape[3]}
    if layout is not None:
        return _checked_layout(shape, layout, at)
    fitting = [name for name in LAYOUTS if at[name] in CHANNELS]
    exact = [name for name in fitting if at[name] == channels]
    if len(fitting) == 1 or len(exact) == 1:
        return (exact or fitting)[0]
    if fitting:
        raise ConfigError(".layout", f"not set, and {tuple(shape)} may be either", "NCHW or NHWC", ".layout=NHWC")
    found = f"an array of shape {tuple(shape)}, neither {at['NCHW']} nor {at['NHWC']} of which are colours"
    raise ConfigError(path, found, "1 or 3 channels", "saving the colours alone, without alpha")


def _checked_layout(shape: Sequence[int], layout: str, at: dict[str, int]) -> str:
    if at[layout] in CHANNELS:
        return layout
    other = next((name for name in LAYOUTS if at[name] in CHANNELS), None)
    found = f"{layout}, so {at[layout]} channels in {tuple(shape)}"
    raise ConfigError(".layout", found, "1 or 3 channels", f".layout={other}" if other else "saving the colours alone")
