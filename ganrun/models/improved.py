"""The CIFAR-10 networks of Improved Techniques for Training GANs. Salimans et al. 2016; improved-gan, train_cifar_*."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ganrun.core import limits
from ganrun.core.context import DiscriminatorOutput
from ganrun.core.facts import Fact
from ganrun.core.traits import Traits
from ganrun.models import base, dcgan, layers
from ganrun.models.epilogues import Epilogue
from ganrun.models.layers import After, stack

RESOLUTIONS = (16, 32, 64, 128)
STEPS = (1, 1, 2)  # strides of the three convolutions of each stage


class Generator(dcgan.Generator):
    """A DCGAN's, with kernels of 5. The paper's last layer has weight norm too, which is left out."""


class Discriminator(base.Discriminator):
    """Two stages of three convolutions, one without a border, two of 1x1, a mean over pixels, one logit a class.

    With `classes` above 1 an image is of one of K classes or fake, K + 1 in all, and the logit of fake is fixed at 0:
    p(real) = Z / (Z + 1) with Z = sum over k of exp l_k, so that the score, a logit, is log Z. Salimans et al. 2016,
    section 5. The logits are the head "class".
    """

    def __init__(
        self, *, channels: int, resolution: int, width: int, classes: int, activation: str, slope: float,
        input_dropout: float, dropout: float, epilogue: Epilogue | None, output: str, init: Mapping[str, Any],
    ):  # fmt: skip
        super().__init__(channels=channels, resolution=resolution, output=output)
        limits.resolution(".resolution", resolution, RESOLUTIONS)
        limits.whole(".channels", channels, 1, 4)
        limits.whole(".width", width, 1)
        limits.whole(".classes", classes, 1)
        limits.number(".input_dropout", input_dropout, 0, 1)
        after = After(norm="none", activation=activation, slope=slope, dropout=0.0)
        limits.number(".dropout", dropout, 0, 1)
        pixels, *drops = (layers.dropout(p) for p in (input_dropout, dropout, dropout))
        self.blocks = nn.Sequential(
            stack(pixel_dropout=pixels, **_stage(channels, width, after), dropout=drops[0]),
            stack(**_stage(width, 2 * width, after), dropout=drops[1]),
            stack(conv=nn.Conv2d(2 * width, 2 * width, 3), **after(2 * width)),
            stack(conv=nn.Conv2d(2 * width, 2 * width, 1), **after(2 * width)),
            stack(conv=nn.Conv2d(2 * width, 2 * width, 1), **after(2 * width), pool=layers.Pool(kind="mean")),
        )
        self.head = base.head((2 * width,), epilogue, outputs=classes, bias=True)
        self.logits = classes
        layers.initialise(self, **init)

    @property
    def traits(self) -> Traits:
        """As of any discriminator; with several classes, that the score is the log-sum-exp of their logits."""
        own = super().traits
        return replace(own, provides=own.provides | {Fact.CLASS_SCORE}) if self.logits > 1 else own

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        """[B, C, H, W] -> score [B], features, and with several classes their logits [B, K]. Labels are not read."""
        features = self.hidden(images)
        logits = self.head(features[-1]).float()
        if self.logits == 1:
            return DiscriminatorOutput(self.squash(logits).squeeze(1), features)
        return DiscriminatorOutput(self.squash(torch.logsumexp(logits, 1)), features, {"class": logits})


def _stage(inputs: int, outputs: int, after: After) -> dict[str, nn.Module | None]:
    """Three convolutions that end at half the size. All names but those of the last are numbered."""
    parts: dict[str, nn.Module | None] = {}
    for number, stride in enumerate(STEPS):
        tag = "" if number == len(STEPS) - 1 else str(number)
        parts[f"conv{tag}"] = nn.Conv2d(outputs if number else inputs, outputs, 3, stride=stride, padding=1)
        parts[f"activation{tag}"] = after(outputs)["activation"]
    return parts
