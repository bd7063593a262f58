"""Benchmark data sets, read from the original files, in the folders where torchvision puts them.

MNIST, Fashion-MNIST, CIFAR-10, CIFAR-100 and SVHN; their sources are named in the classes.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ganrun.core.errors import ConfigError, nearest
from ganrun.data.datasets.base import Dataset, InMemory
from ganrun.data.readers.benchmark_formats import read_idx, read_mat, read_pickle
from ganrun.data.readers.regular import find, printable
from ganrun.data.transforms.classes import ClassSelection
from ganrun.data.transforms.resize import check_shape, to_shape

SIDE = 28  # pixels of MNIST's images, and of those in its format
DIGITS = tuple(str(digit) for digit in range(10))
FASHION = ("t_shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle_boot")
INSTALLED = Path("/usr/share/datasets/fashion-mnist")  # by the package dataset-fashion-mnist of Debian and Ubuntu


class Benchmark(InMemory):
    """A benchmark data set in memory; downloaded only with `download`. Raises ConfigError for missing or bad files."""

    title: str  # the name of torchvision's class
    remedy: str = ".download=true"  # for files that are missing
    splits: tuple[str, ...] = ("train", "test")

    def __init__(
        self,
        *,
        root: str,
        split: str,
        download: bool,
        channels: int | None,
        resolution: int | None,
        classes: ClassSelection,
    ):
        check_shape(channels, resolution)
        check_split(split, self.splits)
        if download:
            fetch(self.title, lambda: self._download(Path(root), split))
        images, labels, names = self._read(Path(root), split)
        _consistent(self.title, images, labels, names)
        images = self._framed(images, resolution)
        shape: dict[str, Any] = {"channels": channels or images.shape[1], "resolution": resolution or images.shape[-1]}
        pieces = [to_shape(piece, **shape) for piece in images.split(4096)]  # floats of all at once would be large
        super().__init__(images=torch.cat(pieces), labels=labels, names=names, classes=classes)
        self._settings = {"root": root, "download": download, **shape, "classes": classes}
        self._split = split

    @cached_property
    def test(self) -> Dataset | None:  # type: ignore[override]
        """The test split of a training split, read on access; another where images are held out."""
        return type(self)(split="test", **self._settings) if self._split == "train" else None

    @abstractmethod
    def _read(self, root: Path, split: str) -> tuple[Tensor, Tensor, Sequence[str]]:
        """Images [N, C, H, W] uint8, labels [N] int64, names."""

    def _framed(self, images: Tensor, resolution: int | None) -> Tensor:
        """The images with the edges that are resized together with them: none, but in some sets. [N, C, H, W]"""
        return images

    @abstractmethod
    def _download(self, root: Path, split: str) -> None: ...


class Mnist(Benchmark):
    """Handwritten digits, 28x28 and grey, padded to 32x32. LeCun et al. 1998."""

    title = "MNIST"
    names: tuple[str, ...] = DIGITS

    def _read(self, root: Path, split: str) -> tuple[Tensor, Tensor, Sequence[str]]:
        stem = {"train": "train", "test": "t10k"}[split]
        folder = self._folder(root)
        images = read_idx(self._file(folder, f"{stem}-images-idx3-ubyte"), 3)
        labels = read_idx(self._file(folder, f"{stem}-labels-idx1-ubyte"), 1)
        return torch.from_numpy(images.copy())[:, None], torch.from_numpy(labels.astype(np.int64)), self.names

    def _framed(self, images: Tensor, resolution: int | None) -> Tensor:
        return with_edges(images, resolution)

    def _folder(self, root: Path) -> Path:
        """Where the files are."""
        return root / self.title / "raw"

    def _file(self, folder: Path, name: str) -> Path:
        """The file, unpacked or gzipped."""
        packed = folder / f"{name}.gz"
        return packed if os.path.exists(packed) else existing(folder / name, self.title, self.remedy)

    def _download(self, root: Path, split: str) -> None:
        from torchvision import datasets

        getattr(datasets, self.title)(root, download=True)


class FashionMnist(Mnist):
    """Articles of clothing, 28x28 and grey, padded to 32x32. Xiao et al. 2017.

    Read from `root`, or else from where the package of Debian and Ubuntu puts the same files.
    """

    title = "FashionMNIST"
    names = FASHION
    remedy = "apt-get install dataset-fashion-mnist, or .download=true"

    def _folder(self, root: Path) -> Path:
        own = super()._folder(root)
        return INSTALLED if os.path.isdir(INSTALLED) and not os.path.isdir(own) else own

    def _download(self, root: Path, split: str) -> None:
        if self._folder(root) != INSTALLED:
            super()._download(root, split)


class Cifar10(Benchmark):
    """Small colour photographs, 32x32, ten classes. Krizhevsky 2009."""

    title = "CIFAR10"
    folder = "cifar-10-batches-py"
    files: dict[str, tuple[str, ...]] = {  # noqa: RUF012
        "train": tuple(f"data_batch_{i}" for i in range(1, 6)),
        "test": ("test_batch",),
    }
    meta, names_key, labels_key = "batches.meta", "label_names", "labels"

    def _read(self, root: Path, split: str) -> tuple[Tensor, Tensor, Sequence[str]]:
        paths = [existing(root / self.folder / name, self.title) for name in (*self.files[split], self.meta)]
        *batches, meta = [read_pickle(path) for path in paths]
        images = [_entry(batch, "data", path) for batch, path in zip(batches, paths, strict=False)]
        labels = [_entry(batch, self.labels_key, path) for batch, path in zip(batches, paths, strict=False)]
        try:
            pixels = np.concatenate(images).astype(np.uint8, casting="no").reshape(-1, 3, 32, 32)
            numbers = np.concatenate(labels).astype(np.int64)
            names = [str(name) for name in _entry(meta, self.names_key, paths[-1])]
        except (TypeError, ValueError) as problem:
            raise ConfigError(
                str(root / self.folder), f"not {self.title} ({problem})", "rows of 3072 bytes"
            ) from problem
        return torch.from_numpy(pixels), torch.from_numpy(numbers), names

    def _download(self, root: Path, split: str) -> None:
        from torchvision import datasets
        from torchvision.datasets.utils import download_and_extract_archive

        if not os.path.exists(root / self.folder / self.meta):
            known = getattr(datasets, self.title)
            download_and_extract_archive(known.url, str(root), filename=known.filename, md5=known.tgz_md5)


class Cifar100(Cifar10):
    """Small colour photographs, 32x32, a hundred classes. Krizhevsky 2009."""

    title = "CIFAR100"
    folder = "cifar-100-python"
    files: dict[str, tuple[str, ...]] = {"train": ("train",), "test": ("test",)}  # noqa: RUF012
    meta, names_key, labels_key = "meta", "fine_label_names", "fine_labels"


class Svhn(Benchmark):
    """House numbers from the street, 32x32 and in colour. Netzer et al. 2011."""

    title = "SVHN"
    splits = ("train", "test", "extra")

    def _read(self, root: Path, split: str) -> tuple[Tensor, Tensor, Sequence[str]]:
        path = existing(root / f"{split}_32x32.mat", self.title)
        images, labels = read_mat(path, ("X", "y"))
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[:3] != (32, 32, 3):
            raise ConfigError(str(path), f"X is {images.dtype} {images.shape}", "uint8 (32, 32, 3, N)")
        numbers = labels.reshape(-1).astype(np.int64) % 10  # the files call the digit 0 "10"
        return torch.from_numpy(images.transpose(3, 2, 0, 1).copy()), torch.from_numpy(numbers), DIGITS

    def _download(self, root: Path, split: str) -> None:
        from torchvision.datasets import SVHN
        from torchvision.datasets.utils import download_url

        url, name, md5 = SVHN.split_list[split]
        download_url(url, str(root), name, md5)


def with_edges(images: Tensor, resolution: int | None) -> Tensor:
    """Black edges around 28x28 pixels, unless that is the wanted resolution. [N, 1, 28, 28] -> [N, 1, 32, 32]"""
    return images if resolution == SIDE else F.pad(images, (2, 2, 2, 2))


def check_split(split: str, splits: Sequence[str]) -> None:
    """Raises ConfigError unless the data set has this split."""
    if split not in splits:
        raise ConfigError(".split", repr(split), ", ".join(splits), f".split={nearest(split, splits) or splits[0]}")


def existing(path: Path, title: str, remedy: str = ".download=true") -> Path:
    """The path itself. Raises ConfigError when nothing is there, or a pipe, a socket or a device."""
    if not os.path.exists(path):
        raise ConfigError(".root", f"{printable(path)} is missing", f"{title}'s files", remedy)
    find(str(path), ".root", f"{title}'s files")
    return path


def fetch(title: str, download: Callable[[], None]) -> None:
    """Download. Raises ConfigError, one line, where that fails."""
    try:
        download()
    except (OSError, RuntimeError, ImportError) as problem:  # no network, a wrong digest, no gdown
        reason = " ".join(str(problem).split())
        found, remedy = f"fetching {title} failed: {reason}", "again later, or by hand"
        raise ConfigError(".download", found, "a network, or the files", remedy) from problem


def _entry(found: dict[str, Any], key: str, path: Path) -> Any:
    if key not in found:
        raise ConfigError(str(path), f"has no {key!r}", f"one of its entries {sorted(found)} to be it")
    return found[key]


def _consistent(title: str, images: Tensor, labels: Tensor, names: Sequence[str]) -> None:
    if not len(images) or len(images) != len(labels):
        raise ConfigError(".root", f"{len(images)} images and {len(labels)} labels in {title}", "as many")
    if int(labels.min()) < 0 or int(labels.max()) >= len(names):
        found = f"labels from {int(labels.min())} to {int(labels.max())} in {title}"
        raise ConfigError(".root", found, f"0 to {len(names) - 1}")
