"""BEGAN's networks: ELU, filters that grow linearly, nearest-neighbour upsampling. Berthelot et al. 2017, figure 1.

As in carpedm20/BEGAN-tensorflow, models.py: the generator has the form of the decoder, and none has an output
nonlinearity, batch norm, dropout or transposed convolutions.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from ganrun.core import limits
from ganrun.core.context import BatchShape
from ganrun.core.traits import Diagnostic, Level
from ganrun.models import base, layers
from ganrun.models.autoencoder import RESOLUTIONS, AutoEncoder
from ganrun.models.layers import After, Fold, Unfold, as_output, stack

SMALLEST = 8  # pixels; the maps beside the code
KERNEL = 3  # pixels, of every convolution


class Generator(base.Generator):
    """Project noise to 8x8 maps; at each scale two convolutions, then double the size."""

    def __init__(
        self, *, latent: int, channels: int, resolution: int, width: int, norm: str, activation: str, slope: float,
        output: str, init: Mapping[str, Any],
    ):  # fmt: skip
        super().__init__(latent=latent, channels=channels, resolution=resolution, output=output)
        after = _after(channels, resolution, width, norm, activation, slope)
        self.blocks = _decoder(latent, width, resolution, after)
        self.to_image = stack(conv=as_output(layers.keep(width, channels, KERNEL, bias=True)))
        layers.initialise(self, **init)

    def diagnostics(self, shape: BatchShape) -> Iterable[Diagnostic]:
        """A warning about batch norm, which the paper leaves out."""
        return _without_batch_norm(self)


class Discriminator(AutoEncoder):
    """An encoder whose filters grow by `width` at each smaller scale, a dense code, and the generator's form back."""

    def __init__(
        self, *, channels: int, resolution: int, width: int, code: int, norm: str, activation: str, slope: float,
        error: str, init: Mapping[str, Any],
    ):  # fmt: skip
        super().__init__(channels=channels, resolution=resolution, error=error)
        limits.whole(".code", code, 1)
        after = _after(channels, resolution, width, norm, activation, slope)
        self.blocks = _encoder(code, channels, width, resolution, after)
        self.decoder = _decoder(code, width, resolution, after)
        self.decoder.append(stack(conv=as_output(layers.keep(width, channels, KERNEL, bias=True))))
        layers.initialise(self, **init)

    def diagnostics(self, shape: BatchShape) -> Iterable[Diagnostic]:
        """A warning about batch norm, which the paper leaves out."""
        return _without_batch_norm(self)


def _decoder(inputs: int, width: int, resolution: int, after: After) -> nn.Sequential:
    """From a vector to maps of the image's size, whose width is the same at every scale."""
    scales = _scales(resolution)
    project, unfold = nn.Linear(inputs, width * SMALLEST**2), Unfold(channels=width, size=SMALLEST)
    blocks = nn.Sequential(stack(project=project, unfold=unfold))
    for scale in range(scales):
        up = nn.Upsample(scale_factor=2.0, mode="nearest") if scale < scales - 1 else None
        blocks.append(stack(first=_conv(width, width, after), second=_conv(width, width, after), up=up))
    return blocks


def _encoder(code: int, channels: int, width: int, resolution: int, after: After) -> nn.Sequential:
    """From an image to the code: n, 2n, 3n ... filters, where a strided convolution ends each scale but the last."""
    scales, maps = _scales(resolution), width
    blocks = nn.Sequential(_conv(channels, width, after))
    for scale in range(scales):
        wider = width * (scale + 1)
        down = _conv(wider, wider, after, halves=True) if scale < scales - 1 else None
        blocks.append(stack(first=_conv(maps, wider, after), second=_conv(wider, wider, after), down=down))
        maps = wider
    blocks.append(stack(fold=Fold(), code=nn.Linear(maps * SMALLEST**2, code)))
    return blocks


def _conv(inputs: int, outputs: int, after: After, *, halves: bool = False) -> nn.Sequential:
    conv = (layers.halve if halves else layers.keep)(inputs, outputs, KERNEL, bias=after.bias)
    return stack(conv=conv, **after(outputs))


def _scales(resolution: int) -> int:
    return (resolution // SMALLEST).bit_length()  # 8x8 to the image's size, both included


def _after(channels: int, resolution: int, width: int, norm: str, activation: str, slope: float) -> After:
    limits.resolution(".resolution", resolution, RESOLUTIONS)
    limits.whole(".channels", channels, 1, 4)
    limits.whole(".width", width, 1)
    return After(norm=norm, activation=activation, slope=slope, dropout=0.0)


def _without_batch_norm(net: nn.Module) -> Iterable[Diagnostic]:
    if any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in net.modules()):
        yield Diagnostic("C20", Level.WARNING, "batch norm, which BEGAN's paper leaves out. Try: .norm=none")
