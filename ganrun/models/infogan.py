"""InfoGAN's MNIST networks: two strided convolutions and one dense layer each way. Chen et al. 2016, appendix C.1.

What the paper calls Q is not part of them: the trick that makes codes adds it as a head on D's last features.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ganrun.core import limits
from ganrun.models import base, layers
from ganrun.models.conditional import Block
from ganrun.models.dcgan_shape import doubled, halved
from ganrun.models.epilogues import Epilogue
from ganrun.models.layers import After, Fold, Parts, Unfold, as_output, stack

RESOLUTIONS = (16, 28, 32, 64)
NORMS = ("batch", "layer", "none")
LARGEST = 8  # pixels: the smallest maps are no larger, behind two convolutions or more


class Generator(base.Generator):
    """Noise through two dense layers to maps of a quarter of the size, then doubled up. Appendix C.1."""

    def __init__(
        self, *, latent: int, channels: int, resolution: int, width: int, hidden: int, kernel: int, norm: str,
        activation: str, slope: float, dropout: float, output: str, init: Mapping[str, Any],
    ):  # fmt: skip
        super().__init__(latent=latent, channels=channels, resolution=resolution, output=output)
        widths = _widths(channels, resolution, width, hidden)[::-1]  # bottom first
        after = _after(kernel, norm, activation, slope, dropout)
        size = resolution // 2 ** len(widths)
        first = stack(**_dense(latent, hidden, after))
        maps = stack(**_dense(hidden, widths[0] * size**2, after), unfold=Unfold(channels=widths[0], size=size))
        self.blocks = Block(first, maps, *doubled(widths, kernel, after, bias=after.bias))
        self.to_image = stack(conv=as_output(layers.double(widths[-1], channels, kernel, bias=True)))
        layers.initialise(self, **init)


class Discriminator(base.Discriminator):
    """Two convolutions of stride 2, a dense layer, a score. The trunk that D and Q share ends before the score.

    Appendix C.1. No norm on what sees the image.
    """

    def __init__(
        self, *, channels: int, resolution: int, width: int, hidden: int, kernel: int, norm: str, activation: str,
        slope: float, dropout: float, epilogue: Epilogue | None, output: str, init: Mapping[str, Any],
    ):  # fmt: skip
        super().__init__(channels=channels, resolution=resolution, output=output)
        widths = _widths(channels, resolution, width, hidden)
        after = _after(kernel, norm, activation, slope, dropout)
        size = resolution // 2 ** len(widths)
        self.blocks = halved(channels, widths, kernel, after, first_bias=True)
        self.blocks.append(stack(fold=Fold(), **_dense(widths[-1] * size**2, hidden, after)))
        self.head = base.head((hidden,), epilogue, bias=True)
        layers.initialise(self, **init)


def _dense(inputs: int, units: int, after: After) -> Parts:
    """A dense layer and what follows it; its norm is for each unit, also where the units become maps."""
    return {"dense": nn.Linear(inputs, units, bias=after.bias), **after.by_unit(units)}


def _widths(channels: int, resolution: int, width: int, hidden: int) -> list[int]:
    """Channels of the hidden maps from the largest on: 64 and 128 in the paper, one more above 32 pixels."""
    limits.resolution(".resolution", resolution, RESOLUTIONS)
    limits.whole(".channels", channels, 1, 4)
    limits.whole(".width", width, 1)
    limits.whole(".hidden", hidden, 1)
    count = max(2, (resolution // LARGEST - 1).bit_length())
    return [width * 2**i for i in range(count)]


def _after(kernel: int, norm: str, activation: str, slope: float, dropout: float) -> After:
    limits.resizing_kernel(".kernel", kernel)
    limits.choice(".norm", norm, NORMS)  # dense layers are normalised too
    return After(norm=norm, activation=activation, slope=slope, dropout=dropout)
