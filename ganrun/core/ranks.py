"""Which of several processes this one is. One process today; data order, noise and recording take it already."""

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
