"""Fakes of earlier updates, from which D learns again: as fakes (replay), or as if they were real (APA)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ganrun.core import across, limits
from ganrun.core.context import Context, PairView
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.images import scales
from ganrun.core.traits import Traits, facts
from ganrun.core.trick import Trick
from ganrun.tricks.adaptive import Adaptive


class Replay(Trick):
    """Replay buffer: D sees some fakes of earlier updates. Shrivastava et al. 2017, section 2.3; CycleGAN; ganhacks 8.

    A pool of `size` fakes. While it fills, each new fake is kept and shown to D. From then on, image by image: with
    probability `p` D sees a random fake of the pool, which the new one replaces there; otherwise the new one.
    """

    traits = Traits(needs=facts(Fact.UNLABELLED, Fact.SAME_SIZE, Fact.IMAGE_ALONE), invalidates=facts(Fact.CURRENT))
    pool: Tensor  # [N, C, H, W], at the largest scale; smaller ones are pool_4, pool_8 and so on, by their pixels
    seen: Tensor  # [] int64, the number of fakes so far

    def __init__(self, *, size: int, p: float):
        """Raises ConfigError for a pool of no image, and for a probability outside (0, 1]."""
        super().__init__()
        if size < 1:
            raise ConfigError(".size", f"{size}", "at least 1 image", ".size=50")
        if not 0 < p <= 1:
            raise ConfigError(".p", f"{p}", "0 < p <= 1", ".p=0.5")
        self.size, self.p = size, p
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def bind(self, pair: PairView, real: Any, fake: Any) -> None:
        """Allocate the pool for fakes [B, C, H, W], at each of their scales."""
        each = scales(fake)
        self._pools = [*(f"pool_{one.shape[-1]}" for one in each[:-1]), "pool"]
        for name, one in zip(self._pools, each, strict=True):
            self.register_buffer(name, one.new_zeros(self.size, *one.shape[1:]))

    def replay(self, fake: Any) -> Any:
        """Exchange fakes with the pool, as if one at a time: a later one can draw an earlier one. [B, C, H, W]"""
        shown = across.on_the_whole(self._exchange, scales(fake))
        return tuple(shown) if isinstance(fake, tuple) else shown[0]

    def _exchange(self, fakes: Sequence[Tensor]) -> list[Tensor]:
        """The same for the whole batch, at each scale: what D sees. [B, C, H, W] each"""
        count, device = len(fakes[0]), fakes[0].device
        order = self.seen + torch.arange(count, device=device)  # [B] the number of each fake, counted over the run
        fills = order < self.size
        swaps = ~fills & (torch.rand(count, device=device) < self.p)
        place = torch.where(fills, order, torch.randint(self.size, (count,), device=device))
        stays = fills | swaps  # these go into the pool
        drawn, after = self._drawn(place, stays), self._after(place, stays)
        pools = [getattr(self, name) for name in self._pools]
        shown = [self._exchanged(*one, swaps, drawn, after) for one in zip(fakes, pools, strict=True)]
        self.seen.add_(count)
        return shown

    @staticmethod
    def _exchanged(fake: Tensor, pool: Tensor, swaps: Tensor, drawn: Tensor, after: Tensor) -> Tensor:
        """What D sees of one scale, whose pool becomes what it is after this batch. [B, C, H, W]"""
        everything = torch.cat([fake, pool])
        pool.copy_(everything[after])
        return torch.where(swaps.view(-1, 1, 1, 1), everything[drawn], fake)

    @staticmethod
    def _drawn(place: Tensor, stays: Tensor) -> Tensor:
        """The fake that is at each image's place when its turn comes: the batch's last one there, or the pool's.

        As a number among the batch's fakes and, behind them, those of the pool. [B]
        """
        number = torch.arange(len(place), device=place.device)
        earlier = (
            (place == place.unsqueeze(1)) & stays & (number < number.unsqueeze(1))
        )  # [B, B]: this one, by that one
        last = torch.where(earlier, number, -1).amax(1)
        return torch.where(last >= 0, last, place + len(place))

    def _after(self, place: Tensor, stays: Tensor) -> Tensor:
        """The pool after this batch: at each place the last image that was put there, if any.

        As numbers among the batch's fakes and, behind them, those of the pool. [N]
        """
        number, places = torch.arange(len(place), device=place.device), torch.arange(self.size, device=place.device)
        put = (place == places.unsqueeze(1)) & stays  # [N, B]
        last = torch.where(put, number, -1).amax(1)
        return torch.where(last >= 0, last, places + len(place))


class Apa(Adaptive):
    """APA: some reals of D are replaced by fakes, which D is to take for real. Jiang et al. 2021, section 3.

    arXiv 2111.06849. Each real is replaced with probability p by one of the last `size` fakes that D has learnt from;
    p rises while D overfits, as that of ADA does, by r_t = E sign(D(x)) over what stands for reals (their lambda_r).
    The authors' code takes the fakes of G's last update in their order, and lets p grow above 1. Reals that another
    term of G's loss compares with are replaced too. At first the fakes are those that tricks were bound to.
    """

    traits = Traits(needs=facts(Fact.SCORE, Fact.UNDECIDED, Fact.UNLABELLED, Fact.SAME_SIZE, Fact.IMAGE_ALONE,
                                Fact.SINGLE_SCALE))  # fmt: skip
    fakes: Tensor  # [N, C, H, W] the last ones
    seen: Tensor  # [] int64, the number of fakes so far

    def __init__(self, *, start: float, target: float, interval: int, images: int, size: int):
        """Raises ConfigError for a start outside [0, 1], and for counts below 1."""
        super().__init__(start=start, target=target, interval=interval, images=images)
        limits.whole(".size", size, 1)
        self.size = size
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def bind(self, pair: PairView, real: Tensor, fake: Tensor) -> None:
        """Allocate the fakes, which are these [B, C, H, W] at first."""
        self.register_buffer("fakes", fake.detach()[torch.arange(self.size, device=fake.device) % len(fake)])

    def reals(self, images: Tensor) -> Tensor:
        """Reals, of which some are fakes. [B, C, H, W]"""
        count, device = len(images), images.device
        chosen = torch.rand(count, 1, 1, 1, device=device) < self.p
        return torch.where(chosen, self.fakes[torch.randint(self.size, (count,), device=device)], images)

    def observe(self, context: Context) -> None:
        super().observe(context)
        newest = across.whole(context.fake)[-self.size :]
        places = (self.seen + torch.arange(len(newest), device=newest.device)) % self.size
        self.fakes.index_copy_(0, places, newest)
        self.seen.add_(len(newest))
