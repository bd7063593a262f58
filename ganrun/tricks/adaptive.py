"""How far D overfits, and a probability that follows it: what ADA, APA and Diffusion-GAN share."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ganrun.core import across
from ganrun.core.context import Context
from ganrun.core.decision import margin
from ganrun.core.errors import ConfigError
from ganrun.core.trick import Trick


def sign_of_reals(context: Context) -> Tensor:
    """E sign(D(x)) over the reals of the whole batch, +1 where D is right, whatever the loss makes of scores. []"""
    assert context.on_real is not None
    return across.mean(margin(context.pair, context.on_real.score).sign().mean())


class Adaptive(Trick):
    """Base of tricks whose probability p rises while D overfits: ADA, Karras et al. 2020, section 3.1, equation 1.

    r_t = E sign(D(x)) over the reals of the last `interval` updates measures how far D overfits; p then changes by
    sign(r_t - target) * interval * batch / images and stays in [0, 1]. A positive sign means real, whatever the loss
    and `flip` make of scores.
    """

    p: Tensor  # [] the probability
    r_t: Tensor  # [] at the last change of p
    total: Tensor  # [] sum of sign(D(x)) since then
    count: Tensor  # [] updates since then

    def __init__(self, *, start: float, target: float, interval: int, images: int):
        """Raises ConfigError for a start outside [0, 1], and for counts below 1."""
        super().__init__()
        if not 0 <= start <= 1:
            raise ConfigError(".start", f"{start}", "a probability", ".start=0.0")
        for name, value in (("interval", interval), ("images", images)):
            if value < 1:
                raise ConfigError(f".{name}", f"{value}", "1 or more")
        self.target, self.interval, self.images = target, interval, images
        for name, number in (("p", start), ("r_t", 0.0), ("total", 0.0), ("count", 0.0)):
            self.register_buffer(name, torch.tensor(float(number)))

    def observe(self, context: Context) -> None:
        assert context.on_real is not None
        self.total.add_(sign_of_reals(context))
        self.count.add_(1)
        due = self.count >= self.interval
        self.r_t.copy_(torch.where(due, self.total / self.interval, self.r_t))
        step = self.interval * len(context.on_real.score) * across.processes() / self.images
        self.p.add_(due * (self.r_t - self.target).sign() * step).clamp_(0, 1)
        self.total.mul_(~due)
        self.count.mul_(~due)

    def metrics(self) -> Mapping[str, Tensor]:
        return {"p": self.p, "r_t": self.r_t}
