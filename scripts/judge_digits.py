"""Evaluates a run on the digits: the classes of its samples, and a classifier's confidence in them.

    scripts/judge_digits.py RUN [--samples 1000] [--json]

The classifier, a small convolutional network, is trained here on the real digits that the run trains on; its accuracy
is measured on those held out, or on a fifth where none are. A sample is accepted when its confidence is above that of
the least confident 5 % of these. Exit code 1 when a class has less than 4 % or more than 18 % of the samples, or the
median confidence is below 0.85. Of a conditional run equally many samples of each class are drawn, and the agreement is
the share of samples that the classifier assigns to the class that they were made for. Images of another size are
resized to 32 pixels.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from ganrun.core.context import Condition
from ganrun.core.seeding import generator
from ganrun.data.sources.source import Source
from ganrun.metrics.classifier import accepted, classify, predict, resized, train
from ganrun.run.draw import draw
from ganrun.run.load import load_run

SHARE, CONFIDENCE = (0.04, 0.18), 0.85  # what the default run must reach


def evaluate(path: Path, samples: int, seed: int) -> dict[str, object]:
    """The measurements by name."""
    run, step = load_run(path)
    (images, labels), (others, other_labels) = reals(run.source, seed)
    net = train(images, labels, seed)
    held = classify(net, others)
    wanted = torch.arange(samples) % run.game.classes if run.game.classes else None
    found = classify(net, draw(run.game, samples, seed=seed, condition=Condition(labels=wanted)))
    noise = torch.rand(500, *images.shape[1:], generator=generator(seed, "noise")) * 2 - 1
    run.data.close()
    return {
        "step": step,
        "samples": samples,
        "shares": [round(share, 4) for share in (found.classes.bincount(minlength=10) / samples).tolist()],
        "median_confidence": round(found.confidence.median().item(), 4),
        "accepted": round(accepted(held, found), 4),
        "held_out_accuracy": round((held.classes == other_labels).float().mean().item(), 4),
        "held_out_median_confidence": round(held.confidence.median().item(), 4),
        "noise_median_confidence": round(predict(net, noise)[1], 4),
    } | agreement(found.classes, wanted, run.game.classes)


def reals(source: Source, seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Images [N, 1, 32, 32] and labels [N] to train the classifier on, and others to measure it by."""
    real, held_out = source.examples(len(source.dataset)), source.held_out()
    assert real.labels is not None
    if held_out is not None and held_out.labels is not None:
        return (resized(real.images), real.labels), (resized(held_out.images), held_out.labels)
    order = torch.randperm(len(real.images), generator=generator(seed, "split"))
    first, rest = order[: len(order) * 4 // 5], order[len(order) * 4 // 5 :]
    images = resized(real.images)
    return (images[first], real.labels[first]), (images[rest], real.labels[rest])


def agreement(classes: Tensor, wanted: Tensor | None, count: int) -> dict[str, object]:
    """The share of samples in the class they were made for, of all and of each class. [N], [N]"""
    if wanted is None:
        return {}
    right = (classes == wanted).float()
    each = [round(right[wanted == label].mean().item(), 4) for label in range(count)]
    return {"agreement": round(right.mean().item(), 4), "agreement_of_each_class": each}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = evaluate(arguments.run, arguments.samples, arguments.seed)
    shares, confidence = found["shares"], found["median_confidence"]
    assert isinstance(shares, list) and isinstance(confidence, float)
    if arguments.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:<28}{value}")
    good = all(SHARE[0] <= share <= SHARE[1] for share in shares) and confidence >= CONFIDENCE
    if not arguments.json:
        print(f"{'targets':<28}{'met' if good else 'missed'}: shares {SHARE}, median confidence from {CONFIDENCE}")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
