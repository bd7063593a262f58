#!/usr/bin/env python3
"""What growing gains: images per second, and quality at equal time, beside training at the full size from the start.

    scripts/growing.py [--steps 600] [--file found.json] [experiment=progan and other overrides]

Two runs of one seed, settings and data: one grows, the other has `game.start` at the full size. They train in one
process in short turns, and the clock is the processor's, so that a busy machine slows both alike.

Speed: in each phase of growing both train a few steps in turns; the ratio is the median of the rounds.
Quality: the growing run trains `--steps` steps, of which its schedule takes three fifths; the other one as many as fit
into the same time. At each quarter both are measured against the same held-out images: `quality` and the mean sliced
Wasserstein distance, of which lower is better. What is found is written to `--file`, and not done again by a next call.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from ganrun.config.build import build
from ganrun.config.compose import compose
from ganrun.core.context import Progress
from ganrun.core.seeding import reseed
from ganrun.games.growing import GrowingGame
from ganrun.machine import processor_name
from ganrun.metrics.comparison import QUALITY, Comparison, joined, spaces
from ganrun.metrics.requested import Requested
from ganrun.run.measuring import CHUNK, drawn, held_out_images
from ganrun.run.turns import Turns

QUARTERS = 4
GROWS = 0.6  # the share of a run's steps in which it grows
LONG = 10**6  # thousands of images: a phase that does not end while its speed is measured


class Side:
    """One of the two runs, which trains in turns."""

    def __init__(self, overrides: Sequence[str]):
        self.run, self.seconds = build(compose(list(overrides))), 0.0
        self.turns = Turns(self.run)
        assert isinstance(self.run.game, GrowingGame), "a run with game=growing is measured"
        self.game = self.run.game

    @property
    def full(self) -> int:
        """The resolution of the data, in pixels."""
        return self.game.course.resolutions[-1]

    def train(self, steps: int) -> float:
        """The seconds that this number of steps takes."""
        spent = self.turns.work(steps)
        self.seconds += spent
        return spent

    def go_to(self, images: int) -> None:
        """Go on as if this many images had been seen, at a step at which the schedule is looked up."""
        step = self.turns.now.step
        self.turns.now = Progress(step - step % self.game.repeats, images)

    def speed(self, steps: int) -> float:
        """Images per second of this number of steps."""
        before = self.turns.now.images
        spent = self.train(steps)
        return (self.turns.now.images - before) / spent

    def measure(self, samples: int) -> dict[str, float]:
        """The quality and the mean SWD of samples, against held-out images."""
        held_out = held_out_images(self.run, samples)
        reals, condition = held_out[self.game.target].images, self.game.condition_of(held_out)
        reseed(0, "growing")
        images = torch.cat(list(drawn(self.game, samples, condition)))
        comparison = Comparison(joined(map(spaces, reals.split(CHUNK))))
        found = {QUALITY: comparison.measure(joined(map(spaces, images.split(CHUNK))))[QUALITY]}
        return found | {"swd": Requested(reals, swd=True, ms_ssim=False).measure(images)["swd_mean_held_out"]}


def speeds(overrides: Sequence[str], *, rounds: int, turn: int) -> list[dict[str, Any]]:
    """Images per second of both in each phase of growing, and the ratio: the median over the rounds."""
    grown = Side([*overrides, f"game.stabilise={LONG}", f"game.fade={LONG}"])
    whole = Side([*overrides, f"game.start={grown.full}"])
    found = []
    for phase in range(2 * len(grown.game.course.resolutions) - 1):
        half = LONG * 1000 // 2  # in the midst of a phase
        pairs = []
        for _ in range(rounds + 1):
            grown.go_to(phase * 2 * half + half)
            pairs.append((grown.speed(turn), whole.speed(turn)))
        pairs = pairs[1:]  # the first warms up
        found.append({
            "moment": grown.game.moment, "batch": grown.game.shape.images,
            "growing": median(one for one, _ in pairs), "full size": median(other for _, other in pairs),
            "ratio": median(one / other for one, other in pairs),
            "ratios": [one / other for one, other in pairs],
        })  # fmt: skip
        print(speed_row(found[-1]), flush=True)
    return found


def qualities(overrides: Sequence[str], *, steps: int, turn: int, samples: int) -> list[dict[str, Any]]:
    """Both runs at each quarter of the growing one's steps: seconds, steps, quality and SWD."""
    grown = Side(overrides)
    doublings, batch = len(grown.game.course.resolutions) - 1, grown.run.settings["batch"]
    thousands = GROWS * steps * batch / (2 * doublings) / 1000
    grown = Side([*overrides, f"game.stabilise={thousands}", f"game.fade={thousands}"])
    whole, found = Side([*overrides, f"game.start={grown.full}"]), []
    for quarter in range(1, QUARTERS + 1):
        while (left := steps * quarter // QUARTERS - grown.turns.now.step) > 0:
            grown.train(min(turn, left))
            while whole.seconds < grown.seconds:
                whole.train(1)
        row: dict[str, Any] = {"seconds": grown.seconds}
        for name, side in (("growing", grown), ("full size", whole)):
            row[name] = {"step": side.turns.now.step, "images": side.turns.now.images, **side.measure(samples)}
        found.append(row | {"moment": grown.game.moment})
        print(quality_row(found[-1]), flush=True)
    return found


def speed_row(one: dict[str, Any]) -> str:
    """A row of the first table."""
    spread = f"{min(one['ratios']):.2f} to {max(one['ratios']):.2f}"
    return (f"| {one['moment']} | {one['batch']} | {one['growing']:.0f} | {one['full size']:.0f} | "
            f"{one['ratio']:.2f} ({spread}) |")  # fmt: skip


def quality_row(one: dict[str, Any]) -> str:
    """A row of the second table."""
    sides = [one["growing"], one["full size"]]
    cells = [f"{side['step']:,} | {side[QUALITY]:.1f} | {side['swd']:.0f}" for side in sides]
    return f"| {one['seconds']:.0f} s | {one['moment']} | " + " | ".join(cells) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600, help="of the growing run, for quality; 0: speed alone")
    parser.add_argument("--rounds", type=int, default=5, help="of each phase, for speed; 0: quality alone")
    parser.add_argument("--turn", type=int, default=5, help="steps of one run before it is the other's turn")
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--file", type=Path, help="where what is found is kept")
    parser.add_argument("overrides", nargs="*", help="experiment=progan without any")
    options = parser.parse_args()
    overrides = options.overrides or ["experiment=progan"]
    about = {"overrides": overrides, "steps": options.steps, "rounds": options.rounds, "turn": options.turn}
    kept = json.loads(options.file.read_text()) if options.file and options.file.exists() else {}
    found: dict[str, Any] = kept if kept.get("about") == about else {"about": about}
    print(f"{processor_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print("| phase | batch | growing, images/s | full size | ratio |\n|---|---|---|---|---|")
    if "speed" in found:
        print("\n".join(map(speed_row, found["speed"])))
    elif options.rounds:
        found["speed"] = speeds(overrides, rounds=options.rounds, turn=options.turn)
        _keep(found, options.file)
    print("\n| time | growing is at | its steps | its quality | its SWD | steps at full size | quality | SWD |")
    print("|" + "---|" * 8)
    if "quality" in found:
        print("\n".join(map(quality_row, found["quality"])))
    elif options.steps:
        found["quality"] = qualities(overrides, steps=options.steps, turn=options.turn, samples=options.samples)
        _keep(found, options.file)
    return 0


def _keep(found: dict[str, Any], file: Path | None) -> None:
    if file is not None:
        file.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
