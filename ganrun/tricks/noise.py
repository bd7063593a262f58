"""Noise: on the discriminator's input, on the generator's hidden maps, and below the quantisation step of reals."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ganrun.core.context import BatchShape, PairView, Role
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.images import each_scale
from ganrun.core.schedule import Schedule, Scheduled, schedule
from ganrun.core.traits import Diagnostic, Level, Traits, facts
from ganrun.core.trick import Trick


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
        """Warn of noise that does not fade out: D then learns noisy reals, and G imitates them."""
        last = self.sigma.schedule.final
        if last > 0:
            sentence = f"sigma ends at {last:g}, so G learns the noise"
            yield Diagnostic("C29", Level.WARNING, f"{sentence}. Try: .sigma.end=0.0")


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
