"""What all generators and all discriminators here have in common: blocks, then one layer that answers."""

import math

from torch import Tensor, nn

from ganrun.core.context import DiscriminatorOutput
from ganrun.core.facts import Fact
from ganrun.core.traits import Traits, facts
from ganrun.models import checks

RANGES = {"tanh": (-1.0, 1.0), "linear": (-math.inf, math.inf)}
OUTPUTS = ("linear", "sigmoid")
OFFERS = (Fact.FEATURES, Fact.FREE_WEIGHTS, Fact.SCORE, Fact.PER_SAMPLE, Fact.ALONE, Fact.STEADY)


class Generator(nn.Module):
    """Noise through blocks to an image. A subclass fills `blocks` and `to_image`, bottom (latent side) first."""

    blocks: nn.Sequential
    to_image: nn.Sequential

    def __init__(self, *, latent: int, channels: int, resolution: int, output: str):
        super().__init__()
        checks.whole("model.generator.latent", latent, 1)
        checks.choice("model.generator.output", output, RANGES)
        self.latent, self.channels, self.resolution = latent, channels, resolution
        self.range = RANGES[output]  # what the images can take
        self.squash = nn.Tanh() if output == "tanh" else nn.Identity()

    @property
    def traits(self) -> Traits:
        return Traits()

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """[B, Z] -> [B, C, H, W]. Labels are ignored: these generators are unconditional."""
        return self.squash(self.to_image(self.blocks(noise)))


class Discriminator(nn.Module):
    """Images through blocks, whose outputs are the features, to a score. A subclass fills `blocks` and `head`."""

    blocks: nn.Sequential
    head: nn.Sequential

    def __init__(self, *, channels: int, resolution: int, output: str):
        super().__init__()
        checks.choice("model.discriminator.output", output, OUTPUTS)
        self.channels, self.resolution = channels, resolution
        self.squash = nn.Sigmoid() if output == "sigmoid" else nn.Identity()

    @property
    def traits(self) -> Traits:
        """Read from the layers that are there now, so a trick that replaces batch norm is believed."""
        coupled = any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in self.modules())
        dropping = any(isinstance(layer, nn.Dropout) for layer in self.modules())
        bounded = isinstance(self.squash, nn.Sigmoid)
        return Traits(
            provides=facts(*OFFERS),
            spoils=facts(*[Fact.PER_SAMPLE] * coupled, *[Fact.SCORE] * bounded, *[Fact.STEADY] * dropping),
        )

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        """[B, C, H, W] -> score [B] and features. Labels are ignored: these discriminators are unconditional."""
        features = []
        hidden = images
        for block in self.blocks:
            hidden = block(hidden)
            features.append(hidden)
        return DiscriminatorOutput(self.squash(self.head(hidden)).squeeze(1), tuple(features))
