"""Tricks that keep the discriminator's scores steady."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ganrun.core import limits
from ganrun.core.context import Context, PairView
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.schedule import Schedule, Scheduled
from ganrun.core.traits import Traits, facts
from ganrun.core.trick import Trick


class _From(Schedule):
    """One number before a step, another from it on."""

    def __init__(self, step: int, before: float, after: float):
        self.step, self.before, self.after = step, float(before), float(after)

    def __call__(self, step: int, images: int = 0) -> float:
        return self.before if step < self.step else self.after


class LeCam(Trick):
    """Pull scores to the other kind's running mean, which few data make D forget. Tseng et al. 2021, equation 4.

    weight * (E |D(x) - a_F|^2 + E |D(G(z)) - a_R|^2), anchors a <- decay * a + (1 - decay) * E D. `rectified`, as in
    the authors' code: only reals above a_F and fakes below a_R pay, so that nothing pulls while D still errs.
    Before `start` (a step) there is no term, and the anchors are the scores of now.
    """

    traits = Traits(needs=facts(Fact.SCORE))
    real: Tensor  # [] running mean of D(real)
    fake: Tensor  # [] running mean of D(fake)

    def __init__(self, *, weight: float, decay: float, rectified: bool, start: int):
        super().__init__()
        limits.number("tricks.lecam.weight", weight, 0)
        limits.number("tricks.lecam.decay", decay, 0, 1)
        limits.whole("tricks.lecam.start", start, 1)  # an anchor at 0 is no score that D ever gave
        self.weight, self.newest = Scheduled(_From(start, 0, weight)), Scheduled(_From(start, 1, 1 - decay))
        self.rectified = rectified
        self.register_buffer("real", torch.zeros(()))
        self.register_buffer("fake", torch.zeros(()))

    def observe(self, context: Context) -> None:
        assert context.on_real is not None
        self.real.lerp_(context.on_real.score.mean(), self.newest())
        self.fake.lerp_(context.on_fake.score.mean(), self.newest())

    def discriminator_term(self, context: Context) -> Tensor:
        assert context.on_real is not None
        reals, fakes = context.on_real.score - self.fake, self.real - context.on_fake.score
        if self.rectified:
            reals, fakes = F.relu(reals), F.relu(fakes)
        return self.weight() * (reals.square().mean() + fakes.square().mean())

    def metrics(self) -> Mapping[str, Tensor]:
        return {"real": self.real, "fake": self.fake}


class Consistency(Trick):
    """Ask for one score whether or not an image is flipped and shifted. CR, Zhang et al. 2020; bCR, Zhao et al. 2021.

    real * E (D(x) - D(T(x)))^2 + fake * E (D(G(z)) - D(T(G(z))))^2. T flips left and right with probability 1/2 and
    shifts by up to `shift` pixels each way, mirrored at the border. fake = 0 is CR, which lets T leak into fakes.
    """

    def __init__(self, *, real: float | Schedule, fake: float | Schedule, shift: int):
        super().__init__()
        for key, weight in (("real", real), ("fake", fake)):
            if not isinstance(weight, Schedule):
                limits.number(f"tricks.consistency.{key}", weight, 0)
        limits.whole("tricks.consistency.shift", shift, 0)
        self.on_reals, self.on_fakes = real != 0, fake != 0
        self.real, self.fake, self.shift = Scheduled(real), Scheduled(fake), shift

    def bind(self, pair: PairView, real: Tensor, fake: Tensor) -> None:
        side = min(real.shape[2:])
        if side <= max(self.shift, 1):
            found, remedy = f"{self.shift} pixels, and images of {side}", "tricks.consistency.shift=1"
            raise ConfigError("tricks.consistency.shift", found, "less than the image",
                          remedy if side > 1 else "leaving consistency out, points have no sides")  # fmt: skip

    def discriminator_term(self, context: Context) -> Tensor:
        assert context.real is not None and context.on_real is not None
        term = torch.zeros_like(self.real())
        if self.on_reals:
            term = term + self.real() * self._change(context, context.real, context.on_real.score)
        if self.on_fakes:
            term = term + self.fake() * self._change(context, context.fake, context.on_fake.score)
        return term

    def _change(self, context: Context, images: Tensor, score: Tensor) -> Tensor:
        """The mean square by which T changes these scores. []"""
        moved = context.pair.judge(flip_and_shift(images.detach(), self.shift), context.condition).score
        return (score - moved).square().mean()


def flip_and_shift(images: Tensor, shift: int) -> Tensor:
    """Mirror half of the images, and shift each by whole pixels, U(-shift, shift) on either axis. [B, C, H, W]"""
    count, _, height, width = images.shape
    device = images.device
    down, right = torch.randint(-shift, shift + 1, (2, count, 1), device=device)
    flipped = torch.rand(count, 1, device=device) < 0.5
    rows = _mirrored(torch.arange(height, device=device) + down, height)
    columns = _mirrored(torch.arange(width, device=device) + right, width)
    columns = torch.where(flipped, width - 1 - columns, columns)
    each = torch.arange(count, device=device)[:, None, None]
    return images.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _mirrored(index: Tensor, size: int) -> Tensor:
    """Positions up to size - 1 beyond the border become those as far within it. [B, N]"""
    return size - 1 - (size - 1 - index.abs()).abs()
