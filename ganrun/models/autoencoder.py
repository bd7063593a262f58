"""Discriminators that are auto-encoders: the score is an energy, how badly an image is rebuilt. Zhao et al. 2017."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ganrun.core import limits
from ganrun.core.context import DiscriminatorOutput
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.traits import Traits, facts
from ganrun.models import base, layers
from ganrun.models.dcgan_shape import doubled, halved
from ganrun.models.layers import After, as_output, stack

RESOLUTIONS = (16, 32, 64, 128, 256)
ERRORS: dict[str, Callable[[Tensor], Tensor]] = {  # what was rebuilt less what was there, [B, N] -> [B]
    "absolute": lambda error: error.abs().mean(1),
    "squared": lambda error: error.square().mean(1),
    "norm": lambda error: torch.linalg.vector_norm(error, dim=1),
}


class AutoEncoder(base.Discriminator):
    """Images through blocks to a code, the last of the features, and back. A subclass fills `blocks` and `decoder`."""

    decoder: nn.Sequential

    def __init__(self, *, channels: int, resolution: int, error: str):
        limits.choice(".error", error, ERRORS)
        super().__init__(channels=channels, resolution=resolution, output="linear")
        self.error = error
        self.kinked = error == "absolute"

    @property
    def traits(self) -> Traits:
        """As of any discriminator, but the score is an energy, which only some losses read."""
        plain = super().traits
        offers = plain.provides - facts(Fact.SCORE) | facts(Fact.ENERGY)
        return replace(plain, provides=offers, needs=facts(Fact.READS_ENERGY))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        """[B, C, H, W] -> energy [B] in float32, and features that end with the code. Labels are ignored."""
        features = self.hidden(images)
        error = self.decoder(features[-1]).float() - images.float()
        return DiscriminatorOutput(ERRORS[self.error](error.flatten(1)), features)


class Discriminator(AutoEncoder):
    """Strided convolutions down to the code, transposed ones back: DCGAN's form. Zhao et al. 2017, appendix D."""

    def __init__(
        self, *, channels: int, resolution: int, width: int, max_width: int, code_size: int, kernel: int, norm: str,
        activation: str, slope: float, dropout: float, error: str, init: Mapping[str, Any],
    ):  # fmt: skip
        super().__init__(channels=channels, resolution=resolution, error=error)
        widths = _widths(channels, resolution, width, max_width, code_size)
        limits.resizing_kernel(".kernel", kernel)
        after = After(norm=norm, activation=activation, slope=slope, dropout=dropout)
        self.blocks = halved(channels, widths, kernel, after, first_bias=True)
        self.decoder = nn.Sequential(*doubled(widths[::-1], kernel, after, bias=after.bias))
        self.decoder.append(stack(conv=as_output(layers.double(widths[0], channels, kernel, bias=True))))
        layers.initialise(self, **init)


def _widths(channels: int, resolution: int, width: int, max_width: int, code_size: int) -> list[int]:
    """Channels of the encoder's maps: double at each smaller scale, up to a cap, until they are `code_size` high."""
    limits.resolution(".resolution", resolution, RESOLUTIONS)
    sizes = [2**power for power in range(1, 8) if 2**power < resolution]
    if code_size not in sizes:
        found = f"{code_size}, for images of {resolution} pixels"
        expected = f"one of {', '.join(map(str, sizes))} (pixels)"
        raise ConfigError(".code_size", found, expected, f".code_size={sizes[-1]}")
    return layers.widths(channels, width, max_width, layers.scales(resolution, RESOLUTIONS, code_size))
