"""The first GAN: dense layers, a maxout discriminator with dropout. Goodfellow et al. 2014, section 5."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ganrun.core import limits
from ganrun.core.errors import ConfigError
from ganrun.models import base, layers
from ganrun.models.epilogues import Epilogue
from ganrun.models.layers import ACTIVATIONS, Maxout, stack

NORMS = ("batch", "layer", "none")


class Generator(base.Generator):
    """Noise through dense layers to every pixel at once. Goodfellow et al. 2014, section 5."""

    def __init__(
        self,
        *,
        latent: int,
        channels: int,
        resolution: int,
        hidden: Sequence[int],
        norm: str,
        bottom_norm: bool,
        activation: str,
        slope: float,
        dropout: float,
        output: str,
        init: Mapping[str, Any],
    ):
        super().__init__(latent=latent, channels=channels, resolution=resolution, output=output)
        here = "model.generator"
        check(here, channels, resolution, hidden, norm, slope, dropout)
        limits.choice(f"{here}.activation", activation, ACTIVATIONS)
        self.blocks = nn.Sequential()
        for inputs, units in zip([latent, *hidden], hidden, strict=False):
            kind = norm if self.blocks or bottom_norm else "none"
            self.blocks.append(layer(inputs, units, kind, activation, slope, dropout))
        pixels = nn.Linear([latent, *hidden][-1], channels * resolution**2)
        self.to_image = stack(dense=pixels, unflatten=nn.Unflatten(1, (channels, resolution, resolution)))
        layers.initialise(self, f"{here}.init", **init)


class Discriminator(base.Discriminator):
    """Every pixel at once through dense layers to a score. Goodfellow et al. 2014, section 5."""

    def __init__(
        self,
        *,
        channels: int,
        resolution: int,
        hidden: Sequence[int],
        norm: str,
        activation: str,
        pieces: int,
        slope: float,
        input_dropout: float,
        dropout: float,
        epilogue: Epilogue | None,
        output: str,
        init: Mapping[str, Any],
    ):
        super().__init__(channels=channels, resolution=resolution, output=output)
        here = "model.discriminator"
        check(here, channels, resolution, hidden, norm, slope, dropout)
        limits.choice(f"{here}.activation", activation, [*ACTIVATIONS, "maxout"])
        limits.whole(f"{here}.pieces", pieces, 2)
        limits.number(f"{here}.input_dropout", input_dropout, 0, 1)
        inputs = channels * resolution**2
        self.blocks = nn.Sequential()
        for width, units in zip([inputs, *hidden], hidden, strict=False):
            kind = norm if self.blocks else "none"  # no norm on what sees the image
            self.blocks.append(layer(width, units, kind, activation, slope, dropout, pieces))
        self.blocks[0] = _from_image(self.blocks[0], input_dropout)
        self.head = base.head((hidden[-1],), epilogue, bias=True)
        layers.initialise(self, f"{here}.init", **init)


def layer(
    inputs: int, units: int, kind: str, activates: str, slope: float, drops: float, pieces: int = 1
) -> nn.Sequential:
    """A dense layer and what follows it. Maxout takes several linear pieces a unit."""
    is_maxout = activates == "maxout"
    lines = units * pieces if is_maxout else units
    normalise = layers.unit_norm(kind, lines)
    return stack(
        dense=nn.Linear(inputs, lines, bias=normalise is None),  # a norm undoes a bias
        norm=normalise,
        activation=Maxout(pieces=pieces) if is_maxout else layers.activation(activates, slope),
        dropout=layers.dropout(drops),
    )


def _from_image(block: nn.Module, drops: float) -> nn.Sequential:
    """The first block, made to read images and to forget some of their pixels."""
    return stack(flatten=nn.Flatten(), pixel_dropout=layers.dropout(drops), **dict(block.named_children()))


def check(
    here: str, channels: int, resolution: int, hidden: Sequence[int], kind: str, slope: float, drops: float
) -> None:
    limits.whole(f"{here}.channels", channels, 1)
    limits.whole(f"{here}.resolution", resolution, 1)
    if isinstance(hidden, str | int) or not hidden:
        raise ConfigError(f"{here}.hidden", str(hidden), "a list of one or more widths", f"{here}.hidden=[240,240]")
    for units in hidden:
        limits.whole(f"{here}.hidden", units, 1)
    limits.choice(f"{here}.norm", kind, NORMS)
    limits.number(f"{here}.slope", slope, 0)
    limits.number(f"{here}.dropout", drops, 0, 1)
