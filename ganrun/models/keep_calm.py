"""The CIFAR-10 network of "Keep Calm and train a GAN" (Utkarsh Desai 2018; utkd/gans): 128 filters everywhere."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ganrun.core import limits
from ganrun.models import base, layers
from ganrun.models.epilogues import Epilogue
from ganrun.models.layers import After, Unfold, keep, stack

RESOLUTIONS = (16, 32, 64)


class Generator(base.Generator):
    """Noise straight to maps of half the size, doubled once, then refined by large kernels. utkd/gans, cifar10dcgan."""

    def __init__(
        self,
        *,
        latent: int,
        channels: int,
        resolution: int,
        width: int,
        kernel: int,
        up_kernel: int,
        top_kernel: int,
        norm: str,
        norm_momentum: float,
        norm_eps: float,
        activation: str,
        slope: float,
        dropout: float,
        output: str,
        init: Mapping[str, Any],
    ):
        super().__init__(latent=latent, channels=channels, resolution=resolution, output=output)
        here = "model.generator"
        _check(here, channels, resolution, width)
        limits.odd_kernel(f"{here}.kernel", kernel)
        limits.resizing_kernel(f"{here}.up_kernel", up_kernel)
        limits.odd_kernel(f"{here}.top_kernel", top_kernel)
        bias = norm == "none"  # a norm right behind a convolution undoes its bias
        after = After(
            where=here,
            norm=norm,
            activation=activation,
            slope=slope,
            dropout=dropout,
            momentum=norm_momentum,
            eps=norm_eps,
        )
        self.blocks = nn.Sequential(
            _seed(latent, width, resolution // 2, after),
            stack(conv=keep(width, width, kernel, bias=bias), **after(width)),
            stack(conv=layers.double(width, width, up_kernel, bias=bias), **after(width)),
            stack(conv=keep(width, width, top_kernel, bias=bias), **after(width)),
            stack(conv=keep(width, width, top_kernel, bias=bias), **after(width)),
        )
        self.to_image = stack(conv=keep(width, channels, top_kernel, bias=True))
        layers.initialise(self, f"{here}.init", **init)


class Discriminator(base.Discriminator):
    """One convolution at full size, three that halve it, dropout, a score. utkd/gans, cifar10dcgan."""

    def __init__(
        self,
        *,
        channels: int,
        resolution: int,
        width: int,
        first_kernel: int,
        kernel: int,
        norm: str,
        norm_momentum: float,
        norm_eps: float,
        activation: str,
        slope: float,
        dropout: float,
        epilogue: Epilogue | None,
        output: str,
        init: Mapping[str, Any],
    ):
        super().__init__(channels=channels, resolution=resolution, output=output)
        here = "model.discriminator"
        _check(here, channels, resolution, width)
        limits.odd_kernel(f"{here}.first_kernel", first_kernel)
        limits.resizing_kernel(f"{here}.kernel", kernel)
        limits.number(f"{here}.dropout", dropout, 0, 1)
        bias = norm == "none"
        after = After(
            where=here,
            norm=norm,
            activation=activation,
            slope=slope,
            dropout=0.0,  # only before the score
            momentum=norm_momentum,
            eps=norm_eps,
        )
        self.blocks = nn.Sequential(stack(conv=keep(channels, width, first_kernel, bias=bias), **after(width)))
        for _ in range(3):
            self.blocks.append(stack(conv=layers.halve(width, width, kernel, bias=bias), **after(width)))
        self.head = base.head((width, resolution // 8, resolution // 8), epilogue, drops=dropout, bias=True)
        layers.initialise(self, f"{here}.init", **init)


def _seed(latent: int, width: int, size: int, after: After) -> nn.Sequential:
    """Dense, ReLU, norm, leaky ReLU, in this unusual order; batch norm is for each unit, before they become maps."""
    units = width * size**2
    dense, unfold = nn.Linear(latent, units), Unfold(channels=width, size=size)
    rest = after(width)
    if after.norm != "batch":
        return stack(project=dense, relu=nn.ReLU(), unfold=unfold, **rest)
    rest["norm"] = nn.BatchNorm1d(units, momentum=after.momentum, eps=after.eps)
    return stack(project=dense, relu=nn.ReLU(), **rest, unfold=unfold)


def _check(here: str, channels: int, resolution: int, width: int) -> None:
    limits.resolution(f"{here}.resolution", resolution, RESOLUTIONS)
    limits.whole(f"{here}.channels", channels, 1, 4)
    limits.whole(f"{here}.width", width, 1)
