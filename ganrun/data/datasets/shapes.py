"""Images with known factors of variation: one shape each, of a kind, colour, scale, rotation and place, and a caption.

After dSprites, Matthey et al. 2017. Rotations end where a shape looks the same again, so each image determines its
factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ganrun.core import limits
from ganrun.core.errors import ConfigError
from ganrun.data.datasets.base import Dataset
from ganrun.data.datasets.counter_rng import uniform
from ganrun.data.datasets.shapes_rendering import COLOURS, REACH, SHAPES, ShapeFactors, draw
from ganrun.data.datasets.sizes import check_size
from ganrun.data.transforms.classes import ClassSelection, select_classes
from ganrun.data.transforms.resize import check_shape

LEAST = 8  # pixels of a side, below which the shapes look alike
SIZES = ("small", "medium-sized", "large")
PLACES = (
    ("at the upper left", "at the top", "at the upper right"),
    ("at the left", "in the centre", "at the right"),
    ("at the lower left", "at the bottom", "at the lower right"),
)


class Shapes(Dataset):
    """One shape an image, on black, with smooth edges; image i is a function of the settings, the seed and i."""

    factor_names: tuple[str, ...]  # the columns of `factors`
    factors: Tensor  # [N, F] float32: indices into SHAPES and COLOURS, degrees, fractions of the image's side

    def __init__(
        self, *, size: int, seed: int, scales: Sequence[float], channels: int, resolution: int,
        classes: ClassSelection, stroke: float | None = None, leave_out: Sequence[str] = (),
    ):  # fmt: skip
        """`scales`: the least and the largest square root of a shape's area, as a fraction of the image's side.

        `stroke`: the width of outlines, as a fraction of the image's side; null for filled shapes.
        `leave_out` are combinations that never occur, such as "red star": its images have the next colour in its place.
        Raises ConfigError for scales, sizes, strokes and resolutions that cannot be drawn.
        """
        check_shape(channels, resolution)
        _check(size, scales, resolution)
        if stroke is not None:
            limits.number(".stroke", stroke, 1 / resolution)
        self.stroke = stroke
        self.channels, self.resolution, self.scales = channels, resolution, (float(scales[0]), float(scales[1]))
        factors = factors_of(uniform(seed, "shapes", rows=size, columns=len(ShapeFactors._fields)), self.scales)
        factors = _without(factors, [_combination(one) for one in leave_out])
        rows, self.labels, self.classes = select_classes(classes, tuple(SHAPES), torch.from_numpy(factors.shape))
        self._factors = factors if rows is None else factors.at(rows.numpy())
        self.factor_names = tuple(name for name in ShapeFactors._fields if channels == 3 or name != "colour")
        columns = [getattr(self._factors, name) for name in self.factor_names]
        self.factors = torch.from_numpy(np.stack(columns, 1).astype(np.float32))

    def part(self, rows: Tensor) -> Self:
        """These images [M], with their factors and captions."""
        twin = self._copied(rows)
        twin._factors, twin.factors = self._factors.at(rows.numpy()), self.factors[rows]
        return twin

    def __len__(self) -> int:
        return len(self.factors)

    def image(self, index: int) -> Tensor:
        one = self._factors.at(slice(index, index + 1))
        return torch.from_numpy(draw(one, channels=self.channels, resolution=self.resolution, stroke=self.stroke))[0]

    def bulk(self) -> tuple[Tensor, Tensor | None]:
        images = draw(self._factors, channels=self.channels, resolution=self.resolution, stroke=self.stroke)
        return torch.from_numpy(images), self.labels

    @property
    def captions(self) -> list[str]:  # type: ignore[override]
        """The caption of each image."""
        return [self.caption(index) for index in range(len(self))]

    def caption(self, index: int) -> str:
        """Most factors in words, such as: a small red triangle, at the upper left. Noise is left the rotation."""
        shape, colour, scale, _, x, y = (float(column[index]) for column in self._factors)
        kind, edge = list(SHAPES)[int(shape)], margin(self.scales)
        words = ["a", SIZES[_third(scale, *self.scales)], *[list(COLOURS)[int(colour)]] * (self.channels == 3), kind]
        return f"{' '.join(words)}, {PLACES[_third(y, edge, 1 - edge)][_third(x, edge, 1 - edge)]}"


def factors_of(drawn: np.ndarray, scales: tuple[float, float]) -> ShapeFactors:
    """Independent factors from uniform numbers [N, 6] in [0, 1), such that every shape lies inside the image."""
    shape, colour, scale, rotation, x, y = drawn.T
    kinds = (shape * len(SHAPES)).astype(np.int64)
    periods = np.array([period for _, period in SHAPES.values()])
    edge = margin(scales)
    return ShapeFactors(
        shape=kinds,
        colour=(colour * len(COLOURS)).astype(np.int64),
        scale=scales[0] + scale * (scales[1] - scales[0]),
        rotation=rotation * periods[kinds],
        x=edge + x * (1 - 2 * edge),
        y=edge + y * (1 - 2 * edge),
    )


def _combination(words: str) -> tuple[int, int]:
    """The colour and the shape of a combination, such as "red star". Raises ConfigError for another."""
    colour, _, shape = words.partition(" ")
    if colour not in COLOURS or shape not in SHAPES:
        expected = f"a colour ({', '.join(COLOURS)}) and a shape ({', '.join(SHAPES)})"
        raise ConfigError(".leave_out", repr(words), expected, ".leave_out=[red star]")
    return list(COLOURS).index(colour), list(SHAPES).index(shape)


def _without(factors: ShapeFactors, combinations: Sequence[tuple[int, int]]) -> ShapeFactors:
    """The same shapes, those of such a colour in the next colour that the combinations leave to them."""
    colours, count = factors.colour.copy(), len(COLOURS)
    left_out = set(combinations)
    for colour, shape in combinations:
        free = [one % count for one in range(colour + 1, colour + count) if (one % count, shape) not in left_out]
        if not free:
            raise ConfigError(".leave_out", f"{list(SHAPES)[shape]} in every colour", "a colour that it may have")
        colours[(factors.colour == colour) & (factors.shape == shape)] = free[0]
    return factors._replace(colour=colours)


def margin(scales: tuple[float, float]) -> float:
    """The least distance of a centre from an edge, at which the largest shape just fits."""
    return REACH * scales[1]


def _third(value: float, low: float, high: float) -> int:
    """Which third of a range the value is in, 0 to 2; 1 where the range is empty."""
    return min(int(3 * (value - low) / (high - low)), 2) if high > low else 1


def _check(size: int, scales: Sequence[float], resolution: int) -> None:
    check_size(size, "images", least=1, usual=10000)
    if resolution < LEAST:
        raise ConfigError(".resolution", f"{resolution}", f"at least {LEAST}", f".resolution={LEAST}")
    if len(scales) != 2 or not 0 < scales[0] <= scales[1] <= 0.5:
        expected = "the least and the largest, above 0 and up to 0.5"
        raise ConfigError(".scales", f"{list(scales)}", expected, ".scales=[0.15,0.3]")
