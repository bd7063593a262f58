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
from ganrun.data.readers.image_file import Bad, Header, decode
from ganrun.data.readers.paths import Paths
from ganrun.data.readers.scan_progress import track
from ganrun.data.transforms.classes import Wanted, select
from ganrun.data.transforms.resize import check_shape

log = logging.getLogger(__name__)


class Pictures(Dataset):
    """Image files, decoded when they are asked for."""

    paths: Paths

    def __len__(self) -> int:
        return len(self.paths)

    def image(self, index: int) -> Tensor:
        try:
            return decode(self.paths[index], channels=self.channels, resolution=self.resolution)
        except Bad as problem:
            raise ConfigError(str(self.paths[index]), str(problem), "a whole image", "deleting it") from problem

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


class Folder(Pictures):
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
        classes: Wanted,
    ):
        """`labels`: null as found, true requires class folders, false ignores them."""
        check_shape(channels, resolution)
        found = scan.find(path)
        names = scan.name_classes(found, labels)
        number = {name: position for position, name in enumerate(names)}
        numbers = torch.tensor([number[group] for group in found.groups]) if names else None
        indices, numbers, self.classes = select(classes, names, numbers)
        kept = range(len(found.paths)) if indices is None else indices.tolist()
        paths = [found.paths[index] for index in kept]
        good, headers, bad = scan.headers(paths, skip_bad=skip_bad)
        self.paths = Paths(paths[index] for index in good)
        self.labels = None if numbers is None else numbers[good]
        self.channels = channels or max(header.channels for header in headers)
        self.resolution = resolution or one_size(headers)
        self.summary = self._told(headers, bad, found.ignored)
        log.info("%s", self.summary)
        if self.span().low == self.span().high:
            raise ConfigError("dataset.path", "every pixel has the same value", "images", "another dataset.path")

    def _told(self, headers: Sequence[Header], bad: Sequence[str], ignored: int) -> str:
        parts = [f"{len(headers):,} images", f"sizes {scan.counted([f'{h.width}x{h.height}' for h in headers])}"]
        parts.append(f"modes {scan.counted([header.mode for header in headers])}")
        if self.labels is not None:
            counts = torch.bincount(self.labels, minlength=len(self.classes)).tolist()
            parts.append("classes " + ", ".join(f"{n} {c:,}" for n, c in zip(self.classes, counts, strict=True)))
        small = sum(min(header.width, header.height) < self.resolution for header in headers)
        parts += [f"{small:,} smaller than {self.resolution} pixels and enlarged"] if small else []
        parts += [f"{ignored:,} other files ignored"] if ignored else []
        parts += [f"skipped {len(bad)}: {'; '.join(bad[: scan.SHOWN])}"] if bad else []
        return "; ".join(parts)


def one_size(headers: Sequence[Header]) -> int:
    """The resolution that all images have already; without one, the user must choose."""
    sizes = {(header.width, header.height) for header in headers}
    width, height = min(sizes, key=min)
    if len(sizes) > 1 or width != height:
        found = f"images of {scan.counted([f'{h.width}x{h.height}' for h in headers])} pixels"
        likely = 2 ** min((min(width, height)).bit_length() - 1, 8)
        raise ConfigError("dataset.resolution", found, "one square size, or a resolution to resize to",
                      f"dataset.resolution={likely}")  # fmt: skip
    return width
