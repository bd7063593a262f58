"""Antialiased rendering of plain shapes from their signed distance functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

CHUNK = 256  # images that are drawn at a time, so that their arrays stay in the cache


class ShapeFactors(NamedTuple):
    """The factors of one shape an image, all [N]. Lengths are fractions of the image's side; y is downwards."""

    shape: np.ndarray  # index into SHAPES
    colour: np.ndarray  # index into COLOURS
    scale: np.ndarray  # the square root of the area, so a square's side
    rotation: np.ndarray  # degrees, anticlockwise as seen
    x: np.ndarray  # of the centre
    y: np.ndarray

    def at(self, rows: np.ndarray | slice) -> ShapeFactors:
        """The factors of these images."""
        return ShapeFactors(*(column[rows] for column in self))


COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "magenta": (255, 0, 255),
    "cyan": (0, 255, 255),
    "white": (255, 255, 255),
}

# Signed distances to outlines of area 1 around the origin, y upwards: negative inside.


def square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Axis-aligned, with sides of length 1."""
    return np.maximum(np.abs(x), np.abs(y)) - 0.5


def ellipse(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Twice as wide as high; the distance is a first-order approximation: the value over its gradient's length."""
    a = math.sqrt(2 / math.pi)
    b = a / 2
    slope = 2 * np.sqrt((x / a**2) ** 2 + (y / b**2) ** 2)
    return ((x / a) ** 2 + (y / b) ** 2 - 1) / np.maximum(slope, 1e-6)


def triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Equilateral, pointing up; its area is 3 sqrt(3) times the square of the inner radius."""
    return np.maximum(-y, 0.5 * y + math.sqrt(0.75) * np.abs(x)) - 1 / math.sqrt(3 * math.sqrt(3))


def cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Five equal squares, one in the middle and one on each of its sides."""
    x, y, half = np.abs(x), np.abs(y), 0.5 / math.sqrt(5)
    return np.minimum(np.maximum(x - 3 * half, y - half), np.maximum(x - half, y - 3 * half))


def star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A pentagram, pointing up: the plane folded onto half a point, which ends at one straight edge."""
    c, s, inner = math.cos(math.pi / 5), math.sin(math.pi / 5), 1 / ((1 + math.sqrt(5)) / 2) ** 2
    radius = 1 / math.sqrt(5 * inner * s)
    x = np.abs(x)
    for nx, ny in ((c, -s), (-c, -s)):
        beyond = 2 * np.maximum(nx * x + ny * y, 0)
        x, y = x - beyond * nx, y - beyond * ny
    edge = (inner * s, inner * c - 1)  # from the tip to the notch
    return ((y - radius) * edge[0] - np.abs(x) * edge[1]) / math.hypot(*edge)


Outline = Callable[[np.ndarray, np.ndarray], np.ndarray]
SHAPES: dict[str, tuple[Outline, float]] = {  # with the rotation, in degrees, after which a shape looks the same
    "square": (square, 90.0),
    "ellipse": (ellipse, 180.0),
    "triangle": (triangle, 120.0),
    "cross": (cross, 90.0),
    "star": (star, 72.0),
}
REACH = 0.944  # the largest distance of a point from its shape's centre at scale 1: that of the star's tips


def draw(factors: ShapeFactors, *, channels: int, resolution: int, stroke: float | None = None) -> np.ndarray:
    """Coloured on black, or white where there is one channel; filled, or outlined. [N, channels, R, R] uint8"""
    images = np.empty((len(factors.x), channels, resolution, resolution), np.uint8)
    palette = np.array(list(COLOURS.values()), np.float32)
    for start in range(0, len(images), CHUNK):
        piece = slice(start, start + CHUNK)
        some = factors.at(piece)
        inks = palette[some.colour] if channels == 3 else np.full((len(some.x), 1), 255, np.float32)
        images[piece] = inks[:, :, None, None] * coverage(some, resolution, stroke)[:, None] + 0.5
    return images


def coverage(factors: ShapeFactors, resolution: int, stroke: float | None = None) -> np.ndarray:
    """The fraction of each pixel that the shape covers, linear within half a pixel of its edge. [N, R, R]

    With a `stroke`, a fraction of the image's side: that the shape covers within this distance of its edge.
    """
    parts = np.empty((len(factors.x), resolution, resolution), np.float32)
    for number, (outline, _) in enumerate(SHAPES.values()):
        rows = np.flatnonzero(factors.shape == number)
        if len(rows):
            some = factors.at(rows)
            pixels = (some.scale * resolution).astype(np.float32)[:, None, None]
            distance = outline(*_coordinates(some, resolution)) * pixels  # from the edge, negative inside
            parts[rows] = np.clip(0.5 - distance, 0, 1)
            if stroke is not None:
                parts[rows] -= np.clip(0.5 - distance - stroke * resolution, 0, 1)
    return parts


def _coordinates(factors: ShapeFactors, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """The pixels' centres x and y in the shape's own coordinates. [N, R, R] float32 each."""
    at = (np.arange(resolution) + 0.5) / resolution
    right = ((at - factors.x[:, None]) / factors.scale[:, None])[:, None, :]
    up = ((factors.y[:, None] - at) / factors.scale[:, None])[:, :, None]
    angle = np.deg2rad(factors.rotation)[:, None, None]
    cos, sin = np.cos(angle), np.sin(angle)
    right, up, cos, sin = (values.astype(np.float32) for values in (right, up, cos, sin))
    return cos * right + sin * up, cos * up - sin * right
