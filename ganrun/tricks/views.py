"""Tricks on what the discriminator sees, and noise inside the generator."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ganrun.core.context import BatchShape, PairView, Role
from ganrun.core.errors import ConfigError
from ganrun.core.schedule import Schedule, Scheduled, schedule
from ganrun.core.traits import Diagnostic, Level
from ganrun.core.trick import Trick


def _check_sigma(where: str, sigma: Schedule) -> None:
    least = min(sigma(0), sigma.final)
    if least < 0:
        raise ConfigError(where, f"a standard deviation of {least:g}", "0 or more")


class InstanceNoise(Trick):
    """Add N(0, sigma) to every image the discriminator sees, real or fake, in both players' updates.

    Soenderby et al. 2017, section 3.1; Arjovsky and Bottou 2017, section 3. `sigma` is in units of the image's [-1, 1].
    """

    def __init__(self, *, sigma: float | Schedule):
        super().__init__()
        self.sigma = Scheduled(sigma)
        _check_sigma("tricks.instance_noise.sigma", self.sigma.schedule)

    def view(self, images: Tensor) -> Tensor:
        return images + self.sigma() * torch.randn_like(images)

    def diagnostics(self, shape: BatchShape) -> Iterable[Diagnostic]:
        """Noise that stays is part of what D takes for real."""
        last = self.sigma.schedule.final
        if last > 0:
            sentence = f"sigma ends at {last:g}, so G learns the noise"
            yield Diagnostic("C29", Level.WARNING, f"{sentence}. Try: .sigma.end=0.0")


class Dequantize(Trick):
    """Make the 256 values of 8-bit reals continuous, as G's are. Gulrajani et al. 2017, gan_cifar_resnet.py.

    x = n / 128 - 1 + U(0, 1/128) for n in 0 to 255. Not an augmentation, though it is for reals only: it undoes the
    rounding that D could otherwise tell them by. Neither grids nor `bind` show it.
    """

    def bind(self, pair: PairView, real: Tensor, fake: Tensor) -> None:
        values = (real + 1) * 127.5
        if (values - values.round()).abs().max() > 1e-2:
            found = "the data are not 8-bit images, so no rounding is there to undo"
            raise ConfigError("tricks.dequantize", found, "pictures", "leaving dequantize out")

    def reals(self, images: Tensor) -> Tensor:
        return (images + 1) * (255 / 256) - 1 + torch.rand_like(images) / 128


class Mirror(Trick):
    """Show D each image, real or fake, from left to right or mirrored. Karras et al. 2018, section 4.

    With probability `p`, image by image, in both players' updates: what G makes is not mirrored, so nothing leaks.
    """

    def __init__(self, *, p: float):
        super().__init__()
        if not 0 < p < 1:
            raise ConfigError("tricks.mirror.p", f"{p}", "0 < p < 1", "tricks.mirror.p=0.5")
        self.p = p

    def view(self, images: Tensor) -> Tensor:
        chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < self.p
        return torch.where(chosen, images.flip(3), images)

    def diagnostics(self, shape: BatchShape) -> Iterable[Diagnostic]:
        if shape.resolution < 2:
            yield one_pixel("mirror")


def one_pixel(name: str) -> Diagnostic:
    """What is said of a trick that moves pixels when the data are points."""
    return Diagnostic("C23", Level.ERROR, "points of 1 pixel have no picture to move. Try: leaving it out")


class Noise(nn.Module):
    """Add N(0, sigma) to hidden maps while training; nothing in evaluation mode, hence nothing in samples."""

    def __init__(self, sigma: Schedule):
        super().__init__()
        self.sigma = Scheduled(sigma)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.sigma() * torch.randn_like(hidden) if self.training else hidden


class GeneratorNoise(Trick):
    """Add N(0, sigma) to the output of every hidden block of G. Zhao et al. 2017 (EBGAN); ganhacks 13.

    In both players' updates, in training mode only: samples are drawn without. The image itself is left alone, since
    noise on fakes only would tell them from reals.
    """

    def __init__(self, *, sigma: float | Schedule):
        super().__init__()
        self.sigma = schedule(sigma)
        _check_sigma("tricks.generator_noise.sigma", self.sigma)

    def modify(self, net: nn.Module, role: Role) -> nn.Module:
        if role != "generator":
            return net
        blocks = getattr(net, "blocks", None)
        if not isinstance(blocks, nn.Sequential):
            raise ConfigError("tricks.generator_noise", "model.generator has no row of blocks", "one", "model=dcgan")
        for name, block in list(blocks.named_children()):
            noise = Noise(self.sigma)
            if isinstance(block, nn.Sequential):
                block.add_module("noise", noise)  # the block keeps its name in checkpoints
            else:
                setattr(blocks, name, nn.Sequential(block, noise))
        return net
