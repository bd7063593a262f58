"""The game of StackGAN++: from a sentence to an image at several scales, all of which are made and judged at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ganrun.core import limits
from ganrun.core.context import BatchShape
from ganrun.core.pair import Pair
from ganrun.games.pyramid import PyramidGame
from ganrun.games.text import TextGame


class TextPyramidGame(PyramidGame, TextGame):
    """Text to images of several scales at once. StackGAN++, Zhang et al. 2018 (arXiv 1710.10916), section 4.

    Reals, sentences and mismatches are those of `TextGame`, scales those of `PyramidGame`.
    """

    instead: ClassVar[str] = "model=stackgan_v2, or game=text"

    def __init__(
        self, *, pairs: Mapping[str, Pair], shape: BatchShape, prior: str, grid: int, kl: float, colour: float
    ):
        """`kl` weighs the divergence of codes, `colour` `colour_consistency`. Raises ConfigError as both games."""
        TextGame.__init__(self, pairs=pairs, shape=shape, prior=prior, grid=grid, kl=kl, stage1=None)
        limits.number(".colour", colour, 0)
        self.colour = colour
