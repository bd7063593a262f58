"""Clipping: bounds on the discriminator's weights, and on the norm of either player's gradient."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ganrun.core.context import PairView, Role
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.found import Found, parameters
from ganrun.core.traits import Traits, facts
from ganrun.core.trick import Trick
from ganrun.tricks.roles import roles


class WeightClipping(Trick):
    """Weight clipping: every parameter of D is clamped to [-bound, bound]. WGAN, Arjovsky et al. 2017, algorithm 1."""

    traits = Traits(
        provides=facts(Fact.LIPSCHITZ), invalidates=facts(Fact.FREE_WEIGHTS), prefers=facts(Fact.NO_MOMENTUM)
    )

    def __init__(self, *, bound: float):
        """Raises ConfigError for a bound that is not above 0."""
        super().__init__()
        if bound <= 0:
            raise ConfigError(".bound", f"{bound}", "a number above 0", ".bound=0.01")
        self.bound = bound
        self._weights = Found(parameters)

    def bind(self, pair: PairView, real: Tensor, fake: Tensor) -> None:
        """Clamp once before the first update, as the authors' code does. Reads none of the images [B, C, H, W]."""
        self.after(pair, "discriminator")

    def after(self, pair: PairView, player: Role) -> None:
        if player == "discriminator":
            weights = self._weights(pair.discriminator)
            torch._foreach_clamp_min_(weights, -self.bound)
            torch._foreach_clamp_max_(weights, self.bound)


class GradientClipping(Trick):
    """Gradient norm clipping: a gradient longer than `norm` is scaled to it. Pascanu et al. 2013, algorithm 1.

    All tensors of a player are one vector; they are multiplied in place by min(1, norm / |gradient|).
    """

    discriminator: Tensor  # [] norm before clipping at the last update; 0 when it is not clipped
    generator: Tensor  # []

    def __init__(self, *, norm: float, of: str):
        """Raises ConfigError for a norm that is not above 0, and for an unknown `of`."""
        super().__init__()
        if not norm > 0:
            raise ConfigError(".norm", f"{norm}", "a number above 0", ".norm=1")
        self.norm, self.players = norm, roles(".of", of)
        self._weights = {player: Found(parameters) for player in self.players}
        for player in self.players:
            self.register_buffer(player, torch.zeros(()))

    def before(self, pair: PairView, player: Role) -> None:
        if player in self.players:
            norm = nn.utils.clip_grad_norm_(self._weights[player](getattr(pair, player)), self.norm)
            getattr(self, player).copy_(norm)

    def metrics(self) -> Mapping[str, Tensor]:
        return {player: getattr(self, player) for player in self.players}
