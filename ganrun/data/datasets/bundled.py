"""Real images without a download: those that scikit-learn ships."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.core.seeding import generator
from ganrun.data.datasets.base import Dataset, Held
from ganrun.data.transforms.classes import Wanted, select
from ganrun.data.transforms.resize import check_shape, recoloured, resized

DIGITS = tuple(str(digit) for digit in range(10))
LARGEST = 256  # pixels; the photographs have 427 by 640


class Digits(Held):
    """The 1,797 handwritten digits of 8x8 pixels and 17 greys, upscaled smoothly."""

    def __init__(self, *, channels: int, resolution: int, classes: Wanted, held_out: int = 0):
        """`held_out` images, drawn once and for all, are no part of the data: they are `test`."""
        check_shape(channels, resolution, most=LARGEST)
        with gzip.open(shipped("data/digits.csv.gz"), "rt") as file:
            rows = torch.from_numpy(np.loadtxt(file, delimiter=","))  # [N, 64 values of 0..16 and the digit]
        grey = rows[:, :64].reshape(-1, 1, 8, 8).float() * (255 / 16)
        images = resized(grey.round().to(torch.uint8), resolution, mode="bicubic")
        images, labels = recoloured(images, channels).contiguous(), rows[:, 64].long()
        if held_out:
            out, kept = _split(len(images), held_out)
            self.test = Held(images=images[out], labels=labels[out], names=DIGITS, classes=classes)
            images, labels = images[kept], labels[kept]
        super().__init__(images=images, labels=labels, names=DIGITS, classes=classes)


def _split(total: int, held_out: int) -> tuple[Tensor, Tensor]:
    """Indices of the images that are held out, the same in every run, and of those that stay; both in order."""
    if not 0 < held_out < total:
        raise ConfigError("dataset.held_out", f"{held_out} of {total} images", f"from 0 to {total - 1}")
    order = torch.randperm(total, generator=generator(0, "held out"))
    return order[:held_out].sort().values, order[held_out:].sort().values


class Photos(Dataset):
    """Random crops of two photographs, a Chinese temple and a flower; a crop is cut when it is asked for."""

    def __init__(self, *, size: int, seed: int, share: float, channels: int, resolution: int, classes: Wanted):
        """`share` is the part of a photograph's shorter side that a crop spans."""
        check_shape(channels, resolution, most=LARGEST)
        _sensible(size, share)
        names = ["china", "flower"]
        files = [Image.open(shipped(f"images/{name}.jpg")) for name in names]
        photos = [torch.from_numpy(np.array(file)).permute(2, 0, 1) for file in files]
        self.photos = [scaled(photo, round(resolution / share), channels) for photo in photos]
        self.channels, self.resolution = channels, resolution
        self.labels = torch.arange(size) % len(photos)
        indices, self.labels, self.classes = select(classes, names, self.labels)
        self.corners = self._corners(size, seed) if indices is None else self._corners(size, seed)[indices]
        self.photos = [self.photos[names.index(name)] for name in self.classes]

    def _corners(self, size: int, seed: int) -> Tensor:
        """Where each crop starts, as a part of the room there is. [N, 2] in [0, 1)"""
        return torch.rand(size, 2, generator=generator(seed, "photos"))

    def __len__(self) -> int:
        return len(self.corners)

    def image(self, index: int) -> Tensor:
        photo, side = self.photos[self.label(index)], self.resolution
        down, right = self.corners[index].tolist()
        top, left = int(down * (photo.shape[1] - side + 1)), int(right * (photo.shape[2] - side + 1))
        return photo[:, top : top + side, left : left + side]


def shipped(name: str) -> Path:
    """A data file of scikit-learn's; found without importing it, which would take a second or two."""
    spec = find_spec("sklearn")
    path = Path(next(iter((spec and spec.submodule_search_locations) or [""]))) / "datasets" / name
    if not path.is_file():
        raise ConfigError(
            "dataset", f"scikit-learn's {name} is missing", "scikit-learn", "installing scikit-learn again"
        )
    return path


def _sensible(size: int, share: float) -> None:
    if size < 2:
        raise ConfigError("dataset.size", f"{size} crops", "at least 2", "dataset.size=10000")
    if not 0 < share <= 1:
        raise ConfigError("dataset.share", f"{share}", "a part, above 0 and up to 1", "dataset.share=0.5")


def scaled(photo: Tensor, shorter: int, channels: int) -> Tensor:
    """The photograph with a shorter side of so many pixels, never enlarged. [C, H, W] uint8"""
    factor = min(1.0, shorter / min(photo.shape[1:]))
    size = [round(side * factor) for side in photo.shape[1:]]
    smooth = F.interpolate(photo[None].float(), size=size, mode="bilinear", antialias=True)
    return recoloured(smooth.round().clamp(0, 255).to(torch.uint8), channels)[0].contiguous()
