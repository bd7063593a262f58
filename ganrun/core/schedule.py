"""Numbers that follow the step: given in the configuration, held on the device."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from ganrun.core import limits
from ganrun.core.errors import ConfigError

FOREVER = 10**12  # steps or images, more than any run has


class Schedule(ABC):
    """A number as a function of how far the run has come."""

    @abstractmethod
    def __call__(self, step: int, images: int = 0) -> float:
        """The number after this many steps, and this many images of them."""

    @property
    def final(self) -> float:
        """The number that it comes to in the end."""
        return self(FOREVER, FOREVER)


class Constant(Schedule):
    """The same number at every step."""

    def __init__(self, *, value: float):
        self.value = value

    def __call__(self, step: int, images: int = 0) -> float:
        return self.value


class ByImages(Schedule):
    """Another schedule that counts images in place of steps: its `steps` are then images."""

    def __init__(self, *, schedule: Schedule):
        self.schedule = schedule

    def __call__(self, step: int, images: int = 0) -> float:
        return self.schedule(images, images)


class Linear(Schedule):
    """A straight line from `start` to `end` over `steps` steps, after `delay` steps at `start`; then `end`."""

    def __init__(self, *, start: float, end: float, steps: int, delay: int = 0):
        """Raises ConfigError for a line over no step."""
        limits.whole(".steps", steps, 1)
        self.start, self.end, self.steps, self.delay = start, end, steps, delay

    def fraction(self, step: int) -> float:
        """How much of the way is done. In [0, 1]"""
        return min(max((step - self.delay) / self.steps, 0.0), 1.0)

    def __call__(self, step: int, images: int = 0) -> float:
        return self.start + (self.end - self.start) * self.fraction(step)


class Cosine(Linear):
    """Half a cosine from `start` to `end` over `steps` steps."""

    def __call__(self, step: int, images: int = 0) -> float:
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * self.fraction(step))) / 2


class Staircase(Schedule):
    """`start`, multiplied by `factor` at every `every`-th step, but never below `least`."""

    def __init__(self, *, start: float, factor: float, every: int, least: float):
        """Raises ConfigError for a factor outside (0, 1] or steps of no width."""
        limits.whole(".every", every, 1)
        if not 0 < factor <= 1:
            raise ConfigError(".factor", f"{factor}", "a number above 0 and at most 1", ".factor=0.5")
        self.start, self.factor, self.every, self.least = start, factor, every, least

    def __call__(self, step: int, images: int = 0) -> float:
        return max(self.start * self.factor ** (step // self.every), self.least)


class HalfLife(Schedule):
    """The decay of an average with a half-life counted in images. Karras et al. 2018, section 4.

    0.5^(batch / images); of 0 images, 0: no memory. `images` may itself be a schedule.
    """

    def __init__(self, *, images: float | Schedule, batch: int):
        self.images, self.batch = schedule(images), batch

    def __call__(self, step: int, images: int = 0) -> float:
        half = self.images(step, images)
        return 0.5 ** (self.batch / half) if half > 0 else 0.0


class Exponential(Schedule):
    """Divided by `factor` at every step from `start` on, never below `end`. Goodfellow et al. 2014, published code."""

    def __init__(self, *, start: float, end: float, factor: float):
        """Raises ConfigError for a factor below 1, which would let the number grow."""
        limits.number(".factor", factor, 1)
        self.start, self.end, self.factor = start, end, factor

    def __call__(self, step: int, images: int = 0) -> float:
        return max(self.start * math.exp(-step * math.log(self.factor)), self.end)


class Product(Schedule):
    """One schedule times another."""

    def __init__(self, first: Schedule, second: Schedule):
        self.first, self.second = first, second

    def __call__(self, step: int, images: int = 0) -> float:
        return self.first(step, images) * self.second(step, images)


def schedule(value: float | Schedule) -> Schedule:
    """The schedule that a configured number stands for."""
    return value if isinstance(value, Schedule) else Constant(value=float(value))


def is_scheduled(value: Any) -> bool:
    """Whether a setting follows the step: a schedule, or a list that holds one, such as Adam's betas."""
    return isinstance(value, Schedule) or (isinstance(value, list | tuple) and any(is_scheduled(one) for one in value))


def at(value: Any, step: int, images: int = 0) -> Any:
    """A setting as it is after this many steps, and this many images of them."""
    if isinstance(value, list | tuple):
        return tuple(at(one, step, images) for one in value)
    return value(step, images) if isinstance(value, Schedule) else value


class Scheduled(nn.Module):
    """A number that follows the step, as a device buffer [], so that an update reads it without asking the host."""

    value: Tensor  # []

    def __init__(self, value: float | Schedule):
        super().__init__()
        self.schedule = schedule(value)
        self.now = self.schedule(0)
        self.register_buffer("value", torch.tensor(self.now, dtype=torch.float32), persistent=False)

    def turn(self, step: int, images: int = 0) -> None:
        """Set the number of this step. Called between updates."""
        now = self.schedule(step, images)
        if now != self.now:
            self.now = now
            self.value.fill_(now)

    def forward(self) -> Tensor:
        """The number as of this step. []"""
        return self.value
