"""Evaluates an InfoGAN run: whether a categorical code matches the classes of the data, without their labels.

    scripts/judge_codes.py RUN [--code 0] [--json]

Each real image gets the code that is most probable under Q. Codes are then assigned to classes one to one so that most
images are right, as in Chen et al. 2016, section 7.2. The share that is right is compared with what the same matching
gives for shuffled labels, the mean and the largest of 200 shuffles. Exit code 1 unless the share is above the largest.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ganrun.data.transforms.value_range import to_units
from ganrun.run.load import load_run

SHUFFLES, CHUNK = 200, 500


def matched(codes: Tensor, labels: Tensor) -> float:
    """The share of images whose code is assigned to their class, for the best one-to-one assignment. [N], [N] -> []"""
    size = int(max(codes.max(), labels.max())) + 1
    table = np.zeros((size, size))
    np.add.at(table, (codes.numpy(), labels.numpy()), 1)
    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(table[rows, columns].sum() / len(codes))


def chance(codes: Tensor, labels: Tensor) -> tuple[float, float]:
    """The same share for shuffled labels: mean and largest of many shuffles. [N], [N]"""
    torch.manual_seed(0)
    found = [matched(codes, labels[torch.randperm(len(labels))]) for _ in range(SHUFFLES)]
    return sum(found) / len(found), max(found)


@torch.no_grad()
def read_codes(net: torch.nn.Module, images: Tensor, code: int) -> Tensor:
    """The most probable value of this categorical code under Q, for each image. [N, C, H, W] -> [N]"""
    net.eval()
    return torch.cat([net(chunk).heads[f"category_{code}"].argmax(1).cpu() for chunk in images.split(CHUNK)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--code", type=int, default=0, help="which categorical code")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    run, step = load_run(options.run)
    images, labels = run.source.dataset.bulk()
    assert labels is not None, "the data have no classes"
    codes = read_codes(run.game.pairs["main"].discriminator, to_units(images).to(run.device), options.code)  # type: ignore[arg-type]
    mean, largest = chance(codes, labels)
    found = {"step": step, "accuracy": matched(codes, labels), "chance": mean, "largest_of_shuffles": largest,
             "images_of_each_code": torch.bincount(codes).tolist()}  # fmt: skip
    text = ", ".join(
        f"{key} {value:.3f}" if isinstance(value, float) else f"{key} {value}" for key, value in found.items()
    )
    print(json.dumps(found) if options.json else text)
    return int(found["accuracy"] <= largest)  # type: ignore[operator]


if __name__ == "__main__":
    sys.exit(main())
