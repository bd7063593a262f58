"""Image files in a folder or in archives, flat, in class folders, or with files of labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.data.datasets.base import SAMPLED, Dataset
from ganrun.data.readers.class_folders import class_folders
from ganrun.data.readers.compact_paths import CompactPaths
from ganrun.data.readers.evenly_spaced import evenly_spaced
from ganrun.data.readers.headers import EIGHT_AND_SIXTEEN, Headers, in_threads, read_headers, why_not_opened
from ganrun.data.readers.image_file import Header, decode, raw_values
from ganrun.data.readers.image_root import ImageRoot
from ganrun.data.readers.label_file import BESIDE, find_label_file, read_labels, read_labels_beside
from ganrun.data.readers.listing import Listing, counts_in_words, some
from ganrun.data.readers.open_root import open_root
from ganrun.data.readers.progress_bar import track
from ganrun.data.readers.regular import UnreadableImage, printable
from ganrun.data.transforms.classes import ClassSelection, select_classes
from ganrun.data.transforms.labels import encode_labels
from ganrun.data.transforms.resize import check_fit, check_shape
from ganrun.data.transforms.value_range import ValueRange, choose_range, in_units, merged

LOOKED_AT = 100_000  # files whose headers are read at most
PIXELS, FEWEST = 250_000_000, 16  # pixels that are measured at most, and images that are in any case
FITTED = {"crop": "their centre is used", "pad": "they get black edges", "stretch": "they are distorted"}
DAMAGED = "putting it back as it was, or skip_bad=true of its data set"


class ImageFiles(Dataset):
    """Image files, decoded when they are read."""

    root: ImageRoot
    paths: CompactPaths  # relative to the root
    fit: str = "crop"
    ends: tuple[float, float] | None = None  # raw values that become -1 and 1; None: those of the type
    kinds: frozenset[str] | None = None  # types of raw values that these ends are meant for; None: not known
    side: str | None = None  # left or right, of files that hold two images; None: they hold one

    def __len__(self) -> int:
        return len(self.paths)

    def image(self, index: int) -> Tensor:
        """One image, decoded from its file. Raises ConfigError when that is damaged. [C, R, R] uint8"""
        name = self.paths[index]
        try:
            with self.root.open(name) as file:
                shape = {"channels": self.channels, "resolution": self.resolution}
                return decode(file, **shape, fit=self.fit, ends=self.ends, side=self.side, kinds=self.kinds)
        except UnreadableImage as problem:
            raise ConfigError(self.root.place(name), str(problem), "a whole image", DAMAGED) from problem
        except Exception as problem:  # members of an archive raise nearly anything
            raise ConfigError(self.root.place(name), why_not_opened(problem), "a whole image", DAMAGED) from problem

    def part(self, rows: Tensor) -> Self:
        """The images of these files [M]."""
        twin = self._copied(rows)
        twin.paths = self.paths.take(rows.tolist())
        return twin

    def file_names(self) -> list[str]:
        """The names of the files in use, as seen from the folder, with those of held-out images."""
        own = [self.paths[index] for index in range(len(self))]
        return own + (self.test.file_names() if self.test is not None else [])

    def bulk(self) -> tuple[Tensor, Tensor | None]:
        images = torch.empty((len(self), self.channels, self.resolution, self.resolution), dtype=torch.uint8)
        decoded = in_threads(self.image, range(len(self)))
        for index, image in enumerate(track(decoded, "reading the images", len(self))):
            images[index] = image
        return images, self.labels


class Folder(ImageFiles):
    """Images in a folder or in archives, upright, made square and resized to one resolution."""

    def __init__(
        self,
        *,
        path: str | None,
        labels: bool | str | None,
        skip_bad: bool,
        range: Sequence[float] | None,
        fit: str,
        channels: int | None,
        resolution: int | None,
        classes: ClassSelection,
        side: str | None = None,
    ):
        """`labels`: null takes those that are there, true requires some, false ignores them; or the file of the labels.

        `side`: left or right, where each file holds two images side by side. Raises ConfigError for a folder without
        images, for damaged files unless `skip_bad`, for unclear classes, and for values that leave their range empty.
        """
        check_shape(channels, resolution)
        check_fit(fit)
        self.root, self.fit, self.may_lack, self.side = open_root(path), fit, skip_bad, side
        listing = _some_images(self.root)
        self._read_beside(listing)
        numbers, names, notes = _labels(self.root, listing, labels)
        indices, numbers, self.classes = select_classes(classes, names, numbers)
        kept = listing.names if indices is None else [listing.names[index] for index in indices.tolist()]
        headers = read_headers(self.root, kept, skip_bad=skip_bad, halved=side is not None, most=LOOKED_AT)
        self.paths = CompactPaths(kept[index] for index in headers.good)
        self.labels = None if numbers is None else numbers[torch.as_tensor(headers.good)]
        self.channels = channels or max(header.channels for header in headers.seen)
        self.resolution = resolution or one_size(headers.seen, [kept[index] for index in headers.looked])
        self._measured = self._measure(headers.seen, range)
        self.notes = [self._summary(headers.seen), *notes, *self._changes(headers), *listing.notes()]

    def _read_beside(self, listing: Listing) -> None:
        """Read what belongs to the images and lies beside them; with images alone, nothing does."""

    def value_range(self) -> ValueRange:
        """Least, greatest and mean value of the images that were measured, in [-1, 1]."""
        return self._measured

    def _measure(self, headers: Sequence[Header], setting: Sequence[float] | None) -> ValueRange:
        """Choose which raw values become -1 and 1; returns the measured range with these. Reads some of the images.

        Raises ConfigError for values that leave their range empty and for a setting that does not hold them.
        """
        typical = sorted(header.width * header.height for header in headers)[len(headers) // 2]
        chosen = evenly_spaced(len(self), max(FEWEST, min(SAMPLED, PIXELS // typical)))
        found: dict[str, list[ValueRange]] = {}
        for dtype, one in in_threads(self._raw_range, chosen):
            found.setdefault(dtype, []).append(one)
        if len({value for ranges in found.values() for one in ranges for value in one[:2]}) == 1:
            raise ConfigError(".path", "every pixel has the same value", "images", "another .path")
        if setting is not None and len(found) > 1:
            raise ConfigError(".range", f"{list(setting)}, for files of {' and '.join(sorted(found))} values",
                              "files of one kind", "leaving out those of the other kind")  # fmt: skip
        what = f"{len(chosen):,} of {len(self):,} images" if len(chosen) < len(self) else "the images"
        ends = {kind: choose_range(np.dtype(kind), merged(ranges), setting, what) for kind, ranges in found.items()}
        self.ends = next(iter(ends.values())) if len(ends) == 1 else None
        self.kinds = frozenset(found) | (EIGHT_AND_SIXTEEN if self.ends is None else frozenset())
        return merged([in_units(merged(ranges), np.dtype(kind), ends[kind]) for kind, ranges in found.items()])

    def _raw_range(self, index: int) -> tuple[str, ValueRange]:
        """The type and the range of the values of one file."""
        name = self.paths[index]
        try:
            with self.root.open(name) as file:
                values = raw_values(file, self.channels)
        except UnreadableImage as problem:
            raise ConfigError(self.root.place(name), str(problem), "a whole image", DAMAGED) from problem
        return values.dtype.name, ValueRange(float(values.min()), float(values.max()), float(values.mean()))

    def _summary(self, headers: Sequence[Header]) -> str:
        """How many images of which sizes, modes and classes."""
        total, looked = len(self), len(headers)
        parts = [
            f"{total:,} images" + (f", of which {looked:,} were looked at" if looked < total else ""),
            f"sizes {counts_in_words(Counter(f'{h.width}x{h.height}' for h in headers))}",
            f"modes {counts_in_words(Counter(header.mode for header in headers))}",
        ]
        if self.labels is not None:
            counts = torch.bincount(self.labels, minlength=len(self.classes)).tolist()
            parts.append("classes " + some([f"{n} {c:,}" for n, c in zip(self.classes, counts, strict=True)]))
        return "; ".join(parts)

    def _changes(self, found: Headers) -> list[str]:
        """What is done to the images, and which of them are left out: a sentence each."""
        headers, side = found.seen, self.resolution
        deep = sorted({header.dtype for header in headers} - {"uint8"})
        frames = sum(header.frames - 1 for header in headers)
        total, small = f"of {len(headers):,} images", f"smaller than {side} pixels and enlarged"
        counted = [
            (sum(h.width != h.height for h in headers), f"not square: {{}}, {FITTED[self.fit]} (fit={self.fit})"),
            (sum(min(h.width, h.height) < side for h in headers), f"{small}: {{}}"),
            (sum(h.mode == "CMYK" for h in headers), "converted from CMYK without a colour profile: {}"),
            (sum(h.clear for h in headers), "with transparency, which shows white: {}"),
            (sum(h.shortened for h in headers), "with 16 bits a colour, of which the upper 8 are read: {}"),
            (sum(h.frames > 1 for h in headers), f"left out, frames and pages after the first: {frames:,} in {{}}"),
        ]
        notes = [text.format(f"{count:,} {total}") for count, text in counted if count]
        if deep:
            notes.append(f"values of {', '.join(deep)} are kept in 8 bits")
        if self.ends not in (None, (-1.0, 1.0)):
            notes.append(f"values from {self.ends[0]:.6g} to {self.ends[1]:.6g} become -1 to 1, others are cut off")
        return notes + ([f"left out, damaged: {len(found.bad):,} ({some(found.bad)})"] if found.bad else [])


def _some_images(root: ImageRoot) -> Listing:
    """What is in the root. Raises ConfigError when there is no image."""
    found = root.listing()
    if not found.names:
        others = f" ({found.others.total():,} other files)" if found.others else ""
        where = printable(root.path)
        raise ConfigError(".path", f"no images in {where}{others}", "image files such as PNG or JPEG", "another .path")
    return found


def _labels(
    root: ImageRoot, found: Listing, setting: bool | str | None
) -> tuple[Tensor | None, Sequence[str], list[str]]:
    """Labels [N] int64, the names of the classes, and notes: from a file of labels, or else from class folders."""
    if (file := find_label_file(root, setting)) is not None:
        raw, notes = read_labels(root, file, found.names)
        if root.holds(file):
            found.used(file)
        if raw is None and setting is True:
            raise ConfigError(".labels", f"true, but {notes[0]}", "labels", ".labels=null")
        return (None, (), notes) if raw is None else (*encode_labels(raw, len(found.names)), notes)
    if setting is not False and (raw := read_labels_beside(root, found)) is not None:
        return *encode_labels(raw, len(found.names)), [f"labels from NAME{BESIDE} beside each image"]
    names = [] if setting is False else class_folders(found, required=setting is True)
    number = {name: position for position, name in enumerate(names)}
    numbers = torch.tensor([number[group] for group in found.groups]) if names else None
    return numbers, [printable(name) for name in names], []


def one_size(headers: Sequence[Header], names: Sequence[str]) -> int:
    """The resolution that all images have. Raises ConfigError when they have several, or are not square."""
    sizes = Counter((header.width, header.height) for header in headers)
    width, height = next(iter(sizes))
    if len(sizes) == 1 and width == height:
        return width
    sides = [min(header.width, header.height) for header in headers]
    found = f"images of {counts_in_words(Counter(f'{h.width}x{h.height}' for h in headers))} pixels"
    if len(sizes) > 1:
        found += f", the smallest {printable(names[sides.index(min(sides))])}"
    likely = 2 ** min(max(sorted(sides)[len(sides) // 2].bit_length() - 1, 4), 8)  # of the most: one is an exception
    raise ConfigError(".resolution", found, "one square size, or a resolution to resize to", f".resolution={likely}")
