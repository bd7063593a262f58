"""Semi-supervised learning: a discriminator of K classes and fake, with labels for few images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ganrun.core import limits
from ganrun.core.context import Batch, Context, Examples, PairView
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.modes import evaluating
from ganrun.core.seeding import generator
from ganrun.core.traits import Traits, facts
from ganrun.core.trick import Trick

CHUNK = 500  # images classified at once when the test error is measured


class SemiSupervised(Trick):
    """Semi-supervised GAN: D is also a classifier, trained on few labelled images. Salimans et al. 2016, section 5.

    weight * E -log p(y | x, y <= K) over a batch of the labelled images, drawn anew at each update with replacement.
    The score of D is the log-sum-exp of its K logits, with which the adversarial loss is the paper's L_unsupervised:
    the K + 1st logit is 0. `labelled` images of each class are chosen by `seed`. At each log the error on images that
    are kept out of training is measured, without dropout, when the data have such images. It is D's own: the authors'
    code tests with an average of D's weights.
    """

    traits = Traits(needs=facts(Fact.CLASS_SCORE, Fact.PROBABILITY, Fact.SINGLE_SCALE, Fact.ONE_IMAGE))
    images: Tensor | None = None  # [M, C, H, W] the labelled images; found again from the data, so no state
    labels: Tensor | None = None  # [M]
    test: Batch | None = None

    def __init__(self, *, weight: float, labelled: int, seed: int):
        """Raises ConfigError for a negative weight or seed, and for less than one labelled image."""
        super().__init__()
        limits.number(".weight", weight, 0)
        limits.whole(".labelled", labelled, 1)
        limits.whole(".seed", seed, 0)
        self.weight, self.labelled, self.seed = weight, labelled, seed

    def on_data(self, pair: PairView, examples: Examples) -> None:
        """Choose the labelled images, and find those that are kept out of training.

        Raises ConfigError for data without labels, for classes with too few images, and where D has other classes.
        """
        chosen = self._chosen(examples)
        picked = examples.pick(chosen)
        assert picked.labels is not None
        known = pair.discriminator(picked.images[:2]).heads["class"].shape[1]
        if known != len(examples.classes):
            found = f"{known}, but the data have {len(examples.classes)} classes (rule C24)"
            raise ConfigError("model.discriminator.classes", found, "the same",
                          f"model.discriminator.classes={len(examples.classes)}")  # fmt: skip
        self.images, self.labels = picked.images, picked.labels
        self.test = examples.held_out()

    def _chosen(self, examples: Examples) -> Tensor:
        """Indices of the first images of each class in an order that follows from the seed. [M]"""
        labels = examples.labels
        if labels is None:
            raise ConfigError("dataset", "no labels, and semi_supervised learns from some (rule C24)", "labelled data",
                          "dataset=digits")  # fmt: skip
        order = torch.randperm(len(labels), generator=generator(self.seed, "labelled"))
        chosen = [order[labels[order] == kind][: self.labelled] for kind in range(len(examples.classes))]
        least = min(map(len, chosen))
        if least < self.labelled:
            found = f"{self.labelled}, and a class has {least} images"
            raise ConfigError(".labelled", found, f"up to {least}", f".labelled={max(least, 1)}")
        return torch.cat(chosen)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Take the labelled images and those kept out along to another device."""
        super()._apply(fn, recurse)
        if self.images is not None and self.labels is not None:
            self.images, self.labels = fn(self.images), fn(self.labels)
        if self.test is not None:
            self.test = Batch(fn(self.test.images), self.test.condition.each(fn))
        return self

    def discriminator_term(self, context: Context) -> Tensor:
        assert self.images is not None and self.labels is not None
        drawn = torch.randint(len(self.labels), (len(context.on_fake.score),), device=self.labels.device)
        images, labels = self.images.index_select(0, drawn), self.labels.index_select(0, drawn)
        return self.weight * F.cross_entropy(context.pair.judge(images).heads["class"], labels)

    def log_metrics(self, pair: PairView) -> Mapping[str, float]:
        if self.test is None or self.test.labels is None:
            return {}
        return {"test_error": error(pair.discriminator, self.test.images, self.test.labels)}


def error(net: Any, images: Tensor, labels: Tensor) -> float:
    """The classification error on images [N, C, H, W] with labels [N], in evaluation mode. In [0, 1]"""
    with evaluating(net):
        named = torch.cat([net(chunk).heads["class"].argmax(1) for chunk in images.split(CHUNK)])
    return (named != labels).float().mean().item()
