"""CelebA: 202,599 aligned faces of 178x218 pixels. Liu et al. 2015."""

from __future__ import annotations

from pathlib import Path

import torch

from ganrun.core.errors import ConfigError, nearest
from ganrun.data.datasets.benchmarks import check_split, existing, fetch
from ganrun.data.datasets.folder import ImageFiles
from ganrun.data.readers.compact_paths import CompactPaths
from ganrun.data.readers.image_root import FolderRoot
from ganrun.data.transforms.classes import ClassSelection, select_classes
from ganrun.data.transforms.resize import check_shape

SPLITS = {"train": "0", "valid": "1", "test": "2", "all": ""}  # as the partition file writes them


class CelebA(ImageFiles):
    """Faces, unlabelled, or with one of the 40 attributes as two classes."""

    def __init__(
        self,
        *,
        root: str,
        split: str,
        attribute: str | None,
        download: bool,
        channels: int,
        resolution: int,
        classes: ClassSelection,
    ):
        """Raises ConfigError for missing or damaged files and for an attribute that there is not."""
        check_shape(channels, resolution)
        check_split(split, tuple(SPLITS))
        self.folder = Path(root) / "celeba"
        self.channels, self.resolution = channels, resolution
        if download:
            fetch("CelebA", self._download)
        files = self._files(split)
        labels, names = self._attribute(attribute, files) if attribute else (None, ())
        indices, self.labels, self.classes = select_classes(classes, names, labels)
        kept = files if indices is None else [files[index] for index in indices.tolist()]
        images = existing(self.folder / "img_align_celeba", "CelebA")
        self.root, self.paths = FolderRoot(str(images)), CompactPaths(kept)
        existing(images / kept[0], "CelebA")

    def _files(self, split: str) -> list[str]:
        """The names of this split's files. Lines are `000001.jpg 0`."""
        path = existing(self.folder / "list_eval_partition.txt", "CelebA")
        rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
        if any(len(row) != 2 for row in rows):
            raise ConfigError(str(path), "lines that are not a name and a number", "000001.jpg 0", ".download=true")
        names = [name for name, part in rows if SPLITS[split] in ("", part)]
        if not names or any("/" in name or "\\" in name for name in names):
            raise ConfigError(str(path), f"{len(names)} file names for the split {split}", "names of images")
        return names

    def _attribute(self, attribute: str, files: list[str]) -> tuple[torch.Tensor, tuple[str, ...]]:
        """0 or 1 for each file [N]. The first line is a count, the second the 40 names, then `000001.jpg -1 1 ...`."""
        path = existing(self.folder / "list_attr_celeba.txt", "CelebA")
        _, header, *lines = path.read_text().splitlines()
        names = header.split()
        if attribute not in names:
            close = nearest(attribute, names) or names[0]
            raise ConfigError(".attribute", f"no attribute {attribute!r}", "one of the 40", f".attribute={close}")
        column = names.index(attribute) + 1
        values = {row[0]: row[column] for row in map(str.split, lines) if len(row) > column}
        missing = next((name for name in files if name not in values), None)
        if missing:
            raise ConfigError(str(path), f"no line for {missing}", "one for each image", ".download=true")
        return torch.tensor([int(values[name] == "1") for name in files]), (f"not_{attribute}", attribute)

    def _download(self) -> None:
        from torchvision import datasets

        datasets.CelebA(self.folder.parent, download=True)
