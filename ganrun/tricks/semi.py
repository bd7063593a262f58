"""Learning with labels for few images: K classes and fake."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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

HERE = "tricks.semi_supervised"
CHUNK = 500  # images judged at once when errors are counted


class SemiSupervised(Trick):
    """Teach D the classes of a few labelled images; all others teach it what is real. Salimans et al. 2016, section 5.

    weight * E -log p(y | x, y <= K) over a batch of the labelled images, drawn anew at each update with replacement.
    The score of D is the log of the sum of exp of its K logits, so that the adversarial loss is the paper's
    L_unsupervised as it stands: the K + 1st logit is 0. `labelled` images of each class, chosen by `seed`. At each log
    the error on images that are kept out of training is measured, without dropout, when the data have such.
    """

    traits = Traits(needs=facts(Fact.CLASS_SCORE, Fact.PROBABILITY))
    images: Tensor  # [M, C, H, W] the labelled images; found again from the data, so no state
    labels: Tensor  # [M]
    test: Batch | None = None

    def __init__(self, *, weight: float, labelled: int, seed: int):
        super().__init__()
        limits.number(f"{HERE}.weight", weight, 0)
        limits.whole(f"{HERE}.labelled", labelled, 1)
        limits.whole(f"{HERE}.seed", seed, 0)
        self.weight, self.labelled, self.seed = weight, labelled, seed

    def on_data(self, pair: PairView, examples: Examples) -> None:
        """Choose the labelled images, and find those that are kept out."""
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
            raise ConfigError(f"{HERE}.labelled", f"{self.labelled}, and a class has {least} images", f"up to {least}",
                          f"{HERE}.labelled={max(least, 1)}")  # fmt: skip
        return torch.cat(chosen)

    def discriminator_term(self, context: Context) -> Tensor:
        drawn = torch.randint(len(self.labels), (len(context.on_fake.score),), device=self.labels.device)
        images, labels = self.images.index_select(0, drawn), self.labels.index_select(0, drawn)
        return self.weight * F.cross_entropy(context.pair.judge(images).heads["class"], labels)

    def log_metrics(self, pair: PairView) -> Mapping[str, float]:
        if self.test is None or self.test.labels is None:
            return {}
        return {"test_error": error(pair.discriminator, self.test.images, self.test.labels)}


def error(net: Any, images: Tensor, labels: Tensor) -> float:
    """The share of images whose largest logit is of another class than theirs; without dropout."""
    with evaluating(net):
        named = torch.cat([net(chunk).heads["class"].argmax(1) for chunk in images.split(CHUNK)])
    return (named != labels).float().mean().item()
