"""Image files with captions, in a folder or in archives."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

from ganrun.data.datasets.folder import Folder
from ganrun.data.readers.caption_file import read_captions
from ganrun.data.readers.compact_paths import CompactPaths
from ganrun.data.readers.listing import Listing
from ganrun.data.transforms.classes import ClassSelection


class Captioned(Folder):
    """Images with captions. One with several captions is there once for each of them."""

    def __init__(
        self,
        *,
        path: str | None,
        captions: str | None,
        labels: bool | str | None,
        skip_bad: bool,
        range: Sequence[float] | None,
        fit: str,
        channels: int | None,
        resolution: int | None,
        classes: ClassSelection,
    ):
        """`captions` is the file of all; null: one of the usual names, or else a text file beside each image.

        Raises ConfigError as `Folder` does, and for images without a caption.
        """
        self._file = captions
        self._sentences: dict[str, list[str]] = {}
        self._notes: list[str] = []
        super().__init__(
            path=path, labels=labels, skip_bad=skip_bad, range=range, fit=fit, channels=channels,
            resolution=resolution, classes=classes,
        )  # fmt: skip
        self.notes = [*self.notes, *self._notes]
        names = [self.paths[index] for index in builtins.range(len(self))]
        rows = [(row, sentence) for row, name in enumerate(names) for sentence in self._sentences[name]]
        if len(rows) > len(names):
            self.notes = [*self.notes, f"{len(rows):,} captions: an image is there once for each of its captions"]
        self.captions = [sentence for _, sentence in rows]
        self.paths = CompactPaths(names[row] for row, _ in rows)
        self.labels = None if self.labels is None else self.labels[[row for row, _ in rows]]
        del self._sentences

    def _read_beside(self, listing: Listing) -> None:
        """Read the captions of all images."""
        self._sentences, files, self._notes = read_captions(self.root, self._file, listing.names)
        for file in files:
            listing.used(file)
