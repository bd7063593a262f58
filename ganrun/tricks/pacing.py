"""Tricks on who plays when, and against whom; and a guard."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from ganrun.core.context import Context, PairView, Role
from ganrun.core.errors import ConfigError, Stopped
from ganrun.core.facts import Fact
from ganrun.core.traits import Traits, facts, keys
from ganrun.core.trick import Setting, Trick
from ganrun.tricks.verdict import chance, coded, leaning

ROLES: tuple[Role, Role] = ("discriminator", "generator")
SITTING_OUT = keys("who sits out a step")


class SgdDiscriminator(Setting):
    """SGD for D, Adam for G. ganhacks 9. Its YAML chooses `optim=sgd_discriminator`; another choice undoes that."""

    def __init__(self, *, sets: list[str], optimizer: str):
        super().__init__(sets=sets)
        if optimizer != "torch.optim.SGD":
            raise ConfigError("tricks.sgd_discriminator", f"D's optimiser is {optimizer}, as another setting has it",
                          "torch.optim.SGD", "leaving optim=... out")  # fmt: skip


class Throttle(Trick):
    """D sits out while it wins. After Wu et al. 2016 (3D-GAN), section 3.1: no update above an accuracy of 80 %.

    D plays the first step of every `interval`. When it was right about more than `accuracy` of the images of its last
    update there, reals and fakes alike, it rests for the others. So it never rests for long, and its accuracy is never
    stale. The host reads that number once every `interval` steps, between updates, whatever is logged. ganhacks 11
    advises against such rules, unless one has a reason.
    """

    traits = Traits(needs=facts(Fact.SCORE, Fact.UNDECIDED), sets=SITTING_OUT)
    accuracy: Tensor  # [] of D's last update
    rests = False

    def __init__(self, *, accuracy: float, interval: int):
        super().__init__()
        if not 0 <= accuracy < 1:
            raise ConfigError(
                "tricks.throttle.accuracy", f"{accuracy}", "0 <= accuracy < 1", "tricks.throttle.accuracy=0.8"
            )
        if interval < 2:
            raise ConfigError(
                "tricks.throttle.interval", f"{interval}", "at least 2 steps", "tricks.throttle.interval=5"
            )
        self.bound, self.interval = accuracy, interval
        self.register_buffer("accuracy", torch.zeros(()))

    def observe(self, context: Context) -> None:
        assert context.on_real is not None
        right = (leaning(context.pair, context.on_real.score) > 0).float().mean()
        caught = (leaning(context.pair, context.on_fake.score) < 0).float().mean()
        self.accuracy.copy_((right + caught) / 2)

    def metrics(self) -> Mapping[str, Tensor]:
        return {"accuracy": self.accuracy}

    def begin(self, pair: PairView, step: int) -> None:
        if step % self.interval == 0:
            self.rests = False
        elif step % self.interval == 1:
            self.rests = self.accuracy.item() > self.bound

    def sits_out(self, step: int, player: Role) -> bool:
        return player == "discriminator" and self.rests

    def get_extra_state(self) -> dict[str, bool]:
        return {"rests": self.rests}

    def set_extra_state(self, state: dict[str, bool]) -> None:
        self.rests = state["rests"]


class StopOnCollapse(Trick):
    """End the run when D has won: its loss stays near 0 and G learns nothing any more.

    The loss is measured with hard targets, so that label tricks do not hide a win, and as a moving average. Near 0
    means below `share` of what D pays when it cannot tell (ln 4 for cross-entropy), for `patience` of its updates in a
    row. They are counted on the device and read whenever the run logs; weights do not depend on it.
    """

    traits = Traits(needs=facts(Fact.SCORE, Fact.FLOOR))
    loss: Tensor  # [] moving average
    below: Tensor  # [] int64, D's updates in a row with the loss below the bound

    def __init__(self, *, share: float, patience: int, decay: float):
        super().__init__()
        if not 0 < share < 1:
            raise ConfigError(
                "tricks.stop_on_collapse.share", f"{share}", "0 < share < 1", "tricks.stop_on_collapse.share=0.02"
            )
        if patience < 1:
            raise ConfigError("tricks.stop_on_collapse.patience", f"{patience}", "at least 1 update")
        if not 0 <= decay < 1:
            raise ConfigError("tricks.stop_on_collapse.decay", f"{decay}", "0 <= decay < 1")
        self.share, self.patience, self.decay = share, patience, decay
        self.bound = 0.0  # of the loss; `bind` knows the loss
        self.register_buffer("loss", torch.zeros(()))
        self.register_buffer("below", torch.zeros((), dtype=torch.int64))

    def bind(self, pair: PairView, real: Tensor, fake: Tensor) -> None:
        level = chance(pair, real.device)
        self.bound = self.share * level
        self.loss.fill_(level)

    def observe(self, context: Context) -> None:
        assert context.on_real is not None
        real, fake = context.on_real.score, context.on_fake.score
        code = coded(context.pair, real)
        self.loss.lerp_(context.pair.loss.discriminator(real, fake, code), 1 - self.decay)
        self.below.add_(1).mul_(self.loss < self.bound)

    def metrics(self) -> Mapping[str, Tensor]:
        return {"loss": self.loss}

    def watch(self, step: int, means: Mapping[str, float]) -> None:
        count = int(self.below.item())
        if count >= self.patience:
            raise Stopped(
                f"step {step}: D has won, as its loss stayed below {self.bound:.2g}, {self.share:.0%} of chance, "
                f"for {count} updates (tricks.stop_on_collapse). Try: another start with soft_labels, instance_noise, "
                "gp, r1 or a smaller optim.discriminator.lr"
            )


class CheckpointSwap(Trick):
    """Now and then a player meets a past self of the other. ganhacks 8.

    Every `interval` steps copies of G and D are kept, the last `keep` of each. In every other step, with probability
    `p`, one of the two, chosen by a coin, is put aside: its place is taken by a random one of its copies, against which
    the other makes its first update of the step, while it sits out itself. Then it is back, as it was. Its buffers,
    such as the statistics of batch norm, come and go with its weights.
    """

    traits = Traits(needs=facts(Fact.LATENT), sets=SITTING_OUT)
    past: nn.ModuleDict  # role -> its copies
    aside: nn.ModuleDict  # role -> itself, while a past self stands in its place
    away: Role | None = None  # who sits out this step
    swapped = False  # whether a past self stands in that one's place right now

    def __init__(self, *, interval: int, keep: int, p: float):
        super().__init__()
        if interval < 2:
            raise ConfigError(
                "tricks.checkpoint_swap.interval",
                f"{interval}",
                "at least 2 steps",
                "tricks.checkpoint_swap.interval=1000",
            )
        if keep < 1:
            raise ConfigError(
                "tricks.checkpoint_swap.keep", f"{keep}", "at least 1 copy", "tricks.checkpoint_swap.keep=3"
            )
        if not 0 < p < 1:
            raise ConfigError("tricks.checkpoint_swap.p", f"{p}", "0 < p < 1", "tricks.checkpoint_swap.p=0.05")
        self.interval, self.keep, self.p = interval, keep, p

    def bind(self, pair: PairView, real: Tensor, fake: Tensor) -> None:
        def copy(role: Role) -> nn.Module:
            return deepcopy(getattr(pair, role)).requires_grad_(False)

        self.past = nn.ModuleDict({role: nn.ModuleList([copy(role) for _ in range(self.keep)]) for role in ROLES})
        self.aside = nn.ModuleDict({role: copy(role) for role in ROLES})

    def begin(self, pair: PairView, step: int) -> None:
        self._put_back(pair)  # only where nobody played the step before
        self.away = None
        number, since = divmod(step, self.interval)
        if since == 0:  # the first copies are those of step 0
            for role in ROLES:
                write(getattr(pair, role), self._copy(role, number % self.keep))
            return
        draw, coin, which = torch.rand(3).tolist()  # from the host's generator, which every step seeds
        if draw < self.p:
            self.away = ROLES[int(coin * 2)]
            self._swap(pair, int(which * min(number + 1, self.keep)))

    def sits_out(self, step: int, player: Role) -> bool:
        return player == self.away

    def after(self, pair: PairView, player: Role) -> None:
        self._put_back(pair)

    def sampler(self, net: nn.Module) -> nn.Module:
        return self.aside["generator"] if self.swapped and self.away == "generator" else net

    def _copy(self, role: Role, which: int) -> nn.Module:
        copies = self.past[role]
        assert isinstance(copies, nn.ModuleList)
        return copies[which]

    def _swap(self, pair: PairView, which: int) -> None:
        assert self.away is not None
        write(getattr(pair, self.away), self.aside[self.away])
        write(self._copy(self.away, which), getattr(pair, self.away))
        self.swapped = True

    def _put_back(self, pair: PairView) -> None:
        if self.swapped:
            assert self.away is not None
            write(self.aside[self.away], getattr(pair, self.away))
            self.swapped = False

    def get_extra_state(self) -> dict[str, Any]:
        return {"away": self.away, "swapped": self.swapped}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.away, self.swapped = state["away"], state["swapped"]


@torch.no_grad()
def write(source: nn.Module, target: nn.Module) -> None:
    """Copy all numbers of one network into another of the same make, in place."""
    numbers = [[*net.parameters(), *net.buffers()] for net in (target, source)]
    for there, here in zip(*numbers, strict=True):
        there.copy_(here)
