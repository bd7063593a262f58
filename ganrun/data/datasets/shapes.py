"""Images whose factors are known: one shape each, of a kind, colour, size, turn and place, and a sentence about it.

After dSprites, Matthey et al. 2017. A turn stops short of where the shape looks the same again, so every factor can be
read off the picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.data.datasets.base import Dataset
from ganrun.data.datasets.random_by_index import uniform
from ganrun.data.datasets.shape_drawing import COLOURS, REACH, SHAPES, Figures, draw
from ganrun.data.transforms.classes import Wanted, select
from ganrun.data.transforms.resize import check_shape

LEAST = 8  # pixels of a side below which nothing can be told apart
SIZES = ("small", "medium-sized", "large")
PLACES = (
    ("at the upper left", "at the top", "at the upper right"),
    ("at the left", "in the centre", "at the right"),
    ("at the lower left", "at the bottom", "at the lower right"),
)


class Shapes(Dataset):
    """One shape an image, on black, with smooth edges; image i is a function of the settings, the seed and i."""

    factor_names: tuple[str, ...]  # the columns of `factors`
    factors: Tensor  # [N, F] float32: indices into SHAPES and COLOURS, degrees, parts of the image's side

    def __init__(
        self, *, size: int, seed: int, scales: Sequence[float], channels: int, resolution: int, classes: Wanted
    ):
        """`scales`: the least and the largest square root of a shape's area, as a part of the image's side."""
        check_shape(channels, resolution)
        _sensible(size, scales, resolution)
        self.channels, self.resolution, self.scales = channels, resolution, (float(scales[0]), float(scales[1]))
        figures = invent(uniform(seed, "shapes", rows=size, columns=len(Figures._fields)), self.scales)
        rows, self.labels, self.classes = select(classes, tuple(SHAPES), torch.from_numpy(figures.shape))
        self.figures = figures if rows is None else figures.at(rows.numpy())
        self.factor_names = tuple(name for name in Figures._fields if channels == 3 or name != "colour")
        columns = [getattr(self.figures, name) for name in self.factor_names]
        self.factors = torch.from_numpy(np.stack(columns, 1).astype(np.float32))

    def __len__(self) -> int:
        return len(self.factors)

    def image(self, index: int) -> Tensor:
        one = self.figures.at(slice(index, index + 1))
        return torch.from_numpy(draw(one, channels=self.channels, resolution=self.resolution))[0]

    def bulk(self) -> tuple[Tensor, Tensor | None]:
        images = draw(self.figures, channels=self.channels, resolution=self.resolution)
        return torch.from_numpy(images), self.labels

    @property
    def captions(self) -> list[str]:
        """A sentence for each image."""
        return [self.caption(index) for index in range(len(self))]

    def caption(self, index: int) -> str:
        """Such as: a small red triangle, turned by 30 degrees, at the upper left"""
        shape, colour, scale, rotation, x, y = (float(column[index]) for column in self.figures)
        kind, (_, period) = list(SHAPES.items())[int(shape)]
        words = ["a", SIZES[_third(scale, *self.scales)], *[list(COLOURS)[int(colour)]] * (self.channels == 3), kind]
        degrees = round(rotation) % round(period)
        turned = [f"turned by {degrees} degree{'s' * (degrees > 1)}"] if degrees else []
        edge = margin(self.scales)
        return ", ".join([" ".join(words), *turned, PLACES[_third(y, edge, 1 - edge)][_third(x, edge, 1 - edge)]])


def invent(drawn: np.ndarray, scales: tuple[float, float]) -> Figures:
    """Numbers in [0, 1) as shapes that lie inside the image, each factor independent of the others. [N, 6]"""
    shape, colour, scale, rotation, x, y = drawn.T
    kinds = (shape * len(SHAPES)).astype(np.int64)
    periods = np.array([period for _, period in SHAPES.values()])
    edge = margin(scales)
    return Figures(
        shape=kinds,
        colour=(colour * len(COLOURS)).astype(np.int64),
        scale=scales[0] + scale * (scales[1] - scales[0]),
        rotation=rotation * periods[kinds],
        x=edge + x * (1 - 2 * edge),
        y=edge + y * (1 - 2 * edge),
    )


def margin(scales: tuple[float, float]) -> float:
    """How near to an edge a centre may be: as near as the largest shape can."""
    return REACH * scales[1]


def _third(value: float, low: float, high: float) -> int:
    """Which third of a range the value is in; the middle of no range."""
    return min(int(3 * (value - low) / (high - low)), 2) if high > low else 1


def _sensible(size: int, scales: Sequence[float], resolution: int) -> None:
    if size < 1:
        raise ConfigError("dataset.size", f"{size} images", "at least 1", "dataset.size=10000")
    if resolution < LEAST:
        raise ConfigError("dataset.resolution", f"{resolution}", f"at least {LEAST}", f"dataset.resolution={LEAST}")
    if len(scales) != 2 or not 0 < scales[0] <= scales[1] <= 0.5:
        raise ConfigError("dataset.scales", f"{list(scales)}", "the least and the largest, above 0 and up to 0.5",
                      "dataset.scales=[0.15,0.3]")  # fmt: skip
