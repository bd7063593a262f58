"""Slicing: what D's last layer learns is the direction along which reals and fakes are farthest apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from ganrun.core import limits
from ganrun.core.context import Context, DiscriminatorOutput, PairView, Role
from ganrun.core.decision import hard_targets
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.modes import evaluating
from ganrun.core.schedule import Schedule, Scheduled
from ganrun.core.traits import Traits, facts
from ganrun.core.trick import Trick
from ganrun.models.base import output_layer, title, weighted

TOLERANCE = 1e-3  # of a score that is, but for a bias, what its last layer gives
DIRECTION = "direction"  # the head that holds what the direction learns from


class Sliced(nn.Module):
    """A dense layer or convolution with two outputs of one value, and different gradients. Takida et al. 2023.

    With w = |w| u: the first, <|w| u, h> plus the bias, has none for u; the second, kept in `along`, only one for u.
    """

    along: Tensor | None = None  # the second output of the last call

    def __init__(self, layer: nn.Linear | nn.Conv2d):
        super().__init__()
        self.layer = layer

    def forward(self, hidden: Tensor) -> Tensor:
        """What the layer gives, which is its weights' norm and the features before it learning. [B, N] -> [B, O]"""
        weight = self.layer.weight
        shape = (-1, *[1] * (weight.dim() - 1))
        norm = torch.linalg.vector_norm(weight.flatten(1), dim=1).view(shape)
        direction = normalize(weight.flatten(1), dim=1).view_as(weight)
        self.along = self._applied(hidden.detach(), norm.detach() * direction, None)
        return self._applied(hidden, norm * direction.detach(), self.layer.bias)

    def _applied(self, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if isinstance(self.layer, nn.Linear):
            return linear(hidden, weight, bias)
        return self.layer._conv_forward(hidden, weight, bias)


def _show(net: nn.Module, given: tuple[Any, ...], made: DiscriminatorOutput) -> DiscriminatorOutput:
    """Forward hook: the second output as a head, shaped as the score. A plain function, so that copies work."""
    (layer,) = (one for one in net.modules() if isinstance(one, Sliced))
    along, layer.along = layer.along, None  # no graph outlives its update
    if along is None or along.numel() != made.score.numel():  # `bind` refuses such a network
        return made
    return made._replace(heads={**made.heads, DIRECTION: along.float().view_as(made.score)})


class San(Trick):
    """SAN: D's last layer is a direction, which learns where reals and fakes differ most. Takida et al. 2023.

    arXiv 2301.12811. With D(x) = <|w| u, h(x)>, u on the unit sphere: h, and the norm |w|, minimise the loss with u
    held; u minimises weight * (E <|w| u, h(G(z))> - E <|w| u, h(x)>), the Wasserstein loss, with h and |w| held. Values
    of D stay what they are, and so does G's loss. As in the authors' code (sony/san, simple-san) the means are plain;
    the paper's weigh images by the slope of the loss. A bias counts as a part of h.
    """

    traits = Traits(needs=facts(Fact.SCORE))

    def __init__(self, *, weight: float | Schedule):
        """Raises ConfigError for a negative weight."""
        super().__init__()
        if not isinstance(weight, Schedule):
            limits.number(".weight", weight, 0)
        self.weight = Scheduled(weight)

    def modify(self, net: nn.Module, role: Role) -> nn.Module:
        """Slice D's last layer. Raises ConfigError where none says that it makes the score, or its weights are 0."""
        if role != "discriminator":
            return net
        last = output_layer(net, role)
        if isinstance(last, nn.ConvTranspose2d) or not last.weight.any():
            raise ConfigError(".", f"the last layer of {title(net, role)} has no direction", "one", "leaving it out")
        (name,) = (name for name, layer in weighted(net) if layer is last)
        parent, _, own = name.rpartition(".")
        setattr(net.get_submodule(parent), own, Sliced(last))
        net.register_forward_hook(_show)
        return net

    def bind(self, pair: PairView, real: Tensor, fake: Tensor) -> None:
        """Check D's scores of reals [B, C, H, W]. Raises ConfigError where they are more than its last layer gives."""
        with evaluating(pair.discriminator):
            made = pair.discriminator(real, pair.condition.tensor)
        rest = made.score.float() - made.heads.get(DIRECTION, torch.full_like(made.score, torch.nan))
        if not (rest - rest.flatten()[0]).abs().max() <= TOLERANCE * (1 + made.score.abs().max()):
            found = f"the score of {title(pair.discriminator, 'discriminator')} is more than its last layer gives"
            raise ConfigError(".", found, "one dense layer or convolution of its features", "model=dcgan")

    def discriminator_term(self, context: Context) -> Tensor:
        assert context.on_real is not None
        target = hard_targets(context.pair, context.on_real.score)
        sign = target.real - target.fake  # -1 where a trick made 0 stand for real
        return self.weight() * (sign * (context.on_fake.heads[DIRECTION] - context.on_real.heads[DIRECTION])).mean()
