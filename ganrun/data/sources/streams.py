"""The batch sources of a run, by the names of their streams."""

from __future__ import annotations

from collections.abc import Mapping

from ganrun.core.context import Batch, BatchShape
from ganrun.data.sources.source import Source


class Streams:
    """Draws a batch from each stream that an update reads; where each stands is its count of images seen."""

    def __init__(self, sources: Mapping[str, Source]):
        self.sources = dict(sources)

    def draw(self, shapes: Mapping[str, BatchShape]) -> dict[str, Batch]:
        """The next batch of each of these streams, [B, C, H, W] each. Advances them."""
        return {name: self.sources[name].draw(shape) for name, shape in shapes.items()}

    def examples(self, count: int) -> dict[str, Batch]:
        """A fixed selection of each stream, [count, C, H, W] each: a function of the seed only. Advances nothing."""
        return {name: source.examples(count) for name, source in self.sources.items()}

    @property
    def seen(self) -> dict[str, int]:
        """Images drawn from each stream so far. Assigning to it continues exactly from there."""
        return {name: source.seen for name, source in self.sources.items()}

    @seen.setter
    def seen(self, images: Mapping[str, int]) -> None:
        for name, source in self.sources.items():
            source.seen = images[name]

    def close(self) -> None:
        """Let go of processes. Harmless when repeated; drawing starts them again."""
        for source in self.sources.values():
            source.close()
