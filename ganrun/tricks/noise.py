"""Noise: on the discriminator's input, on the generator's hidden maps, and below the quantisation step of reals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ganrun.core import limits
from ganrun.core.context import BatchShape, PairView, Role
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.images import each_scale, largest
from ganrun.core.schedule import Schedule, Scheduled, schedule
from ganrun.core.traits import Diagnostic, Level, Traits, facts
from ganrun.core.trick import Trick
from ganrun.tricks.adaptive import Adaptive


def _check_sigma(sigma: Schedule) -> None:
    least = min(sigma(0), sigma.final)
    if least < 0:
        raise ConfigError(".sigma", f"a standard deviation of {least:g}", "0 or more")


class InstanceNoise(Trick):
    """Instance noise: N(0, sigma) added to D's input. Soenderby et al. 2017, section 3.1; Arjovsky & Bottou 2017.

    To reals and fakes, in both players' updates. `sigma` is in units of the image's [-1, 1]. Where an image has several
    scales, D's input is all of them, and each has noise of its own.
    """

    def __init__(self, *, sigma: float | Schedule):
        """Raises ConfigError for a negative standard deviation."""
        super().__init__()
        self.sigma = Scheduled(sigma)
        _check_sigma(self.sigma.schedule)

    def view(self, images: Any) -> Any:
        return each_scale(images, lambda image: image + self.sigma() * torch.randn_like(image))

    def diagnostics(self, shape: BatchShape) -> Iterable[Diagnostic]:
        """Note noise that does not fade out: reals and fakes have it alike, and what it drowns D never judges."""
        last = self.sigma.schedule.final
        if last > 0:
            sentence = f"sigma ends at {last:g}, so D never judges details that are fainter"
            yield Diagnostic("C29", Level.NOTE, f"{sentence}. Try: .sigma.end=0.0")


class DiffusionNoise(Adaptive):
    """Diffusion-GAN: D sees reals and fakes after a random number of steps of a diffusion. Wang et al. 2023, section 3.

    arXiv 2206.02262. y = sqrt(a_t) x + sqrt(1 - a_t) sigma n with n ~ N(0, 1) and a_t = (1 - b_1) ... (1 - b_t), where
    b goes from `beta_start` to `beta_end` in T steps. For each image t is 0 with probability `clean`, otherwise one of
    1 to T, as likely as it is large (their "priority"). T = least + p (most - least), and p rises while D overfits, as
    that of ADA does. In both players' updates. D is not told t, as in the authors' Diffusion-ProjectedGAN; in their
    Diffusion-StyleGAN2 it is. There 32 steps t, which t - 1 weighs, are drawn whenever T changes, and reused.
    """

    traits = Traits(needs=facts(Fact.SCORE, Fact.UNDECIDED))
    numbers: Tensor  # [most] 1, 2, ... of the diffusion's steps

    def __init__(
        self,
        *,
        start: float,
        target: float,
        interval: int,
        images: int,
        least: int,
        most: int,
        sigma: float,
        beta_start: float,
        beta_end: float,
        clean: float,
    ):
        """Raises ConfigError for a start outside [0, 1], counts below 1, and shares that are none."""
        super().__init__(start=start, target=target, interval=interval, images=images)
        limits.whole(".least", least, 1)
        limits.whole(".most", most, least)
        limits.number(".sigma", sigma, 0)
        limits.number(".beta_start", beta_start, 0, 1)
        limits.number(".beta_end", beta_end, beta_start, 1)
        limits.number(".clean", clean, 0, 1)
        self.least, self.most, self.sigma, self.clean = least, most, sigma, clean
        self.betas = beta_start, beta_end
        self.register_buffer("numbers", torch.arange(1, most + 1, dtype=torch.float64))

    def view(self, images: Any) -> Any:
        kept = self._kept()[self._drawn(len(largest(images)))].float().view(-1, 1, 1, 1)
        noisy, spread = kept.sqrt(), self.sigma * (1 - kept).sqrt()
        return each_scale(images, lambda image: noisy * image + spread * torch.randn_like(image))

    def steps(self) -> Tensor:
        """T, the number of steps of the diffusion as of now. []"""
        return (self.least + self.p.double() * (self.most - self.least)).round()

    def _kept(self) -> Tensor:
        """The a_t, the share of an image's variance that t steps leave, for t = 0, 1, ... [most + 1]"""
        first, last = self.betas
        way = ((self.numbers - 1) / (self.steps() - 1).clamp_min(1)).clamp_max(1)
        logs = torch.log1p(-(first + (last - first) * way)).cumsum(0)
        return torch.cat([torch.zeros_like(logs[:1]), logs]).exp()

    def _drawn(self, count: int) -> Tensor:
        """The t of each image. [count] int64 in 0 to T"""
        uniform, coin = (torch.rand(count, device=self.p.device, dtype=torch.float64) for _ in range(2))
        steps = self.steps()
        at = uniform * steps * (steps + 1) / 2  # t(t + 1) / 2 of the steps are no larger than t, each counted t times
        drawn = ((torch.sqrt(1 + 8 * at) - 1) / 2).ceil().clamp_min(1).minimum(steps)
        return torch.where(coin < self.clean, 0, drawn).long()

    def metrics(self) -> Mapping[str, Tensor]:
        return {**super().metrics(), "steps": self.steps().float()}


