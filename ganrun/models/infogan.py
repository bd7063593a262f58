"""InfoGAN's MNIST networks: two strided convolutions and one dense layer each way. Chen et al. 2016, appendix C.1.

What the paper calls Q is no part of them: the trick that makes codes puts its head on D's last features.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from torch import nn

from ganrun.core import limits
from ganrun.models import base, layers
from ganrun.models.epilogues import Epilogue
from ganrun.models.layers import Fold, Unfold, stack

RESOLUTIONS = (16, 28, 32, 64)
NORMS = ("batch", "layer", "none")
LARGEST = 8  # pixels: the smallest maps are at most so large, behind two convolutions or more


class Generator(base.Generator):
    """Noise through two dense layers to maps of a quarter of the size, then doubled up. Appendix C.1."""

    def __init__(
        self,
        *,
        latent: int,
        channels: int,
        resolution: int,
        width: int,
        hidden: int,
        kernel: int,
        norm: str,
        activation: str,
        slope: float,
        dropout: float,
        output: str,
        init: Mapping[str, Any],
    ):
        super().__init__(latent=latent, channels=channels, resolution=resolution, output=output)
        here = "model.generator"
        after = _after(here, channels, resolution, width, hidden, kernel, norm, activation, slope, dropout)
        widths = _widths(resolution, width)[::-1]  # bottom first
        size, bias = resolution // 2 ** len(widths), norm == "none"
        self.blocks = nn.Sequential(
            _dense(latent, hidden, after),
            stack(**_named(_dense(hidden, widths[0] * size**2, after)), unfold=Unfold(channels=widths[0], size=size)),
        )
        for below, above in pairwise(widths):
            self.blocks.append(stack(conv=layers.double(below, above, kernel, bias=bias), **after(above)))
        self.to_image = stack(conv=layers.double(widths[-1], channels, kernel, bias=True))
        layers.initialise(self, f"{here}.init", **init)


class Discriminator(base.Discriminator):
    """Two convolutions of stride 2, a dense layer, a score. The trunk that D and Q share ends before the score.

    Appendix C.1. No norm on what sees the image.
    """

    def __init__(
        self,
        *,
        channels: int,
        resolution: int,
        width: int,
        hidden: int,
        kernel: int,
        norm: str,
        activation: str,
        slope: float,
        dropout: float,
        epilogue: Epilogue | None,
        output: str,
        init: Mapping[str, Any],
    ):
        super().__init__(channels=channels, resolution=resolution, output=output)
        here = "model.discriminator"
        after = _after(here, channels, resolution, width, hidden, kernel, norm, activation, slope, dropout)
        widths = _widths(resolution, width)
        size = resolution // 2 ** len(widths)
        self.blocks = nn.Sequential()
        for above, below in zip([channels, *widths], widths, strict=False):
            normed = len(self.blocks) > 0
            conv = layers.halve(above, below, kernel, bias=norm == "none" or not normed)
            self.blocks.append(stack(conv=conv, **after(below, normed=normed)))
        self.blocks.append(stack(fold=Fold(), **_named(_dense(widths[-1] * size**2, hidden, after))))
        self.head = base.head((hidden,), epilogue, bias=True)
        layers.initialise(self, f"{here}.init", **init)


def _dense(inputs: int, units: int, after: layers.After) -> nn.Sequential:
    """A dense layer and what follows it; its norm is for each unit, also where the units become maps."""
    parts = after(units) | {"norm": layers.unit_norm(after.norm, units)}
    return stack(dense=nn.Linear(inputs, units, bias=after.norm == "none"), **parts)


def _named(block: nn.Sequential) -> dict[str, nn.Module]:
    return dict(block.named_children())


def _widths(resolution: int, width: int) -> list[int]:
    """Channels of the hidden maps from the largest on: 64 and 128 in the paper, one more above 32 pixels."""
    count = max(2, (resolution // LARGEST - 1).bit_length())
    return [width * 2**i for i in range(count)]


def _after(
    here: str, channels: int, resolution: int, width: int, hidden: int, kernel: int, norm: str, activation: str,
    slope: float, dropout: float,
) -> layers.After:  # fmt: skip
    limits.resolution(f"{here}.resolution", resolution, RESOLUTIONS)
    limits.whole(f"{here}.channels", channels, 1, 4)
    limits.whole(f"{here}.width", width, 1)
    limits.whole(f"{here}.hidden", hidden, 1)
    limits.resizing_kernel(f"{here}.kernel", kernel)
    limits.choice(f"{here}.norm", norm, NORMS)
    return layers.After(where=here, norm=norm, activation=activation, slope=slope, dropout=dropout)
