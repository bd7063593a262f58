"""DCGAN: strided convolutions, batch norm, no pooling, no hidden dense layers. Radford et al. 2015, section 3."""

from collections.abc import Mapping
from typing import Any

from ganrun.core import limits
from ganrun.models import base, layers
from ganrun.models.dcgan_shape import DoublingGenerator, HalvingDiscriminator
from ganrun.models.epilogues import Epilogue
from ganrun.models.layers import After

BOTTOM_NORMS = ("maps", "units")


class Generator(DoublingGenerator):
    """Project noise to 4x4 maps, then double them up to the image. Radford et al. 2015, figure 1.

    As in the paper's code, layers have no biases, as norms have their own; without norms every layer has one.
    """

    def __init__(
        self, *, latent: int, channels: int, resolution: int, width: int, max_width: int, kernel: int, top_kernel: int,
        norm: str, bottom_norm: str, activation: str, slope: float, dropout: float, output: str,
        init: Mapping[str, Any],
    ):  # fmt: skip
        limits.choice(".bottom_norm", bottom_norm, BOTTOM_NORMS)
        after = After(norm=norm, activation=activation, slope=slope, dropout=dropout)
        super().__init__(
            latent=latent, channels=channels, resolution=resolution, output=output, width=width, max_width=max_width,
            kernel=kernel, top_kernel=top_kernel, top_bias=after.bias, after=after, init=init,
            by_unit=bottom_norm == "units",
        )  # fmt: skip


class Discriminator(HalvingDiscriminator):
    """Halve the image down to 4x4 maps, then score them with one dense layer. Radford et al. 2015, section 3."""

    def __init__(
        self, *, channels: int, resolution: int, width: int, max_width: int, kernel: int, norm: str, activation: str,
        slope: float, dropout: float, epilogue: Epilogue | None, output: str, init: Mapping[str, Any],
    ):  # fmt: skip
        after = After(norm=norm, activation=activation, slope=slope, dropout=dropout)
        super().__init__(
            channels=channels, resolution=resolution, output=output, width=width, max_width=max_width, kernel=kernel,
            after=after,
        )  # fmt: skip
        self.head = base.head(self.last, epilogue, bias=after.bias)
        layers.initialise(self, **init)
