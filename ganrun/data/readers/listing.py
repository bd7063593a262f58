"""A listing of image files: their names and class folders, and what was left out, counted."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter

from ganrun.data.readers.image_file import SUFFIXES
from ganrun.data.readers.regular import printable

SHOWN = 5  # names, sizes or kinds that a message lists
ODD, HIDDEN = "pipes, sockets and devices", "hidden files and folders"


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is not the user's: what systems and editors leave behind."""
    return name.startswith(".") or name == "__MACOSX"


class Listing:
    """The image files of a root, in order, and how many other things were left out."""

    def __init__(self, path: str):
        self.path = path
        self.names: list[str] = []  # relative to the root, with slashes
        self.others: Counter[str] = Counter()  # by their endings
        self.folders: dict[str, bool] = {}  # those right below the root, and whether they hold images
        self._left_out: Counter[str] = Counter()

    def add(self, name: str) -> None:
        """Note a regular file: an image by its ending, or another file."""
        ending = os.path.splitext(name)[1].lower()
        if ending not in SUFFIXES:
            self.others[ending or "no ending"] += 1
            return
        self.names.append(name)
        first, inside, _ = name.partition("/")
        if inside:
            self.folders[first] = True

    def add_folder(self, name: str) -> None:
        """Note a folder."""
        if "/" not in name:
            self.folders.setdefault(name, False)

    def leave_out(self, what: str, count: int = 1) -> None:
        """Count what is no part of the data."""
        self._left_out[what] += count

    def used(self, name: str) -> None:
        """Note that a file which is no image was read: it is not left out."""
        ending = os.path.splitext(name)[1].lower()
        self.others[ending] -= 1
        self.others = +self.others

    @property
    def groups(self) -> list[str]:
        """The folder right below the root that each image is in; "" for images in the root itself."""
        return [first if inside else "" for first, inside, _ in (name.partition("/") for name in self.names)]

    def notes(self) -> list[str]:
        """Everything that was left out, a sentence each."""
        found = []
        if self.others:
            kinds = counts_in_words(self.others)
            found.append(f"left out, no images by their names: {self.others.total():,} ({kinds})")
        found += [f"left out, {what}: {count:,}" for what, count in self._left_out.items()]
        empty = [printable(name) for name, filled in self.folders.items() if not filled]
        return found + ([f"folders without images: {some(empty)}"] if empty else [])


def some(names: list[str]) -> str:
    """The first few of these, and how many more there are."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def plain_name(name: str) -> str:
    """A name as every system would write it: accents composed, slashes for backslashes, no `./` in front."""
    return unicodedata.normalize("NFC", name).replace("\\", "/").removeprefix("./")


def counts_in_words(counts: Counter[str]) -> str:
    """Such as `12 of 64x64, 3 of 32x32`, the most frequent first."""
    common = counts.most_common()
    more = f" and {len(common) - SHOWN:,} more kinds" if len(common) > SHOWN else ""
    return ", ".join(f"{count:,} of {name}" for name, count in common[:SHOWN]) + more
