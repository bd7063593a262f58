"""Conditional GAN of dense layers: the label beside the noise and beside the pixels. Mirza & Osindero 2014."""

from collections.abc import Mapping, Sequence
from typing import Any

from ganrun.models import base, conditional, layers, mlp
from ganrun.models.conditional import Beside
from ganrun.models.epilogues import Epilogue
from ganrun.models.mlp import Dense


class Generator(base.Generator):
    """G(z, y): noise and label through dense layers to every pixel at once. Mirza & Osindero 2014, figure 1."""

    mixes_labels = True  # shares of each class are taken too

    def __init__(
        self, *, latent: int, classes: int, embed: int | None, channels: int, resolution: int, hidden: Sequence[int],
        norm: str, activation: str, slope: float, dropout: float, output: str, init: Mapping[str, Any],
    ):  # fmt: skip
        super().__init__(latent=latent, channels=channels, resolution=resolution, output=output)
        conditional.check(classes, embed)
        mlp.check_sizes(channels, resolution, hidden)
        self.classes, label = classes, Beside(classes=classes, embed=embed)
        dense = Dense(norm=norm, activation=activation, slope=slope, dropout=dropout)
        self.blocks = mlp.from_noise(latent, hidden, dense, label=label)
        self.to_image = mlp.to_image(hidden[-1], channels, resolution)
        layers.initialise(self, **init)


class Discriminator(base.Discriminator):
    """D(x, y): every pixel and the label through dense layers to a score. Mirza & Osindero 2014, figure 1."""

    def __init__(
        self, *, classes: int, embed: int | None, channels: int, resolution: int, hidden: Sequence[int], norm: str,
        activation: str, pieces: int, slope: float, input_dropout: float, dropout: float, epilogue: Epilogue | None,
        output: str, init: Mapping[str, Any],
    ):  # fmt: skip
        super().__init__(channels=channels, resolution=resolution, output=output)
        conditional.check(classes, embed)
        mlp.check_sizes(channels, resolution, hidden)
        self.classes, label = classes, Beside(classes=classes, embed=embed)
        dense = Dense(norm=norm, activation=activation, slope=slope, dropout=dropout, pieces=pieces)
        pixels = channels * resolution**2
        self.blocks = mlp.from_image(pixels, hidden, dense, input_dropout, first_dropout=False, label=label)
        self.head = base.head((hidden[-1],), epilogue, bias=True)
        layers.initialise(self, **init)
