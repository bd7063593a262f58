"""Replay: the discriminator also learns from fakes of the past."""

from __future__ import annotations

import torch
from torch import Tensor

from ganrun.core.context import PairView
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.traits import Traits, facts
from ganrun.core.trick import Trick


class Replay(Trick):
    """Show D, now and then, a fake that an earlier G made. Shrivastava et al. 2017, section 2.3; CycleGAN; ganhacks 8.

    A pool of `size` fakes. While it fills, each new fake is kept and shown. From then on, image by image: with
    probability `p` D is shown a random fake of the pool, whose place the new one takes; otherwise the new one.
    """

    traits = Traits(needs=facts(Fact.UNLABELLED), invalidates=facts(Fact.CURRENT))
    pool: Tensor  # [N, C, H, W]
    seen: Tensor  # [] int64, the fakes so far

    def __init__(self, *, size: int, p: float):
        super().__init__()
        if size < 1:
            raise ConfigError("tricks.replay.size", f"{size}", "at least 1 image", "tricks.replay.size=50")
        if not 0 < p <= 1:
            raise ConfigError("tricks.replay.p", f"{p}", "0 < p <= 1", "tricks.replay.p=0.5")
        self.size, self.p = size, p
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def bind(self, pair: PairView, real: Tensor, fake: Tensor) -> None:
        self.register_buffer("pool", fake.new_zeros(self.size, *fake.shape[1:]))

    def replay(self, fake: Tensor) -> Tensor:
        """What one image at a time would give, for a whole batch: a later image can draw an earlier one."""
        count, device = len(fake), fake.device
        order = self.seen + torch.arange(count, device=device)  # [B] which fake of the run each is
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
        """What lies at each image's place when its turn comes: what the batch last put there, or the pool's."""
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
