"""Averages of weights over training: of the generator's for sampling (EMA), and of both players' to train with."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from ganrun.core import limits
from ganrun.core.context import Context, PairView, Role
from ganrun.core.errors import ConfigError
from ganrun.core.found import Found, buffers, parameters
from ganrun.core.schedule import Schedule, Scheduled, schedule
from ganrun.core.traits import Traits
from ganrun.core.trick import Trick
from ganrun.tricks.balance import BEGINNING
from ganrun.tricks.roles import BOTH


class _Weight(Schedule):
    """The weight of the newest weights, 1 - min(decay, (1 + t) / (warm_up + t)): early averages forget fast."""

    def __init__(self, decay: float | Schedule, warm_up: float):
        self.decay, self.warm_up = schedule(decay), warm_up

    def __call__(self, step: int, images: int = 0) -> float:
        return 1 - min(self.decay(step, images), (1 + step) / (self.warm_up + step))


def _approach(averages: list[Tensor], weights: list[Tensor], share: Tensor) -> None:
    """Move averages by this share of their distance, in place."""
    torch._foreach_lerp_(averages, weights, [share] * len(averages))  # one pass over memory


class Ema(Trick):
    """EMA: exponential moving average of G's weights, used for sampling. Yazici et al. 2019, equation 1.

    After each update of G, average += w * (weights - average) with w = 1 - min(decay, (1 + t) / (warm_up + t)), t the
    step; `decay` may be a schedule. Buffers, such as the statistics of batch norm, are copied.
    """

    average: nn.Module

    def __init__(self, *, decay: float | Schedule, warm_up: float):
        """Raises ConfigError for a decay outside [0, 1), and for a warm-up below 1."""
        super().__init__()
        if not isinstance(decay, Schedule) and not 0 <= decay < 1:
            raise ConfigError(".decay", f"{decay}", "0 <= decay < 1", ".decay=0.999")
        if warm_up < 1:
            raise ConfigError(".warm_up", f"{warm_up}", "1 or more; 1 is no warm-up", ".warm_up=10")
        self.weight = Scheduled(_Weight(decay, warm_up))
        self._weights = Found(parameters), Found(parameters)  # of the average, of the generator
        self._statistics = Found(buffers), Found(buffers)

    def bind(self, pair: PairView, real: Tensor, fake: Tensor) -> None:
        """Copy the generator; reads none of the images [B, C, H, W]."""
        self.average = deepcopy(pair.generator).eval().requires_grad_(False)

    def after(self, pair: PairView, player: Role) -> None:
        if player != "generator":
            return
        nets = self.average, pair.generator
        averages, weights = (find(net) for find, net in zip(self._weights, nets, strict=True))
        _approach(averages, weights, self.weight())
        copies, originals = (find(net) for find, net in zip(self._statistics, nets, strict=True))
        if copies:
            torch._foreach_copy_(copies, originals)

    def sampler(self, net: nn.Module) -> nn.Module:
        return self.average


class HistoricalAveraging(Trick):
    """Historical averaging: each player stays near the mean of its past weights. Salimans et al. 2016, section 3.3.

    Both players minimise weight * |theta - mean|^2, summed over all their parameters. `mean` is over every theta so
    far, the first and the current one included, and has no gradient. With a `decay` it is exponential instead:
    mean += (1 - decay) * (theta - mean).
    """

    averages: nn.ModuleDict  # role -> a network whose parameters are the means
    discriminator_count: Tensor  # [] the number of thetas in the mean
    generator_count: Tensor  # []

    def __init__(self, *, weight: float, decay: float | None):
        """Raises ConfigError for a weight that is not above 0, and for a decay outside [0, 1)."""
        super().__init__()
        limits.positive(".weight", weight)
        if decay is not None and not 0 <= decay < 1:
            raise ConfigError(".decay", f"{decay}", "null, or 0 <= decay < 1", ".decay=null")
        self.weight, self.decay = weight, decay
        self._means, self._weights = ({role: Found(parameters) for role in BOTH} for _ in range(2))
        self.register_buffer("discriminator_count", torch.ones(()))
        self.register_buffer("generator_count", torch.ones(()))

    def bind(self, pair: PairView, real: Tensor, fake: Tensor) -> None:
        """Copy both networks; reads none of the images [B, C, H, W]."""
        nets = {"generator": pair.generator, "discriminator": pair.discriminator}
        self.averages = nn.ModuleDict({role: deepcopy(net).requires_grad_(False) for role, net in nets.items()})

    def discriminator_term(self, context: Context) -> Tensor:
        return self._distance(context.pair.discriminator, "discriminator")

    def generator_term(self, context: Context) -> Tensor:
        return self._distance(context.pair.generator, "generator")

    def _distance(self, net: nn.Module, role: Role) -> Tensor:
        weights, means = self._weights[role](net), self._means[role](self.averages[role])
        pairs = zip(weights, means, strict=True)
        return self.weight * torch.stack([(now - mean).square().sum() for now, mean in pairs]).sum()

    def after(self, pair: PairView, player: Role) -> None:
        count: Tensor = getattr(self, f"{player}_count")
        count.add_(1)
        share = 1 / count if self.decay is None else torch.full_like(count, 1 - self.decay)
        net: nn.Module = getattr(pair, player)
        means = self._means[player](self.averages[player])
        _approach(means, self._weights[player](net), share)


class Lookahead(Trick):
    """Lookahead-minmax: every few steps both players go back part of the way. Chavdarova et al. 2021, algorithm 1.

    arXiv 2006.14567. After every `steps` steps slow += alpha * (fast - slow) for the weights of both players together,
    from which training goes on; what the optimisers have learnt stays, and so do buffers, such as the statistics of
    batch norm. It is done before the first update of the next step. Samples are drawn from the fast weights, or with
    `ema` from their average.
    """

    traits = Traits(sets=BEGINNING)
    slow: nn.ModuleDict  # role -> a network whose parameters are the slow weights

    def __init__(self, *, steps: int, alpha: float):
        """Raises ConfigError for less than one step, and for a share that is not above 0 and below 1."""
        super().__init__()
        limits.whole(".steps", steps, 1)
        if not 0 < alpha < 1:
            raise ConfigError(".alpha", f"{alpha}", "0 < alpha < 1", ".alpha=0.5")
        self.steps, self.alpha = steps, alpha
        self.roles: list[Role] = []  # whose network is this pair's own: one that pairs share goes back once
        self._slow, self._fast = ({role: Found(parameters) for role in BOTH} for _ in range(2))

    def modify(self, net: nn.Module, role: Role) -> nn.Module:
        """Change nothing; note that the network is this pair's own."""
        self.roles.append(role)
        return net

    def bind(self, pair: PairView, real: Tensor, fake: Tensor) -> None:
        """Copy the networks; reads none of the images [B, C, H, W]."""
        self.slow = nn.ModuleDict({role: deepcopy(getattr(pair, role)).requires_grad_(False) for role in self.roles})

    def begin(self, pair: PairView, step: int) -> None:
        if not step or step % self.steps:
            return
        for role in self.roles:
            slow, fast = self._slow[role](self.slow[role]), self._fast[role](getattr(pair, role))
            torch._foreach_lerp_(slow, fast, self.alpha)
            torch._foreach_copy_(fast, slow)
