#!/usr/bin/env python3
"""Two runs beside each other: the upper part of the last pictures of their samples, at half their size.

    .venv/bin/python scripts/beside.py OUT.png RUN RUN [--picture step] [--rows 4] [--of 8]

The pictures are those in the folders `samples` of the runs, as they were written while training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

GAP = 12  # pixels between the two
SHRINK = 2  # pixels of a picture that become one


def last_samples(run: Path, picture: str, rows: int, of: int) -> Image.Image:
    """The first `rows` of the `of` rows in a run's last picture."""
    newest = max((run / "samples").glob(f"{picture}_*.png"))
    whole = Image.open(newest).convert("RGB")
    return whole.crop((0, 0, whole.width, whole.height * rows // of)).reduce(SHRINK)


def beside(left: Image.Image, right: Image.Image) -> Image.Image:
    """Both on white, their upper edges on one line."""
    made = Image.new("RGB", (left.width + GAP + right.width, max(left.height, right.height)), "white")
    made.paste(left, (0, 0))
    made.paste(right, (left.width + GAP, 0))
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", type=Path, nargs=2, metavar="run")
    parser.add_argument("--picture", default="step", help="of those in `samples`, such as code_0 or a_to_b")
    parser.add_argument("--rows", type=int, default=4, help="that are shown")
    parser.add_argument("--of", type=int, default=8, help="rows in the pictures of the runs")
    options = parser.parse_args()
    made = beside(*(last_samples(run, options.picture, options.rows, options.of) for run in options.runs))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    made.quantize(64).save(options.out, optimize=True)
    print(f"{made.width}x{made.height} pixels: {options.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
