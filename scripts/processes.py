#!/usr/bin/env python3
"""How much faster two processes train a run than one.

    python scripts/processes.py [--rounds 5] [--steps 200] [overrides]

Whole runs take turns: one process with one thread, two processes with one thread each, and one process with two
threads. Measured are images/s of wall time between the first logged step and the last, without start, metrics and
diagnosis. The machine has to be idle. Efficiency is the rate of two over twice that of one, median of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from ganrun.machine import processor_name

SIDES = {"1 process": (1, 1), "2 processes": (2, 1), "1 process, 2 threads": (1, 2)}  # name -> processes, threads
QUIET = ["metrics=none", "diagnosis=none", "log.every=20"]


def rate(overrides: Sequence[str], steps: int, processes: int, threads: int) -> float:
    """Images a second of one run. Raises subprocess.CalledProcessError where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = [*QUIET, *overrides, f"steps={steps}", f"engine.ranks={processes}", f"hydra.run.dir={folder}"]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-m", "ganrun", *chosen]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    first, last = lines[0], lines[-1]
    return (last["training/images"] - first["training/images"]) / (last["time"] - first["time"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200)
    given, overrides = parser.parse_known_args()
    rates: dict[str, list[float]] = {name: [] for name in SIDES}
    for number in range(given.rounds):
        for name in list(SIDES)[:: 1 if number % 2 else -1]:
            rates[name].append(rate(overrides, given.steps, *SIDES[name]))
    print(f"{processor_name()}: {' '.join(overrides)}")
    for name, found in rates.items():
        ratios = [one / other for one, other in zip(found, rates["1 process"], strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"{name:<20} {median(found):8.0f} images/s  {median(ratios):.2f} of one ({spread})")
    pairs = zip(rates["2 processes"], rates["1 process"], strict=True)
    print(f"efficiency of two processes: {median(two / one / 2 for two, one in pairs):.0%}")


if __name__ == "__main__":
    main()
