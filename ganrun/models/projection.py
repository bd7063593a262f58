"""Norms for each class in G, projection of the label in D, on DCGAN's shapes. Miyato & Koyama 2018."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from ganrun.models import conditional, layers
from ganrun.models.conditional import ConditionalBatchNorm, Score, block
from ganrun.models.dcgan_shape import DoublingGenerator, HalvingDiscriminator
from ganrun.models.layers import After


class Generator(DoublingGenerator):
    """DCGAN's generator, which labels reach through conditional batch norm alone. Their section 5 and figure 14."""

    mixes_labels = True  # shares of each class are taken too

    def __init__(
        self, *, latent: int, classes: int, channels: int, resolution: int, width: int, max_width: int, kernel: int,
        top_kernel: int, activation: str, slope: float, output: str, init: Mapping[str, Any],
    ):  # fmt: skip
        conditional.check(classes)
        norm = partial(ConditionalBatchNorm, classes=classes)
        super().__init__(
            latent=latent, channels=channels, resolution=resolution, output=output, width=width, max_width=max_width,
            kernel=kernel, top_kernel=top_kernel, top_bias=True,
            after=After(norm="batch", own_norm=norm, activation=activation, slope=slope, dropout=0.0), init=init,
        )  # fmt: skip
        self.classes = classes


class Discriminator(HalvingDiscriminator):
    """DCGAN's discriminator up to phi(x), summed over pixels; psi(phi(x)) + <embed(y), phi(x)>. Their equation 9."""

    def __init__(
        self, *, classes: int, channels: int, resolution: int, width: int, max_width: int, kernel: int, norm: str,
        activation: str, slope: float, dropout: float, output: str, init: Mapping[str, Any],
    ):  # fmt: skip
        conditional.check(classes)
        super().__init__(
            channels=channels, resolution=resolution, output=output, width=width, max_width=max_width, kernel=kernel,
            after=After(norm=norm, activation=activation, slope=slope, dropout=dropout),
        )  # fmt: skip
        self.classes = classes
        score = Score(features=self.last[0], classes=classes, bias=True)
        self.head = block(pool=layers.Pool(kind="sum"), score=score)
        layers.initialise(self, **init)
