"""CHAIN: D's batch norm with a bounded slope, more of it the more D overfits. Ni & Koniusz 2024."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ganrun.core import across, limits
from ganrun.core.context import BatchShape, Context, DiscriminatorOutput, PairView, Role
from ganrun.core.facts import Fact
from ganrun.core.schedule import Schedule, Scheduled
from ganrun.core.traits import Diagnostic, Traits, facts
from ganrun.core.trick import Trick
from ganrun.models.base import title
from ganrun.models.layers import precise
from ganrun.tricks.adaptive import sign_of_reals
from ganrun.tricks.norms import no_batch_norm, replace_batch_norms

CENTRE = "chain"  # the head that holds how far the means of all its layers are from 0


class BoundedNorm(nn.Module):
    """Root mean square norm whose slope is at most 1, for a share p of the maps. Ni & Koniusz 2024, section 3.2.

    x <- x min(psi) / psi with psi_c^2 = mean of channel c's squares over the batch, plus eps. The least psi is held
    constant. Each map of each image is normed with probability p; in evaluation mode a share p of each map's value is.
    """

    p: Tensor  # []
    centre: Tensor | None = None  # [] sum over channels of the squared means of the last input

    def __init__(self, *, eps: float):
        super().__init__()
        self.eps = eps
        self.register_buffer("p", torch.zeros(()))

    def forward(self, values: Tensor) -> Tensor:
        """The same maps [B, C, H, W] or vectors [B, N], some of them normed."""
        with torch.autocast(values.device.type, enabled=False):
            x = precise(values)
            over = [0, *range(2, x.dim())]
            self.centre = across.mean(x.mean(over)).square().sum()
            psi = (across.mean(x.square().mean(over, keepdim=True)) + self.eps).sqrt()
            normed = x * (psi.min().detach() / psi)
            return torch.lerp(x, normed, self._share(x)).to(values.dtype)

    def _share(self, x: Tensor) -> Tensor:
        """How much of each map is normed. [B, C, 1, 1] or [B, N], or [] in evaluation mode"""
        if not self.training:
            return self.p.to(x.dtype)
        drawn = torch.rand(*x.shape[:2], *[1] * (x.dim() - 2), device=x.device, dtype=x.dtype)
        return (drawn < self.p).to(x.dtype)

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"eps={self.eps:g}"


def _show(net: nn.Module, given: tuple[Any, ...], made: DiscriminatorOutput) -> DiscriminatorOutput:
    """Forward hook: the sum over layers as a head, alike for all images. A plain function, so that copies work."""
    found = []
    for layer in net.modules():
        if isinstance(layer, BoundedNorm) and layer.centre is not None:
            found.append(layer.centre)
            layer.centre = None  # no graph outlives its update
    return made._replace(heads={**made.heads, CENTRE: torch.stack(found).sum().expand(len(made.score))})


class Chain(Trick):
    """CHAIN: in D, a norm with a bounded slope in place of batch norm, as far as D overfits. Ni & Koniusz 2024.

    arXiv 2404.00521; the authors' code (MaxwellYaoNi/CHAIN), `chain_batch`. Batch norm's centring becomes a penalty:
    weight * (p + least) * the squared means of every normed layer, summed over channels, layers, reals and fakes; its
    scaling becomes `BoundedNorm`. After each update of D, p changes by change * sign(r - target) and stays in [0, 1], r
    being the running mean of sign(D(x)) over reals. A positive sign means real, whatever the loss makes of scores.
    There are no gains and biases. Statistics are those of the batch; for batches of 8 the authors accumulate them.
    """

    traits = Traits(needs=facts(Fact.SCORE, Fact.UNDECIDED), invalidates=facts(Fact.PER_SAMPLE))
    p: Tensor  # [] the share that is normed
    r: Tensor  # [] running mean of sign(D(x))

    def __init__(
        self,
        *,
        weight: float | Schedule,
        least: float,
        target: float,
        change: float | Schedule,
        decay: float,
        eps: float,
    ):
        """Raises ConfigError for negative numbers, a target outside [-1, 1] and a decay outside [0, 1)."""
        super().__init__()
        for name, value in (("weight", weight), ("least", least), ("change", change), ("eps", eps)):
            if not isinstance(value, Schedule):
                limits.number(f".{name}", value, 0)
        limits.number(".target", target, -1, 1)
        limits.number(".decay", decay, 0, 1)
        self.weight, self.change = Scheduled(weight), Scheduled(change)
        self.least, self.target, self.decay, self.eps = least, target, decay, eps
        self.without: list[str] = []
        for name in ("p", "r"):
            self.register_buffer(name, torch.zeros(()))

    def modify(self, net: nn.Module, role: Role) -> nn.Module:
        if role != "discriminator":
            return net
        if not replace_batch_norms(net, lambda norm: BoundedNorm(eps=self.eps)):
            self.without.append(title(net, role))
            return net
        net.register_forward_hook(_show)
        return net

    def observe(self, context: Context) -> None:
        self.r.lerp_(sign_of_reals(context), 1 - self.decay)

    def discriminator_term(self, context: Context) -> Tensor:
        assert context.on_real is not None
        apart = context.on_real.heads[CENTRE].mean() + context.on_fake.heads[CENTRE].mean()
        return self.weight() * (self.p + self.least) * apart

    def after(self, pair: PairView, player: Role) -> None:
        if player != "discriminator":
            return
        self.p.add_((self.r - self.target).sign() * self.change()).clamp_(0, 1)
        for layer in pair.discriminator.modules():
            if isinstance(layer, BoundedNorm):
                layer.p.copy_(self.p)

    def metrics(self) -> Mapping[str, Tensor]:
        return {"p": self.p, "r": self.r}

    def diagnostics(self, shape: BatchShape) -> Iterable[Diagnostic]:
        """Refuse networks without a batch norm to replace."""
        return map(no_batch_norm, self.without)
