"""Real images without a download: those that scikit-learn ships, read from its files.

scikit-learn itself is not imported, which would take more than a second.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.core.seeding import generator
from ganrun.data.datasets.base import Dataset, InMemory
from ganrun.data.datasets.sizes import check_size
from ganrun.data.readers.package_file import package_file
from ganrun.data.transforms.classes import ClassSelection, select_classes
from ganrun.data.transforms.resize import check_shape, convert_channels, resize
from ganrun.data.transforms.value_range import choose_range, measure, scale

DIGITS = tuple(str(digit) for digit in range(10))
LARGEST = 256  # pixels; the photographs have 427 by 640


class Digits(InMemory):
    """The 1,797 handwritten digits of 8x8 pixels and 17 greys, upscaled. Alpaydin and Kaynak 1998."""

    def __init__(
        self, *, channels: int, resolution: int, classes: ClassSelection, range: Sequence[float] | None = None
    ):
        """`range`: the values that become -1 and 1, null for 0 and 255.

        Raises ConfigError for a range that does not hold the values, and without scikit-learn.
        """
        check_shape(channels, resolution, most=LARGEST)
        pixels, labels = read_digits()
        images = convert_channels(resize(pixels, resolution, mode="bicubic"), channels).contiguous()
        values = images.numpy()
        images = scale(values, choose_range(values.dtype, measure(values, "the digits"), range, "the digits"))
        super().__init__(images=images, labels=labels, names=DIGITS, classes=classes)


def read_digits() -> tuple[Tensor, Tensor]:
    """All digits [1797, 1, 8, 8] uint8 with their labels [1797] int64. Raises ConfigError for a missing or bad file."""
    path = sklearn_file("data/digits.csv.gz")
    try:
        with gzip.open(path, "rt") as file:
            rows = torch.from_numpy(np.loadtxt(file, delimiter=","))  # [N, 64 values of 0..16 and the digit]
        grey = rows[:, :64].reshape(-1, 1, 8, 8).float() * (255 / 16)
    except (OSError, EOFError, ValueError, RuntimeError) as problem:  # damaged, or something else of that name
        reason = str(problem).splitlines()[0]
        raise ConfigError(
            str(path), f"cannot be read ({reason})", "the digits", "installing scikit-learn again"
        ) from None
    return grey.round().to(torch.uint8), rows[:, 64].long()


class Photos(Dataset):
    """Random crops of two photographs, a Chinese temple and a flower; a crop is cut when it is read."""

    def __init__(self, *, size: int, seed: int, share: float, channels: int, resolution: int, classes: ClassSelection):
        """`share` is the fraction of a photograph's shorter side that a crop spans.

        Raises ConfigError for sizes and shares that cannot be cut, and without scikit-learn.
        """
        check_shape(channels, resolution, most=LARGEST)
        _check(size, share)
        names = ["china", "flower"]
        photos = [shrink(read_photo(name), round(resolution / share), channels) for name in names]
        self.channels, self.resolution = channels, resolution
        indices, self.labels, self.classes = select_classes(classes, names, torch.arange(size) % len(photos))
        self.corners = self._corners(size, seed) if indices is None else self._corners(size, seed)[indices]
        self.photos = [photos[names.index(name)] for name in self.classes]

    def _corners(self, size: int, seed: int) -> Tensor:
        """The upper left corner of each crop, as a fraction of the positions there are. [N, 2] in [0, 1)"""
        return torch.rand(size, 2, generator=generator(seed, "photos"))

    def __len__(self) -> int:
        return len(self.corners)

    def image(self, index: int) -> Tensor:
        photo, side = self.photos[self.label(index)], self.resolution
        down, right = self.corners[index].tolist()
        top, left = int(down * (photo.shape[1] - side + 1)), int(right * (photo.shape[2] - side + 1))
        return photo[:, top : top + side, left : left + side]


def read_photo(name: str) -> Tensor:
    """The photograph `china` or `flower`. [3, 427, 640] uint8. Raises ConfigError for a missing or damaged file."""
    path = sklearn_file(f"images/{name}.jpg")
    try:
        with Image.open(path) as file:
            return torch.from_numpy(np.array(file)).permute(2, 0, 1)
    except (OSError, ValueError, RuntimeError) as problem:
        raise ConfigError(
            str(path), f"cannot be read ({problem})", "a photograph", "installing scikit-learn again"
        ) from None


def sklearn_file(name: str) -> Path:
    """A data file of scikit-learn, found without importing it. Raises ConfigError when it is not there."""
    return package_file("sklearn", name, title="scikit-learn", inside="datasets")


def _check(size: int, share: float) -> None:
    check_size(size, "crops", least=2, usual=10000)
    if not 0 < share <= 1:
        raise ConfigError(".share", f"{share}", "a part, above 0 and up to 1", ".share=0.5")


def shrink(photo: Tensor, shorter: int, channels: int) -> Tensor:
    """The photograph, its shorter side reduced to `shorter` pixels, never enlarged. [C, H, W] -> [C', H', W'] uint8"""
    factor = min(1.0, shorter / min(photo.shape[1:]))
    size = [round(side * factor) for side in photo.shape[1:]]
    smooth = F.interpolate(photo[None].float(), size=size, mode="bilinear", antialias=True)
    return convert_channels(smooth.round().clamp(0, 255).to(torch.uint8), channels)[0].contiguous()
