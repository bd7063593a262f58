"""The DCGAN that StudioGAN measures on CIFAR-10: D has two convolutions a scale. Kang et al. 2023, `deep_conv.py`."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ganrun.core import limits
from ganrun.models import base, layers
from ganrun.models.conditional import Block
from ganrun.models.dcgan_shape import doubled
from ganrun.models.epilogues import Epilogue
from ganrun.models.layers import After, Unfold, as_output, keep, stack

RESOLUTIONS = (8, 16, 32, 64, 128, 256)
SMALLEST = 4  # pixels; both networks' smallest maps are 4x4


class Generator(base.Generator):
    """Noise to 4x4 maps without norm or activation, doubled up to the image, then one convolution at full size."""

    def __init__(
        self, *, latent: int, channels: int, resolution: int, width: int, max_width: int, kernel: int, top_kernel: int,
        norm: str, activation: str, slope: float, dropout: float, output: str, init: Mapping[str, Any],
    ):  # fmt: skip
        super().__init__(latent=latent, channels=channels, resolution=resolution, output=output)
        limits.resizing_kernel(".kernel", kernel)
        limits.odd_kernel(".top_kernel", top_kernel)
        widths = _widths(channels, resolution, width, max_width)[::-1]  # bottom first
        after = After(norm=norm, activation=activation, slope=slope, dropout=dropout)
        project = nn.Linear(latent, widths[0] * SMALLEST**2)
        bottom = stack(project=project, unfold=Unfold(channels=widths[0], size=SMALLEST))
        self.blocks = Block(bottom, *doubled(widths, kernel, after, bias=True))
        self.to_image = stack(conv=as_output(keep(widths[-1], channels, top_kernel, bias=True)))
        layers.initialise(self, **init)


class Discriminator(base.Discriminator):
    """At each scale a convolution that widens and one that halves, down to 4x4 maps; a last one, the sum of its maps.

    Norms behind every convolution, the first included; every layer has a bias.
    """

    def __init__(
        self, *, channels: int, resolution: int, width: int, max_width: int, wide_kernel: int, kernel: int, norm: str,
        activation: str, slope: float, dropout: float, epilogue: Epilogue | None, output: str, init: Mapping[str, Any],
    ):  # fmt: skip
        super().__init__(channels=channels, resolution=resolution, output=output)
        limits.odd_kernel(".wide_kernel", wide_kernel)
        limits.resizing_kernel(".kernel", kernel)
        after = After(norm=norm, activation=activation, slope=slope, dropout=dropout)
        *widths, last = _widths(channels, resolution, width, max_width)
        self.blocks = nn.Sequential()
        for above, below in zip([channels, *widths], widths, strict=False):
            self.blocks.append(_block(above, below, wide_kernel, kernel, after))
        final = stack(conv=keep(widths[-1], last, wide_kernel, bias=True), **after(last), pool=layers.Pool(kind="sum"))
        self.blocks.append(final)  # the sums are the last features, which an epilogue reads
        self.head = base.head((last,), epilogue, bias=True)
        layers.initialise(self, **init)


def _widths(channels: int, resolution: int, width: int, max_width: int) -> list[int]:
    """Channels at the size of the image and at each smaller scale, down to 4x4 maps."""
    return layers.widths(channels, width, max_width, layers.scales(resolution, RESOLUTIONS, SMALLEST) + 1)


def _block(above: int, below: int, wide_kernel: int, kernel: int, after: After) -> nn.Sequential:
    """A convolution that widens, and one that halves the size."""
    wide = {f"wide_{name}": layer for name, layer in after(below).items()}
    half = after(below)
    conv = layers.halve(below, below, kernel, bias=True)
    return stack(wide=keep(above, below, wide_kernel, bias=True), **wide, conv=conv, **half)