class Dequantize(Trick):
    """Dequantisation: uniform noise makes 8-bit reals continuous. Gulrajani et al. 2017, gan_cifar_resnet.py.

    x = n / 128 - 1 + U(0, 1/128) for n in 0 to 255. On reals only, but no augmentation: it undoes the rounding, by
    which D could otherwise tell reals from fakes. Sample grids of reals and the images given to `bind` are without it.
    """

    traits = Traits(needs=facts(Fact.SINGLE_SCALE))

    def bind(self, pair: PairView, real: Tensor, fake: Tensor) -> None:
        """Check that the reals [B, C, H, W] are rounded. Raises ConfigError for other than 8-bit images."""
        values = (real + 1) * 127.5
        if (values - values.round()).abs().max() > 1e-2:
            found = "the data are not 8-bit images, so no rounding is there to undo"
            raise ConfigError(".", found, "pictures", "leaving it out")

    def reals(self, images: Tensor) -> Tensor:
        return (images + 1) * (255 / 256) - 1 + torch.rand_like(images) / 128


class Noise(nn.Module):
    """N(0, sigma) added to hidden maps in training mode; nothing in evaluation mode, hence nothing in samples."""

    def __init__(self, sigma: Schedule):
        super().__init__()
        self.sigma = Scheduled(sigma)

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden maps with noise. [B, ...] -> [B, ...]"""
        return hidden + self.sigma() * torch.randn_like(hidden) if self.training else hidden


class GeneratorNoise(Trick):
    """Noise N(0, sigma) on the output of every hidden block of G. Zhao et al. 2017 (EBGAN); ganhacks 13.

    In both players' updates, in training mode only: samples are drawn without it. None is added to the image itself,
    since D could tell fakes from reals by it.
    """

    def __init__(self, *, sigma: float | Schedule):
        """Raises ConfigError for a negative standard deviation."""
        super().__init__()
        self.sigma = schedule(sigma)
        _check_sigma(self.sigma)

    def modify(self, net: nn.Module, role: Role) -> nn.Module:
        """Put noise behind each block of G. Raises ConfigError for a generator without blocks."""
        if role != "generator":
            return net
        blocks = getattr(net, "blocks", None)
        if not isinstance(blocks, nn.Sequential):
            raise ConfigError(".", "model.generator has no row of blocks", "one", "model=dcgan")
        for name, block in list(blocks.named_children()):
            noise = Noise(self.sigma)
            if isinstance(block, nn.Sequential):
                block.add_module("noise", noise)  # the block keeps its name in checkpoints
            else:
                setattr(blocks, name, nn.Sequential(block, noise))
        return net
