"""Replay: the discriminator also learns from fakes of earlier updates."""

from __future__ import annotations

import torch
from torch import Tensor

from ganrun.core.context import PairView
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.traits import Traits, facts
from ganrun.core.trick import Trick


class Replay(Trick):
    """Replay buffer: D sees some fakes of earlier updates. Shrivastava et al. 2017, section 2.3; CycleGAN; ganhacks 8.

    A pool of `size` fakes. While it fills, each new fake is kept and shown to D. From then on, image by image: with
    probability `p` D sees a random fake of the pool, which the new one replaces there; otherwise the new one.
    """

    traits = Traits(needs=facts(Fact.UNLABELLED, Fact.SINGLE_SCALE, Fact.IMAGE_ALONE), invalidates=facts(Fact.CURRENT))
    pool: Tensor  # [N, C, H, W]
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

    def bind(self, pair: PairView, real: Tensor, fake: Tensor) -> None:
        """Allocate the pool for fakes [B, C, H, W]."""
        self.register_buffer("pool", fake.new_zeros(self.size, *fake.shape[1:]))

    def replay(self, fake: Tensor) -> Tensor:
        """Exchange fakes with the pool, as if one at a time: a later one can draw an earlier one. [B, C, H, W]"""
        count, device = len(fake), fake.device
        order = self.seen + torch.arange(count, device=device)  # [B] the number of each fake, counted over the run
        fills = order < self.size
        swaps = ~fills & (torch.rand(count, device=device) < self.p)
        place = torch.where(fills, order, torch.randint(self.size, (count,), device=device))
        stays = fills | swaps  # these go into the pool
        drawn = self._drawn(fake, place, stays)
        pool = self._after(fake, place, stays)
        self.pool.copy_(pool)
        self.seen.add_(count)
        return torch.where(swaps.view(-1, 1, 1, 1), drawn, fake)

    def _drawn(self, fake: Tensor, place: Tensor, stays: Tensor) -> Tensor:
        """The fake that is at each image's place when its turn comes: the batch's last one there, or the pool's."""
        number = torch.arange(len(fake), device=fake.device)
        earlier = (
            (place == place.unsqueeze(1)) & stays & (number < number.unsqueeze(1))
        )  # [B, B]: this one, by that one
        last = torch.where(earlier, number, -1).amax(1)
        everything = torch.cat([fake, self.pool])
        return everything[torch.where(last >= 0, last, place + len(fake))]

    def _after(self, fake: Tensor, place: Tensor, stays: Tensor) -> Tensor:
        """The pool after this batch: at each place the last image that was put there, if any."""
        number, places = torch.arange(len(fake), device=fake.device), torch.arange(self.size, device=fake.device)
        put = (place == places.unsqueeze(1)) & stays  # [N, B]
        last = torch.where(put, number, -1).amax(1)
        everything = torch.cat([fake, self.pool])
        return everything[torch.where(last >= 0, last, places + len(fake))]
