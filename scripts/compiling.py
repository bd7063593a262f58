#!/usr/bin/env python3
"""What `engine.compile=true` costs at the start, and gains in each step; or, on a GPU, what `engine.capture` does.

    OMP_NUM_THREADS=1 python scripts/compiling.py [--rounds 9] [--turn 5] [overrides]
    python scripts/compiling.py --captured [--rounds 9] [--turn 20] engine.device=cuda [overrides]

The run of the overrides trains in turns of a few steps as three: as it is, with fresh fakes for G
(`updates.share_fakes=false`, which compiling needs), and with these compiled; or as two, as it is and recorded. The
clock is the processor's, so that a busy machine slows all alike, and on a GPU that on the wall; ratios to the first are
medians of the rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from statistics import median

import torch

from ganrun.config.build import build
from ganrun.config.compose import compose
from ganrun.config.validate import value_of
from ganrun.core.captured import WARM_UP
from ganrun.machine import device_name, find_device
from ganrun.run.turns import ENDLESS, Turns

BASE = ["metrics=none", "diagnosis=none", f"steps={ENDLESS}"]
FRESH = ["updates.share_fakes=false"]
SIDES = {"as it is": [], "fresh fakes": FRESH, "compiled": [*FRESH, "engine.compile=true"]}
ON_GPU = {"as it is": ["engine.capture=false"], "captured": ["engine.capture=true"]}
WARM = WARM_UP + 1  # steps


def measure(
    ways: Mapping[str, Sequence[str]], overrides: Sequence[str], *, rounds: int, turn: int
) -> tuple[float, dict[str, list[float]]]:
    """The seconds until the last of these ways has trained its first steps, and those of each one's turns by round."""
    sides = {name: Turns(build(compose([*BASE, *overrides, *own]))) for name, own in ways.items()}
    for turns in sides.values():
        began = time.monotonic()
        turns.work(WARM)
    started = time.monotonic() - began  # of the last, which compiles or records
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides)[:: 1 if number % 2 else -1]:
            spent[name].append(sides[name].work(turn))
    return started, spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--turn", type=int, default=5, metavar="STEPS")
    parser.add_argument("--captured", action="store_true", help="compare with engine.capture, on a GPU")
    given, overrides = parser.parse_known_args()
    ways = ON_GPU if given.captured else SIDES
    started, spent = measure(ways, overrides, rounds=given.rounds, turn=given.turn)
    machine = device_name(find_device(value_of(compose([*BASE, *overrides]), "engine.device")))
    print(f"{machine}, {torch.get_num_threads()} threads, torch {torch.__version__}: {' '.join(overrides)}")
    print(f"the first {WARM} steps of the last: {started:.1f} s")
    base = spent["as it is"]
    for name, seconds in spent.items():
        ratios = [one / other for one, other in zip(seconds, base, strict=True)]
        step = median(seconds) / given.turn * 1000
        print(f"{name:<12} {step:8.2f} ms a step  {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
