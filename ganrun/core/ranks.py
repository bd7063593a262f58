"""The place of this process among those that train together. Data order, noise and recording take it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import NamedTuple

import torch

from ganrun.core.collective import ProcessLost, largest_of_all
from ganrun.core.context import Update


class Rank(NamedTuple):
    """One of `world` processes that train together."""

    number: int = 0
    world: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.number == 0

    def share(self, update: Update) -> Update:
        """The share of this process in an update: as many images as any other's."""
        if self.world == 1:
            return update
        shape = update.shape._replace(images=update.shape.images // self.world)
        return replace(update, shape=shape, then=self.share(update.then) if update.then else None)

    def any(self, flag: bool) -> bool:
        """Whether this holds in any process. All ask at the same moment; raises ProcessLost when one has ended."""
        return flag if self.world == 1 else bool(largest_of_all(torch.tensor(int(flag))))

    @contextmanager
    def together(self) -> Iterator[None]:
        """What raises in one process ends the block in all: as `ProcessLost` in those where nothing was wrong."""
        try:
            yield
        except BaseException:
            with suppress(ProcessLost):
                self.any(True)
            raise
        if self.any(False):
            raise ProcessLost("another process of this run has stopped")


ALONE = Rank()
