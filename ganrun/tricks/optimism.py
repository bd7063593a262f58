"""Optimism: both players step as if the other's next step were like its last."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from ganrun.core.context import PairView, Role
from ganrun.core.found import Found, parameters
from ganrun.core.trick import Trick
from ganrun.tricks.roles import BOTH


class Optimistic(Trick):
    """Optimistic Adam: twice each step of the optimiser, less the step before. Daskalakis et al. 2018, algorithm 1.

    arXiv 1711.00141. theta += 2 s_t - s_(t-1) for both players, where s_t is the step that their optimiser takes, the
    learning rate included, and s_0 = 0. With `optim=adam` that is the paper's algorithm, with plain SGD its optimistic
    mirror descent, and any other optimiser becomes optimistic too. Tricks act in the order of the list: what averages
    or clips weights, such as `ema`, belongs after it.
    """

    aside: nn.ModuleDict  # role -> a network whose parameters are those of before the optimiser's step
    last: nn.ModuleDict  # role -> a network whose parameters are the last step of the optimiser

    def __init__(self) -> None:
        """Takes nothing: steps are as long as the optimiser makes them."""
        super().__init__()
        self.roles: list[Role] = []  # whose network is this pair's own: one that pairs share steps once
        self._weights, self._aside, self._last = ({role: Found(parameters) for role in BOTH} for _ in range(3))

    def modify(self, net: nn.Module, role: Role) -> nn.Module:
        """Change nothing; note that the network is this pair's own."""
        self.roles.append(role)
        return net

    def bind(self, pair: PairView, real: Tensor, fake: Tensor) -> None:
        """Allocate as much as the networks have; reads none of the images [B, C, H, W]."""

        def copies() -> nn.ModuleDict:
            return nn.ModuleDict({role: deepcopy(getattr(pair, role)).requires_grad_(False) for role in self.roles})

        self.aside, self.last = copies(), copies()
        torch._foreach_zero_(parameters(self.last))

    def before(self, pair: PairView, player: Role) -> None:
        if player in self.roles:
            torch._foreach_copy_(self._aside[player](self.aside[player]), self._own(pair, player))

    def after(self, pair: PairView, player: Role) -> None:
        if player not in self.roles:
            return
        weights, last = self._own(pair, player), self._last[player](self.last[player])
        step = torch._foreach_sub(weights, self._aside[player](self.aside[player]))
        torch._foreach_add_(weights, torch._foreach_sub(step, last))
        torch._foreach_copy_(last, list(step))

    def _own(self, pair: PairView, player: Role) -> list[Tensor]:
        return self._weights[player](getattr(pair, player))
