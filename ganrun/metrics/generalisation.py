"""D's generalisation gap: how much lower it scores held-out reals than those it trains on. Karras et al. 2020 (ADA)."""

from __future__ import annotations

import torch

from ganrun.core.context import Batch
from ganrun.core.modes import evaluating
from ganrun.core.pair import Pair
from ganrun.core.trick import Trick

CHUNK = 100  # images that D is given at once
GAP = "generalisation_gap"


def generalisation_gap(pair: Pair, trained: Batch, held_out: Batch, fakes: Batch) -> float | None:
    """ADA's r_v: (E D(trained) - E D(held out)) / (E D(trained) - E D(fake)). Karras et al. 2020, equation 1.

    0: D scores new reals as those it has seen. 1: it takes them for fakes, so that all it knows is by heart. The scale
    and the sign of scores cancel. D computes in evaluation mode, without views. None while it scores trained reals and
    fakes alike. Images are [N, C, H, W], equally many of each, as some layers compare those of a batch.
    """
    seen, new, made = _score(pair, trained, True), _score(pair, held_out, True), _score(pair, fakes, False)
    return None if seen == made else (seen - new) / (seen - made)


@torch.no_grad()
def _score(pair: Pair, batch: Batch, real: bool) -> float:
    """D's mean score of images; of reals as tricks leave them for training, such as dequantised."""
    given, total = batch.condition.tensor, 0.0
    with evaluating(pair.discriminator):
        for start in range(0, len(batch.images), CHUNK):
            images = batch.images[start : start + CHUNK]
            images = pair.tricks.fold(Trick.reals, images) if real else images
            output = pair.discriminator(images, None if given is None else given[start : start + CHUNK])
            total += float(output.score.double().reshape(len(images), -1).mean(1).sum())
    return total / len(batch.images)
