"""Balance of the two players: which is updated when, and against which weights of the other."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from ganrun.core import across, limits
from ganrun.core.context import Context, PairView, Role
from ganrun.core.decision import margin
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.traits import Traits, facts, keys
from ganrun.core.trick import Setting, Trick

ROLES: tuple[Role, Role] = ("discriminator", "generator")
SITTING_OUT = keys("the steps that a player skips")
BEGINNING = keys("the weights that a step begins with")


class SgdDiscriminator(Setting):
    """SGD for D, Adam for G. Chintala et al. 2016 (ganhacks), number 9.

    Its YAML file chooses `optim=sgd_discriminator`, which another choice of `optim` would replace.
    """

    def __init__(self, *, sets: list[str], optimizer: str):
        """Raises ConfigError when D's optimiser is another, since a later choice replaced it."""
        super().__init__(sets=sets)
        if optimizer != "torch.optim.SGD":
            raise ConfigError(".", f"D's optimiser is {optimizer}, as another setting has it",
                          "torch.optim.SGD", "leaving optim=... out")  # fmt: skip


class Throttle(Trick):
    """Throttle: D is not updated while its accuracy is above 80 %. After Wu et al. 2016 (3D-GAN), section 3.1.

    D is updated in the first step of every `interval`. When it classified more than `accuracy` of the images of its
    last update there correctly, reals and fakes, it sits out the other steps. Its accuracy is thus measured anew every
    `interval` steps. The host reads that number once in an interval, between updates, whatever is logged. ganhacks 11
    advises against such rules, unless one has a reason.
    """

    traits = Traits(needs=facts(Fact.SCORE, Fact.UNDECIDED), sets=SITTING_OUT)
    accuracy: Tensor  # [] of D's last update
    rests = False

    def __init__(self, *, accuracy: float, interval: int):
        """Raises ConfigError for an accuracy outside [0, 1), and for an interval below 2 steps."""
        super().__init__()
        if not 0 <= accuracy < 1:
            raise ConfigError(".accuracy", f"{accuracy}", "0 <= accuracy < 1", ".accuracy=0.8")
        if interval < 2:
            raise ConfigError(".interval", f"{interval}", "at least 2 steps", ".interval=5")
        self.bound, self.interval = accuracy, interval
        self.register_buffer("accuracy", torch.zeros(()))

    def observe(self, context: Context) -> None:
        assert context.on_real is not None
        right = (margin(context.pair, context.on_real.score) > 0).float().mean()
        caught = (margin(context.pair, context.on_fake.score) < 0).float().mean()
        self.accuracy.copy_(across.mean((right + caught) / 2))

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
        """Whether D rests, for checkpoints."""
        return {"rests": self.rests}

    def set_extra_state(self, state: dict[str, bool]) -> None:
        """Restore a saved state."""
        self.rests = state["rests"]


class CheckpointSwap(Trick):
    """Training against past checkpoints of the other player. Chintala et al. 2016 (ganhacks), number 8.

    Every `interval` steps copies of G and D are kept, the last `keep` of each. In every other step, with probability
    `p`, one of the two, at random, has its weights replaced by those of a random copy and sits out the step. The
    other's first update of the step is made against that copy; then the weights are restored. Buffers, such as the
    statistics of batch norm, are replaced and restored with them.
    """

    traits = Traits(needs=facts(Fact.LATENT), sets=SITTING_OUT | BEGINNING)
    past: nn.ModuleDict  # role -> its copies
    aside: nn.ModuleDict  # role -> its own weights, while a copy replaces them
    away: Role | None = None  # the role that sits out this step
    swapped = False  # whether a copy replaces its weights now

    def __init__(self, *, interval: int, keep: int, p: float):
        """Raises ConfigError for an interval below 2, less than 1 or more than 100 copies, and p outside (0, 1)."""
        super().__init__()
        if interval < 2:
            raise ConfigError(".interval", f"{interval}", "at least 2 steps", ".interval=1000")
        limits.whole(".keep", keep, 1, limits.LAYERS)
        if not 0 < p < 1:
            raise ConfigError(".p", f"{p}", "0 < p < 1", ".p=0.05")
        self.interval, self.keep, self.p = interval, keep, p

    def bind(self, pair: PairView, real: Tensor, fake: Tensor) -> None:
        """Allocate the copies; reads none of the images [B, C, H, W]."""

        def copy(role: Role) -> nn.Module:
            return deepcopy(getattr(pair, role)).requires_grad_(False)

        self.past = nn.ModuleDict({role: nn.ModuleList([copy(role) for _ in range(self.keep)]) for role in ROLES})
        self.aside = nn.ModuleDict({role: copy(role) for role in ROLES})

    def begin(self, pair: PairView, step: int) -> None:
        self._put_back(pair)  # where no player was updated in the step before
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
        """Which player sits out, and whether its weights are replaced, for checkpoints."""
        return {"away": self.away or "", "swapped": self.swapped}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore a saved state. Raises ValueError for a player that there is not."""
        if state["away"] not in (ROLES if state["swapped"] else ("", *ROLES)):
            raise ValueError(f"no player {state['away']!r} sits out")
        self.away, self.swapped = state["away"] or None, state["swapped"]


@torch.no_grad()
def write(source: nn.Module, target: nn.Module) -> None:
    """Copy all parameters and buffers of one network into another of the same architecture, in place."""
    numbers = [[*net.parameters(), *net.buffers()] for net in (target, source)]
    for there, here in zip(*numbers, strict=True):
        there.copy_(here)
