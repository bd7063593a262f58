"""Auxiliary classifier: the discriminator also learns the class of an image."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ganrun.core import across, limits
from ganrun.core.context import Context, DiscriminatorOutput
from ganrun.core.facts import Fact
from ganrun.core.traits import Traits, facts
from ganrun.core.trick import Trick


class AuxiliaryClassifier(Trick):
    """Auxiliary classifier loss of AC-GAN. Odena et al. 2017, equations 2 and 3.

    The cross-entropy of D's class logits [B, K]: D minimises it on reals and fakes, G on fakes. The cross-entropy
    contains the softmax: a head that ended in one of its own could not get below 1.461 for ten classes.
    """

    traits = Traits(needs=facts(Fact.LABELLED, Fact.CLASS_HEAD))
    right_real: Tensor  # [] share of reals whose class D predicts
    right_fake: Tensor  # [] share of fakes for which D predicts the class they were made for

    def __init__(self, *, real: float, fake: float, generator: float):
        """`real` and `fake` weigh the terms of D, `generator` that of G. Raises ConfigError for a negative weight."""
        super().__init__()
        for name, weight in (("real", real), ("fake", fake), ("generator", generator)):
            limits.number(f".{name}", weight, 0)
        self.real, self.fake, self.generator = real, fake, generator
        self.register_buffer("right_real", torch.zeros(()))
        self.register_buffer("right_fake", torch.zeros(()))

    def observe(self, context: Context) -> None:
        for output, right in ((context.on_real, self.right_real), (context.on_fake, self.right_fake)):
            assert context.labels is not None
            right.copy_(across.mean(_logits(output).argmax(1).eq(context.labels).float().mean()))

    def discriminator_term(self, context: Context) -> Tensor:
        on_real = self.real * cross_entropy(context.on_real, context.labels)
        return on_real + self.fake * cross_entropy(context.on_fake, context.labels)

    def generator_term(self, context: Context) -> Tensor:
        return self.generator * cross_entropy(context.on_fake, context.labels)

    def metrics(self) -> Mapping[str, Tensor]:
        return {"accuracy/real": self.right_real, "accuracy/fake": self.right_fake}


def cross_entropy(output: DiscriminatorOutput | None, labels: Tensor | None) -> Tensor:
    """The mean of -log softmax(logits [B, K]) at the labels [B], in float32. []"""
    return F.cross_entropy(_logits(output), labels)  # type: ignore[arg-type]


def _logits(output: DiscriminatorOutput | None) -> Tensor:
    assert output is not None
    return output.heads["class"].float()
