"""2-D toy distributions with known modes. Gulrajani et al. 2017, section 4.1, constants of their gan_toy.py."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from ganrun.core import limits
from ganrun.core.errors import ConfigError
from ganrun.core.seeding import generator
from ganrun.data.datasets.base import InMemory
from ganrun.data.datasets.sizes import check_size
from ganrun.data.transforms.classes import ClassSelection

MODES = 1_000_000  # Gaussians at most


class Points(InMemory):
    """Points of the plane as images of one pixel with two channels. [N, 2, 1, 1]"""

    modes: Tensor | None = None  # [K, 2] the centres, in the units of the data; None for a curve
    sigma: float  # standard deviation around a centre or the curve, in the units of the data

    def __init__(
        self,
        *,
        points: Tensor,
        labels: Tensor | None,
        channels: int,
        resolution: int,
        classes: ClassSelection,
        sigma: float,
    ):
        """`points` [N, 2], `labels` [N]. Raises ConfigError for another shape than two channels of one pixel."""
        for key, found, expected in (("channels", channels, 2), ("resolution", resolution, 1)):
            if found != expected:
                raise ConfigError(f".{key}", f"{found} for points of the plane", f"{expected}", f"no .{key}")
        names = [] if labels is None else [str(mode) for mode in range(int(labels.max()) + 1)]
        super().__init__(images=points[:, :, None, None].contiguous(), labels=labels, names=names, classes=classes)
        self.sigma = sigma


class Gaussians(Points):
    """A mixture of isotropic Gaussians with equal weights; each is a class."""

    def __init__(
        self,
        *,
        centres: Tensor,
        size: int,
        seed: int,
        sigma: float,
        channels: int,
        resolution: int,
        classes: ClassSelection,
    ):
        """`centres` [K, 2] and `sigma` in the units of the data. Raises ConfigError for fewer points than centres."""
        check_size(size, "points", least=len(centres), usual=100000)
        random = generator(seed, type(self).__name__)
        labels = torch.arange(size) % len(centres)
        points = centres[labels] + sigma * torch.randn(size, 2, generator=random)
        super().__init__(
            points=points, labels=labels, channels=channels, resolution=resolution, classes=classes, sigma=sigma
        )
        self.modes = centres[[int(name) for name in self.classes]]


class Ring(Gaussians):
    """Eight Gaussians on a circle, divided by 1.414 so that a coordinate's variance is about one."""

    def __init__(
        self,
        *,
        size: int,
        seed: int,
        gaussians: int,
        radius: float,
        sigma: float,
        divide: float,
        channels: int,
        resolution: int,
        classes: ClassSelection,
    ):
        """Raises ConfigError for more centres than points, a width below 0, and a divisor that is not above 0."""
        limits.whole(".gaussians", gaussians, 1, MODES)
        check_width("sigma", sigma, divide)
        angles = torch.arange(gaussians) * (2 * math.pi / gaussians)
        centres = radius / divide * torch.stack([angles.cos(), angles.sin()], 1)
        super().__init__(
            centres=centres, size=size, seed=seed, sigma=sigma / divide,
            channels=channels, resolution=resolution, classes=classes,
        )  # fmt: skip


class Grid(Gaussians):
    """25 Gaussians on a square grid, divided by 2.828 so that a coordinate's variance is about one."""

    def __init__(
        self,
        *,
        size: int,
        seed: int,
        side: int,
        spacing: float,
        sigma: float,
        divide: float,
        channels: int,
        resolution: int,
        classes: ClassSelection,
    ):
        """Raises ConfigError for more centres than points, a width below 0, and a divisor that is not above 0."""
        limits.whole(".side", side, 1, math.isqrt(MODES))
        check_width("sigma", sigma, divide)
        axis = (torch.arange(side) - (side - 1) / 2) * (spacing / divide)
        super().__init__(
            centres=torch.cartesian_prod(axis, axis), size=size, seed=seed, sigma=sigma / divide,
            channels=channels, resolution=resolution, classes=classes,
        )  # fmt: skip


class SwissRoll(Points):
    """A spiral with some noise, divided by 7.5; no classes."""

    def __init__(
        self,
        *,
        size: int,
        seed: int,
        noise: float,
        divide: float,
        channels: int,
        resolution: int,
        classes: ClassSelection,
    ):
        """Raises ConfigError for no points, a width below 0, and a divisor that is not above 0."""
        check_size(size, "points", least=1, usual=100000)
        check_width("noise", noise, divide)
        random = generator(seed, type(self).__name__)
        points = (spiral(size, random) + noise * torch.randn(size, 2, generator=random)) / divide
        super().__init__(
            points=points, labels=None, channels=channels, resolution=resolution, classes=classes, sigma=noise / divide
        )


def check_width(key: str, width: float, divide: float) -> None:
    """Raises ConfigError for a standard deviation below 0, and for a divisor that is not above 0."""
    limits.number(f".{key}", width, 0)
    limits.positive(".divide", divide)


def spiral(size: int, random: Generator) -> Tensor:
    """The curve t (cos t, sin t), t uniform in [3/2 pi, 9/2 pi], as scikit-learn's make_swiss_roll. [N, 2]"""
    t = 1.5 * math.pi * (1 + 2 * torch.rand(size, generator=random))
    return torch.stack([t * t.cos(), t * t.sin()], 1)
