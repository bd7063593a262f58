"""Evaluates a run on the digits: the classes of its samples, and a classifier's confidence in them.

    scripts/judge_digits.py RUN [--samples 1000] [--json]

The classifier, a small convolutional network, is trained here on four fifths of the real digits; its accuracy is
measured on the rest. Exit code 1 when a class has less than 4 % or more than 18 % of the samples, or the median
confidence is below 0.85. Of a conditional run equally many samples of each class are drawn, and the agreement is the
share of samples that the classifier assigns to the class that they were made for. Images of another size are resized
to 32 pixels.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from ganrun.core.seeding import generator
from ganrun.metrics.digit_classifier import predict, resized, train
from ganrun.run.draw import draw
from ganrun.run.load import load_run

SHARE, CONFIDENCE = (0.04, 0.18), 0.85  # what the default run must reach


def evaluate(path: Path, samples: int, seed: int) -> dict[str, object]:
    """The measurements by name."""
    run, step = load_run(path)
    real = run.source.examples(len(run.source.dataset))
    assert real.labels is not None
    order = torch.randperm(len(real.images), generator=generator(seed, "split"))
    cut = len(order) * 4 // 5
    images, labels = resized(real.images), real.labels
    net = train(images[order[:cut]], labels[order[:cut]], seed)
    held_classes, held_confidence = predict(net, images[order[cut:]])
    wanted = torch.arange(samples) % run.game.classes if run.game.classes else None
    classes, confidence = predict(net, resized(draw(run.game, samples, seed=seed, labels=wanted)))
    noise = torch.rand(500, *images.shape[1:], generator=generator(seed, "noise")) * 2 - 1
    run.data.close()
    return {
        "step": step,
        "samples": samples,
        "shares": [round(share, 4) for share in (classes.bincount(minlength=10) / samples).tolist()],
        "median_confidence": round(confidence, 4),
        "held_out_accuracy": round((held_classes == labels[order[cut:]]).float().mean().item(), 4),
        "held_out_median_confidence": round(held_confidence, 4),
        "noise_median_confidence": round(predict(net, noise)[1], 4),
    } | agreement(classes, wanted, run.game.classes)


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
