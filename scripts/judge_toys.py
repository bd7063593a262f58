"""Evaluates runs on 2-D mixtures (dataset=ring, dataset=grid): mode coverage and quality of their samples.

    python scripts/judge_toys.py RUN [RUN ...] [--samples 2500] [--seed 0] [--json | --markdown]

A row for each run; with --markdown one for all runs whose settings differ in the seed only, with their mean and range.
A sample is good within three standard deviations of the nearest mode, a mode is covered when it is the nearest one of
at least one good sample (ganrun/metrics/modes.py). `least` is the number of good samples of the rarest mode over its
fair share. Exit code 1 when a run misses a mode or has less than 90 % good samples.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import mean

from ganrun.config.resume import earlier_overrides
from ganrun.core.errors import ConfigError
from ganrun.metrics.modes import SAMPLES, Modes, measure_modes
from ganrun.run.draw import draw
from ganrun.run.load import load_run

GOOD = 0.9  # what a run must reach, besides every mode


def found_in(path: Path, samples: int, seed: int) -> tuple[int, Modes]:
    """The step that a run has reached, and the coverage of its samples."""
    run, step = load_run(path)
    run.data.close()
    return step, measure_modes(draw(run.game, samples, seed=seed), run.source.dataset)


def row(path: Path, step: int, modes: Modes) -> str:
    return f"{path!s:<40} {step:>7} {modes.covered:>5} /{modes.total:>3} {modes.good:>7.1%} {modes.least:>6.2f}"


def settings(path: Path) -> tuple[str, ...]:
    """The overrides of a run, without its seed."""
    return tuple(line for line in earlier_overrides(path) if not line.startswith("seed="))


def table(found: Mapping[tuple[str, ...], list[Modes]]) -> str:
    """A row of Markdown for each setting: the mean over its runs, and the least and the largest."""
    lines = ["| settings | runs | modes covered | good samples |", "|---|---|---|---|"]
    for typed, runs in found.items():
        covered, good = [run.covered for run in runs], [100 * run.good for run in runs]
        modes = f"{mean(covered):.1f} of {runs[0].total} ({min(covered)} to {max(covered)})"
        share = f"{mean(good):.1f} % ({min(good):.1f} to {max(good):.1f})"
        lines.append(f"| `{' '.join(typed)}` | {len(runs)} | {modes} | {share} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="a line of JSON for each run instead of the table")
    parser.add_argument("--markdown", action="store_true", help="a row for all runs that differ in the seed only")
    arguments = parser.parse_args()
    if not (arguments.json or arguments.markdown):
        print(f"{'run':<40} {'step':>7} {'modes':>10} {'good':>7} {'least':>6}")
    reached, alike = True, defaultdict(list)
    for path in arguments.runs:
        step, modes = found_in(path, arguments.samples, arguments.seed)
        row_of = {"run": str(path), "step": step, "samples": arguments.samples, **modes._asdict()}
        alike[settings(path)].append(modes)
        if not arguments.markdown:
            print(json.dumps(row_of) if arguments.json else row(path, step, modes), flush=True)
        reached &= modes.covered == modes.total and modes.good >= GOOD
    if arguments.markdown:
        print(table(alike))
    return 0 if reached else 1


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except ConfigError as refusal:
        print("\n".join(refusal.lines), file=sys.stderr)
        raise SystemExit(2) from None
