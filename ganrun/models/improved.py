"""The CIFAR-10 networks of Improved Techniques for Training GANs. Salimans et al. 2016; improved-gan, train_cifar_*."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ganrun.core import limits
from ganrun.core.context import DiscriminatorOutput
from ganrun.core.facts import Fact
from ganrun.core.traits import Traits, facts
from ganrun.models import base, dcgan, layers
from ganrun.models.epilogues import Epilogue
from ganrun.models.layers import stack

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
        self,
        *,
        channels: int,
        resolution: int,
        width: int,
        classes: int,
        activation: str,
        slope: float,
        input_dropout: float,
        dropout: float,
        epilogue: Epilogue | None,
        output: str,
        init: Mapping[str, Any],
    ):
        super().__init__(channels=channels, resolution=resolution, output=output)
        here = "model.discriminator"
        limits.resolution(f"{here}.resolution", resolution, RESOLUTIONS)
        for key, value, most in (("channels", channels, 4), ("width", width, None), ("classes", classes, None)):
            limits.whole(f"{here}.{key}", value, 1, most)
        limits.number(f"{here}.input_dropout", input_dropout, 0, 1)
        after = layers.After(where=here, norm="none", activation=activation, slope=slope, dropout=0.0)
        limits.number(f"{here}.dropout", dropout, 0, 1)
        pixels, *drops = (layers.dropout(p) for p in (input_dropout, dropout, dropout))
        self.blocks = nn.Sequential(
            stack(pixel_dropout=pixels, **_stage(channels, width, after), dropout=drops[0]),
            stack(**_stage(width, 2 * width, after), dropout=drops[1]),
            stack(conv=nn.Conv2d(2 * width, 2 * width, 3), **after(2 * width)),
            stack(conv=nn.Conv2d(2 * width, 2 * width, 1), **after(2 * width)),
            stack(conv=nn.Conv2d(2 * width, 2 * width, 1), **after(2 * width), pool=layers.Pool(kind="mean")),
        )
        self.head = _classes((2 * width,), epilogue, classes)
        self.logits = classes
        layers.initialise(self, f"{here}.init", **init)

    @property
    def traits(self) -> Traits:
        own = super().traits
        given = own.provides | (facts(Fact.CLASS_SCORE) if self.logits > 1 else facts())
        return Traits(provides=given, invalidates=own.invalidates, prefers=own.prefers)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        """[B, C, H, W] -> score [B], features, and with several classes their logits [B, K]. Labels are not read."""
        features = []
        hidden = images
        for block in self.blocks:
            hidden = block(hidden)
            features.append(hidden)
        logits = self.head(hidden).float()
        if self.logits == 1:
            return DiscriminatorOutput(self.squash(logits).squeeze(1), tuple(features))
        return DiscriminatorOutput(self.squash(torch.logsumexp(logits, 1)), tuple(features), {"class": logits})


def _stage(inputs: int, outputs: int, after: layers.After) -> dict[str, nn.Module | None]:
    """Three convolutions that end at half the size. Names are numbered, but for the last."""
    parts: dict[str, nn.Module | None] = {}
    for number, stride in enumerate(STEPS):
        tag = "" if number == len(STEPS) - 1 else str(number)
        parts[f"conv{tag}"] = nn.Conv2d(outputs if number else inputs, outputs, 3, stride=stride, padding=1)
        parts[f"activation{tag}"] = after(outputs)["activation"]
    return parts


def _classes(shape: Sequence[int], epilogue: Epilogue | None, classes: int) -> nn.Sequential:
    """From the last features to a logit for each class."""
    inputs = epilogue.fit(shape) if epilogue else shape[0]
    return stack(epilogue=epilogue, score=nn.Linear(inputs, classes))
