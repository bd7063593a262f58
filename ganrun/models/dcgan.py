"""DCGAN: strided convolutions, batch norm, no pooling, no hidden dense layers. Radford et al. 2015, section 3."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from torch import nn

from ganrun.core import limits
from ganrun.models import base, layers
from ganrun.models.epilogues import Epilogue
from ganrun.models.layers import Unfold, stack

RESOLUTIONS = (16, 32, 64, 128, 256)
BOTTOM_NORMS = ("maps", "units")
SMALLEST = 4  # pixels; both networks' smallest maps are 4x4


class Generator(base.Generator):
    """Project noise to 4x4 maps, then double them up to the image. Radford et al. 2015, figure 1."""

    def __init__(
        self,
        *,
        latent: int,
        channels: int,
        resolution: int,
        width: int,
        max_width: int,
        kernel: int,
        top_kernel: int,
        norm: str,
        bottom_norm: str,
        activation: str,
        slope: float,
        dropout: float,
        output: str,
        init: Mapping[str, Any],
    ):
        super().__init__(latent=latent, channels=channels, resolution=resolution, output=output)
        here = "model.generator"
        scales = layers.scales(here, resolution, RESOLUTIONS, SMALLEST)
        widths = layers.widths(here, channels, width, max_width, scales)[::-1]  # bottom first
        limits.resizing_kernel(f"{here}.kernel", kernel)
        limits.resizing_kernel(f"{here}.top_kernel", top_kernel)
        after = layers.After(where=here, norm=norm, activation=activation, slope=slope, dropout=dropout)
        # As in the paper's code: no biases, as norms have their own. Without norms every layer has one.
        bias = norm == "none"
        limits.choice(f"{here}.bottom_norm", bottom_norm, BOTTOM_NORMS)
        self.blocks = nn.Sequential(_bottom(latent, widths[0], bias, after, bottom_norm == "units"))
        for below, above in pairwise(widths):
            conv = layers.double(below, above, kernel, bias=bias)
            self.blocks.append(stack(conv=conv, **after(above)))
        self.to_image = stack(conv=layers.double(widths[-1], channels, top_kernel, bias=bias))
        layers.initialise(self, f"{here}.init", **init)


class Discriminator(base.Discriminator):
    """Halve the image down to 4x4 maps, then score them with one dense layer. Radford et al. 2015, section 3."""

    def __init__(
        self,
        *,
        channels: int,
        resolution: int,
        width: int,
        max_width: int,
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
        scales = layers.scales(here, resolution, RESOLUTIONS, SMALLEST)
        widths = layers.widths(here, channels, width, max_width, scales)
        limits.resizing_kernel(f"{here}.kernel", kernel)
        after = layers.After(where=here, norm=norm, activation=activation, slope=slope, dropout=dropout)
        bias = norm == "none"
        self.blocks = nn.Sequential()
        for above, below in zip([channels, *widths], widths, strict=False):
            normed = len(self.blocks) > 0  # no norm on what sees the image
            conv = layers.halve(above, below, kernel, bias=bias)
            self.blocks.append(stack(conv=conv, **after(below, normed=normed)))
        self.head = base.head((widths[-1], SMALLEST, SMALLEST), epilogue, bias=bias)
        layers.initialise(self, f"{here}.init", **init)


def _bottom(latent: int, width: int, bias: bool, after: layers.After, by_unit: bool) -> nn.Sequential:
    """Noise to the smallest maps. `by_unit`: batch norm is for each number on its own, before they become maps."""
    units = width * SMALLEST**2
    project, unfold = nn.Linear(latent, units, bias=bias), Unfold(channels=width, size=SMALLEST)
    rest = after(width)
    if not by_unit or after.norm != "batch":
        return stack(project=project, unfold=unfold, **rest)
    rest["norm"] = nn.BatchNorm1d(units, momentum=after.momentum, eps=after.eps)
    return stack(project=project, norm=rest.pop("norm"), unfold=unfold, **rest)
