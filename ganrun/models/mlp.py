"""The first GAN: dense layers, a maxout discriminator with dropout. Goodfellow et al. 2014, section 5."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from ganrun.core import limits
from ganrun.core.errors import ConfigError
from ganrun.models import base, layers
from ganrun.models.conditional import Beside, Block, block
from ganrun.models.epilogues import Epilogue
from ganrun.models.layers import ACTIVATIONS, Maxout, Parts, as_output, stack

NORMS = ("batch", "layer", "none")


@dataclass(frozen=True, kw_only=True)
class Dense:
    """A dense layer and what follows it: a norm, an activation, dropout. Checked once, then made for any size.

    With `pieces`, the activation may be maxout: the largest of several linear pieces for each unit.
    """

    norm: str
    activation: str
    slope: float
    dropout: float
    pieces: int | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError for a setting that layers cannot have."""
        limits.choice(".norm", self.norm, NORMS)
        limits.number(".slope", self.slope, 0)
        limits.number(".dropout", self.dropout, 0, 1)
        limits.choice(".activation", self.activation, [*ACTIVATIONS, *(["maxout"] if self.pieces is not None else [])])
        if self.pieces is not None:
            limits.whole(".pieces", self.pieces, 2)

    def __call__(self, inputs: int, units: int, *, normed: bool = True, drops: bool = True) -> Parts:
        """The layers by name, for these sizes."""
        pieces = (self.pieces or 1) if self.activation == "maxout" else 1
        norm = layers.unit_norm(self.norm if normed else "none", units * pieces)
        return {
            "dense": nn.Linear(inputs, units * pieces, bias=norm is None),  # a norm undoes a bias
            "norm": norm,
            "activation": Maxout(pieces=pieces) if pieces > 1 else layers.activation(self.activation, self.slope),
            "dropout": layers.dropout(self.dropout) if drops else None,
        }


class Generator(base.Generator):
    """Noise through dense layers to every pixel at once. Goodfellow et al. 2014, section 5."""

    def __init__(
        self, *, latent: int, channels: int, resolution: int, hidden: Sequence[int], norm: str, bottom_norm: bool,
        activation: str, slope: float, dropout: float, output: str, init: Mapping[str, Any],
    ):  # fmt: skip
        super().__init__(latent=latent, channels=channels, resolution=resolution, output=output)
        check_sizes(channels, resolution, hidden)
        dense = Dense(norm=norm, activation=activation, slope=slope, dropout=dropout)
        self.blocks = from_noise(latent, hidden, dense, first_norm=bottom_norm)
        self.to_image = to_image(hidden[-1], channels, resolution)
        layers.initialise(self, **init)


class Discriminator(base.Discriminator):
    """Every pixel at once through dense layers to a score. Goodfellow et al. 2014, section 5."""

    def __init__(
        self, *, channels: int, resolution: int, hidden: Sequence[int], norm: str, activation: str, pieces: int,
        slope: float, input_dropout: float, dropout: float, epilogue: Epilogue | None, output: str,
        init: Mapping[str, Any],
    ):  # fmt: skip
        super().__init__(channels=channels, resolution=resolution, output=output)
        check_sizes(channels, resolution, hidden)
        dense = Dense(norm=norm, activation=activation, slope=slope, dropout=dropout, pieces=pieces)
        self.blocks = from_image(channels * resolution**2, hidden, dense, input_dropout)
        self.head = base.head((hidden[-1],), epilogue, bias=True)
        layers.initialise(self, **init)


def from_noise(
    latent: int, hidden: Sequence[int], dense: Dense, *, first_norm: bool = False, label: Beside | None = None
) -> Block:
    """Hidden layers of these widths that read noise, and a label beside it."""
    inputs = latent + (label.size if label else 0)
    return _hidden(inputs, hidden, dense, before={"label": label}, normed=first_norm, drops=True)


def from_image(
    pixels: int,
    hidden: Sequence[int],
    dense: Dense,
    input_dropout: float,
    *,
    first_dropout: bool = True,
    label: Beside | None = None,
) -> Block:
    """Hidden layers of these widths that read all pixels, some of them dropped, and a label beside them.

    The first has no norm. Raises ConfigError for a dropout that is no probability below 1.
    """
    limits.number(".input_dropout", input_dropout, 0, 1)
    before = {"flatten": nn.Flatten(), "pixel_dropout": layers.dropout(input_dropout), "label": label}
    inputs = pixels + (label.size if label else 0)
    return _hidden(inputs, hidden, dense, before=before, normed=False, drops=first_dropout)


def _hidden(inputs: int, hidden: Sequence[int], dense: Dense, *, before: Parts, normed: bool, drops: bool) -> Block:
    """Dense layers of these widths; the first comes after other layers, and has norm and dropout if it is to."""
    first, *others = hidden
    blocks = Block(block(**before, **dense(inputs, first, normed=normed, drops=drops)))
    for above, below in zip(hidden, others, strict=False):
        blocks.append(stack(**dense(above, below)))
    return blocks


def to_image(inputs: int, channels: int, resolution: int) -> nn.Sequential:
    """A dense layer to every pixel."""
    pixels = as_output(nn.Linear(inputs, channels * resolution**2))
    return stack(dense=pixels, unflatten=nn.Unflatten(1, (channels, resolution, resolution)))


def check_sizes(channels: int, resolution: int, hidden: Sequence[int]) -> None:
    """Raises ConfigError unless all are whole numbers of at least 1, and `hidden` has one or more."""
    limits.whole(".channels", channels, 1)
    limits.whole(".resolution", resolution, 1)
    if isinstance(hidden, str | int) or not hidden:
        raise ConfigError(".hidden", str(hidden), "a list of one or more widths", ".hidden=[240,240]")
    for units in hidden:
        limits.whole(".hidden", units, 1)
