"""STL-10: photographs of 96x96 pixels; 5,000 and 8,000 of ten classes, and 100,000 without. Coates et al. 2011."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.data.datasets.base import Dataset
from ganrun.data.datasets.benchmarks import check_split, existing, fetch
from ganrun.data.readers.benchmark_formats import REMEDY
from ganrun.data.transforms.classes import ClassSelection, select_classes
from ganrun.data.transforms.resize import check_shape, to_shape

SIDE = 96
IMAGE = 3 * SIDE * SIDE  # bytes
CHUNK = 1024  # images that are resized at a time: floats of all of them would be large
FILES = {  # the parts of a split
    "train": ("train",),
    "test": ("test",),
    "unlabeled": ("unlabeled",),
    "train+unlabeled": ("train", "unlabeled"),
}


class Stl10(Dataset):
    """Photographs, memory-mapped from the binary files (columns first, as in MATLAB), resized when they are read."""

    def __init__(
        self, *, root: str, split: str, download: bool, channels: int, resolution: int, classes: ClassSelection
    ):
        """Raises ConfigError for missing or damaged files."""
        check_shape(channels, resolution)
        check_split(split, tuple(FILES))
        if download:
            fetch("STL10", lambda: _download(Path(root)))
        self.folder = Path(root) / "stl10_binary"
        self.channels, self.resolution = channels, resolution
        self._parts = [self._images(stem) for stem in FILES[split]]
        labels, names = self._labels(split) if "unlabeled" not in FILES[split] else (None, [])
        rows, self.labels, self.classes = select_classes(classes, names, labels)
        self._rows = range(sum(len(part) for part in self._parts)) if rows is None else rows.tolist()

    def __len__(self) -> int:
        return len(self._rows)

    def image(self, index: int) -> Tensor:
        return self._converted(slice(index, index + 1))[0]

    def bulk(self) -> tuple[Tensor, Tensor | None]:
        starts = range(0, len(self), CHUNK)
        return torch.cat([self._converted(slice(start, start + CHUNK)) for start in starts]), self.labels

    def _converted(self, piece: slice) -> Tensor:
        pixels = np.stack([self._pixels(row) for row in self._rows[piece]])
        return to_shape(torch.from_numpy(pixels), channels=self.channels, resolution=self.resolution)

    def _pixels(self, row: int) -> np.ndarray:
        """One photograph as it is stored, rows first. [3, 96, 96] uint8."""
        for part in self._parts:
            if row < len(part):
                return part[row].transpose(0, 2, 1)
            row -= len(part)
        raise IndexError(row)

    def _images(self, stem: str) -> np.ndarray:
        """Images as they are stored, memory-mapped. [N, 3, W, H] uint8"""
        path = existing(self.folder / f"{stem}_X.bin", "STL10")
        size = path.stat().st_size
        if not size or size % IMAGE:
            raise ConfigError(
                str(path), f"{size:,} bytes", f"images of {IMAGE:,} bytes each: it is cut or damaged", REMEDY
            )
        return np.memmap(path, np.uint8, "r").reshape(-1, 3, SIDE, SIDE)

    def _labels(self, stem: str) -> tuple[Tensor, list[str]]:
        """Labels [N] in 0..9 (1..10 in the files), and the names of the classes."""
        path = existing(self.folder / f"{stem}_y.bin", "STL10")
        names = existing(self.folder / "class_names.txt", "STL10").read_text().split()
        numbers = torch.from_numpy(np.fromfile(path, np.uint8).astype(np.int64)) - 1
        images = len(self._parts[0])
        if len(numbers) != images or not 0 <= int(numbers.min()) <= int(numbers.max()) < len(names):
            found = f"{len(numbers)} labels for {images} images and {len(names)} classes"
            raise ConfigError(str(path), found, f"{images}, from 1 to {len(names)}", REMEDY)
        return numbers, names


def _download(root: Path) -> None:
    from torchvision.datasets import STL10
    from torchvision.datasets.utils import download_and_extract_archive

    if not os.path.exists(root / STL10.base_folder / STL10.class_names_file):
        download_and_extract_archive(STL10.url, str(root), filename=STL10.filename, md5=STL10.tgz_md5)
