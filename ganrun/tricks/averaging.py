"""Tricks on which weights are kept."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from ganrun.core.context import Role
from ganrun.core.pair import Pair
from ganrun.core.schedule import Schedule, Scheduled
from ganrun.core.trick import Trick
from ganrun.errors import Refused


class _Weight(Schedule):
    """1 - min(decay, (1 + t) / (warm_up + t)): early averages forget fast."""

    def __init__(self, decay: float, warm_up: float):
        self.decay, self.warm_up = decay, warm_up

    def __call__(self, step: int) -> float:
        return 1 - min(self.decay, (1 + step) / (self.warm_up + step))


class Ema(Trick):
    """Sample from an exponential moving average of G's weights. Yazici et al. 2019, equation 1.

    After each update of G, average += w * (weights - average) with w = 1 - min(decay, (1 + t) / (warm_up + t)), t the
    step. Buffers, such as the statistics of batch norm, are copied.
    """

    average: nn.Module

    def __init__(self, *, decay: float, warm_up: float):
        super().__init__()
        if not 0 <= decay < 1:
            raise Refused("tricks.ema.decay", f"{decay}", "0 <= decay < 1", "tricks.ema.decay=0.999")
        if warm_up < 1:
            raise Refused("tricks.ema.warm_up", f"{warm_up}", "1 or more; 1 is no warm-up", "tricks.ema.warm_up=10")
        self.weight = Scheduled(_Weight(decay, warm_up))

    def bind(self, pair: Pair, real: Tensor, fake: Tensor) -> None:
        self.average = deepcopy(pair.generator).eval().requires_grad_(False)

    def after(self, pair: Pair, player: Role) -> None:
        if player != "generator":
            return
        averages: list[Tensor] = list(self.average.parameters())
        weights: list[Tensor] = list(pair.generator.parameters())
        distances = torch._foreach_sub(weights, averages)
        torch._foreach_mul_(distances, self.weight())
        torch._foreach_add_(averages, distances)
        for kept, now in zip(self.average.buffers(), pair.generator.buffers(), strict=True):
            kept.copy_(now)

    def sampler(self, net: nn.Module) -> nn.Module:
        return self.average
