"""The place of this process among those that train together: today one. Data order, noise and recording take it."""

from typing import NamedTuple


class Rank(NamedTuple):
    """One of `world` processes that train together."""

    number: int = 0
    world: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.number == 0


ALONE = Rank()
