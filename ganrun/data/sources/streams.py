"""The batch sources of a run, by the names of their streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ganrun.core.context import Batch, BatchShape
from ganrun.data.sources.source import Source


class Streams:
    """Draws a batch from each stream that an update reads. Each has its own position, a number of images."""

    def __init__(self, sources: Mapping[str, Source]):
        self.sources = dict(sources)

    def ready(self, interrupted: Callable[[], bool]) -> bool:
        """Wait for as many images as the last step drew from each stream. False when that was interrupted."""
        return all([source.ready(interrupted) for source in self.sources.values()])

    def draw(self, shapes: Mapping[str, BatchShape]) -> dict[str, Batch]:
        """The next batch of each of these streams, [B, C, H, W] each. Advances their positions."""
        return {name: self.sources[name].draw(shape) for name, shape in shapes.items()}

    def examples(self, count: int) -> dict[str, Batch]:
        """A fixed selection of each stream, [count, C, H, W] each: a function of the seed only. Changes no position."""
        return {name: source.examples(count) for name, source in self.sources.items()}

    @property
    def seen(self) -> dict[str, int]:
        """Images drawn from each stream so far. Assigning it continues exactly from there."""
        return {name: source.seen for name, source in self.sources.items()}

    @seen.setter
    def seen(self, images: Mapping[str, int]) -> None:
        for name, source in self.sources.items():
            source.seen = images[name]

    def close(self) -> None:
        """End worker processes. May be repeated; drawing starts them again."""
        for source in self.sources.values():
            source.close()
