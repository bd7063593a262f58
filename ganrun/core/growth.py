"""Growth: the resolution that a network is at, and how far its newest layers count. Karras et al. 2018, section 2."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Phase(NamedTuple):
    """A resolution, and the weight of its layers beside those of half of it."""

    resolution: int  # pixels to a side
    alpha: float = 1.0  # in (0, 1] while a run grows; 1: the layers of half the resolution are gone

    @property
    def fading(self) -> bool:
        """Whether layers of half the resolution still count."""
        return self.alpha < 1


class Growth(nn.Module):
    """The phase that a network is in, full-grown at first. A game turns it between updates, in copies too.

    The resolution decides which layers run, so it is a plain number; the weight is a device buffer, which an update
    reads without asking the host. Checkpoints hold both.
    """

    alpha: Tensor  # []
    size: Tensor  # [] int64, the resolution

    def __init__(self, full: int):
        super().__init__()
        self.phase = Phase(full)
        self.register_buffer("alpha", torch.ones(()))
        self.register_buffer("size", torch.tensor(full))

    @property
    def resolution(self) -> int:
        """Pixels to a side."""
        return self.phase.resolution

    @property
    def fading(self) -> bool:
        """Whether layers of half the resolution still count."""
        return self.phase.fading

    def turn(self, phase: Phase) -> None:
        """Be in this phase. Called between updates."""
        if phase.resolution != self.phase.resolution:
            self.size.fill_(phase.resolution)
        if phase.alpha != self.phase.alpha:
            self.alpha.fill_(phase.alpha)
        self.phase = phase

    def blend(self, low: Tensor, high: Tensor) -> Tensor:
        """Maps or images, low + alpha (high - low), exact at 0 and at 1. [B, C, H, W] each"""
        return torch.lerp(low, high, self.alpha.to(high.dtype))

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        """Take what a checkpoint holds, the plain numbers too."""
        super()._load_from_state_dict(*args, **kwargs)
        self.phase = Phase(int(self.size), float(self.alpha))


def growths(module: nn.Module) -> list[Growth]:
    """What grows in a module, copies that tricks keep included."""
    return [one for one in module.modules() if isinstance(one, Growth)]


@contextmanager
def grown_to(module: nn.Module, resolution: int | None) -> Iterator[None]:
    """Within, all that grows in the module is at this resolution, without what fades in; at its own without one."""
    before = [(one, one.phase) for one in growths(module)]
    try:
        for one, phase in before:
            if resolution is not None and resolution < phase.resolution:
                one.turn(Phase(resolution))
        yield
    finally:
        for one, phase in before:
            one.turn(phase)
