"""The CIFAR-10 network of "Keep Calm and train a GAN" (Utkarsh Desai 2018; utkd/gans): 128 filters everywhere."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ganrun.core import limits
from ganrun.models import base, layers
from ganrun.models.epilogues import Epilogue
from ganrun.models.layers import After, Unfold, as_output, keep, stack

RESOLUTIONS = (16, 32, 64)


class Generator(base.Generator):
    """Noise straight to maps of half the size, doubled once, then refined by large kernels. utkd/gans, cifar10dcgan."""

    def __init__(
        self, *, latent: int, channels: int, resolution: int, width: int, kernel: int, up_kernel: int, top_kernel: int,
        norm: str, norm_momentum: float, norm_eps: float, activation: str, slope: float, dropout: float, output: str,
        init: Mapping[str, Any],
    ):  # fmt: skip
        super().__init__(latent=latent, channels=channels, resolution=resolution, output=output)
        _check(channels, resolution, width)
        limits.odd_kernel(".kernel", kernel)
        limits.resizing_kernel(".up_kernel", up_kernel)
        limits.odd_kernel(".top_kernel", top_kernel)
        after = After(norm=norm, activation=activation, slope=slope, dropout=dropout, momentum=norm_momentum,
                      eps=norm_eps)  # fmt: skip
        bias = after.bias
        self.blocks = nn.Sequential(
            _seed(latent, width, resolution // 2, after),
            stack(conv=keep(width, width, kernel, bias=bias), **after(width)),
            stack(conv=layers.double(width, width, up_kernel, bias=bias), **after(width)),
            stack(conv=keep(width, width, top_kernel, bias=bias), **after(width)),
            stack(conv=keep(width, width, top_kernel, bias=bias), **after(width)),
        )
        self.to_image = stack(conv=as_output(keep(width, channels, top_kernel, bias=True)))
        layers.initialise(self, **init)


class Discriminator(base.Discriminator):
    """One convolution at full size, three that halve it, dropout, a score. utkd/gans, cifar10dcgan."""

    def __init__(
        self, *, channels: int, resolution: int, width: int, first_kernel: int, kernel: int, norm: str,
        norm_momentum: float, norm_eps: float, activation: str, slope: float, dropout: float,
        epilogue: Epilogue | None, output: str, init: Mapping[str, Any],
    ):  # fmt: skip
        super().__init__(channels=channels, resolution=resolution, output=output)
        _check(channels, resolution, width)
        limits.odd_kernel(".first_kernel", first_kernel)
        limits.resizing_kernel(".kernel", kernel)
        limits.number(".dropout", dropout, 0, 1)  # which is only before the score
        after = After(norm=norm, activation=activation, slope=slope, dropout=0.0, momentum=norm_momentum, eps=norm_eps)
        self.blocks = nn.Sequential(stack(conv=keep(channels, width, first_kernel, bias=after.bias), **after(width)))
        for _ in range(3):
            self.blocks.append(stack(conv=layers.halve(width, width, kernel, bias=after.bias), **after(width)))
        self.head = base.head((width, resolution // 8, resolution // 8), epilogue, drops=dropout, bias=True)
        layers.initialise(self, **init)


def _seed(latent: int, width: int, size: int, after: After) -> nn.Sequential:
    """Dense, ReLU, norm, leaky ReLU, in this unusual order; batch norm is for each unit, before they become maps."""
    units = width * size**2
    dense, unfold = nn.Linear(latent, units), Unfold(channels=width, size=size)
    if after.norm != "batch":
        return stack(project=dense, relu=nn.ReLU(), unfold=unfold, **after(width))
    return stack(project=dense, relu=nn.ReLU(), **after.by_unit(units), unfold=unfold)


def _check(channels: int, resolution: int, width: int) -> None:
    limits.resolution(".resolution", resolution, RESOLUTIONS)
    limits.whole(".channels", channels, 1, 4)
    limits.whole(".width", width, 1)
