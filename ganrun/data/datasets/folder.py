"""A folder of images, flat or with a folder for each class."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.data.datasets.base import Dataset
from ganrun.data.readers import folder_scan as scan
from ganrun.data.readers.compact_paths import CompactPaths
from ganrun.data.readers.image_file import Header, UnreadableImage, decode
from ganrun.data.readers.progress_bar import track
from ganrun.data.transforms.classes import ClassSelection, select_classes
from ganrun.data.transforms.resize import check_shape

log = logging.getLogger(__name__)


class ImageFiles(Dataset):
    """Image files, decoded when they are read."""

    paths: CompactPaths
    root: str | None = None  # the folder that names are told from

    def __len__(self) -> int:
        return len(self.paths)

    def image(self, index: int) -> Tensor:
        """One image, decoded from its file. Raises ConfigError when that is damaged. [C, R, R] uint8"""
        try:
            return decode(self.paths[index], channels=self.channels, resolution=self.resolution)
        except UnreadableImage as problem:
            raise ConfigError(str(self.paths[index]), str(problem), "a whole image", ".skip_bad=true") from problem

    def file_names(self) -> list[str]:
        """The names of the files in use, as seen from the folder."""
        if self.root is None:
            return []
        return [os.path.relpath(self.paths[index], self.root) for index in range(len(self))]

    def bulk(self) -> tuple[Tensor, Tensor | None]:
        images = torch.empty((len(self), self.channels, self.resolution, self.resolution), dtype=torch.uint8)
        pool = ThreadPoolExecutor(os.cpu_count())  # decoders let other threads run
        try:
            decoded = pool.map(self.image, range(len(self)))
            for index, image in enumerate(track(decoded, "reading the images", len(self))):
                images[index] = image
        finally:
            pool.shutdown(cancel_futures=True)  # an interrupt does not wait for the rest
        return images, self.labels


class Folder(ImageFiles):
    """Images below a folder: the centre square of each, upright, resized to one resolution."""

    summary: str  # what was found, in a line

    def __init__(
        self,
        *,
        path: str | None,
        labels: bool | None,
        skip_bad: bool,
        channels: int | None,
        resolution: int | None,
        classes: ClassSelection,
    ):
        """`labels`: null where there are class folders, true requires them, false ignores them.

        Raises ConfigError for a folder without images, for damaged files unless `skip_bad`, and for unclear classes.
        """
        check_shape(channels, resolution)
        self.root, self.may_lack = path, skip_bad
        found = scan.list_images(path)
        names = scan.class_names(found, labels)
        number = {name: position for position, name in enumerate(names)}
        numbers = torch.tensor([number[group] for group in found.groups]) if names else None
        indices, numbers, self.classes = select_classes(classes, names, numbers)
        kept = range(len(found.paths)) if indices is None else indices.tolist()
        paths = [found.paths[index] for index in kept]
        good, headers, bad = scan.read_headers(paths, skip_bad=skip_bad)
        self.paths = CompactPaths(paths[index] for index in good)
        self.labels = None if numbers is None else numbers[good]
        self.channels = channels or max(header.channels for header in headers)
        self.resolution = resolution or one_size(headers)
        self.summary = self._summary(headers, bad, found.ignored)
        log.info("%s", self.summary)
        if (values := self.value_range()).low == values.high:
            raise ConfigError(".path", "every pixel has the same value", "images", "another .path")

    def _summary(self, headers: Sequence[Header], bad: Sequence[str], ignored: int) -> str:
        parts = [
            f"{len(headers):,} images",
            f"sizes {scan.counts_in_words([f'{h.width}x{h.height}' for h in headers])}",
        ]
        parts.append(f"modes {scan.counts_in_words([header.mode for header in headers])}")
        if self.labels is not None:
            counts = torch.bincount(self.labels, minlength=len(self.classes)).tolist()
            parts.append("classes " + ", ".join(f"{n} {c:,}" for n, c in zip(self.classes, counts, strict=True)))
        small = sum(min(header.width, header.height) < self.resolution for header in headers)
        parts += [f"{small:,} smaller than {self.resolution} pixels and enlarged"] if small else []
        parts += [f"{ignored:,} other files ignored"] if ignored else []
        parts += [f"skipped {len(bad)}: {'; '.join(bad[: scan.SHOWN])}"] if bad else []
        return "; ".join(parts)


def one_size(headers: Sequence[Header]) -> int:
    """The resolution that all images have. Raises ConfigError when they have several, or are not square."""
    sizes = {(header.width, header.height) for header in headers}
    width, height = min(sizes, key=min)
    if len(sizes) > 1 or width != height:
        found = f"images of {scan.counts_in_words([f'{h.width}x{h.height}' for h in headers])} pixels"
        likely = 2 ** min((min(width, height)).bit_length() - 1, 8)
        expected = "one square size, or a resolution to resize to"
        raise ConfigError(".resolution", found, expected, f".resolution={likely}")
    return width
