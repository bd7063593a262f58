#!/usr/bin/env python3
"""One picture of several runs: twenty samples of each under its name, two of each class where the run has classes.

    .venv/bin/python scripts/gallery.py OUT.png RUN [RUN...]

Samples are drawn anew from each run's newest checkpoint, without selection. Runs on 2-D points have other pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from ganrun.core.context import Condition
from ganrun.record.grid import grid
from ganrun.run.draw import draw
from ganrun.run.load import load_run

COLUMNS, ROWS = 10, 2  # of samples of a run
ABREAST = 2  # runs beside each other
TITLE, GAP = 18, 8  # pixels


def panel(path: Path, seed: int) -> Image.Image:
    """The name of a run over its samples; a column is a class of a conditional run."""
    run, _ = load_run(path)
    classes = run.game.classes
    labels = torch.arange(COLUMNS).repeat(ROWS) % classes if classes else None
    samples = Image.fromarray(
        grid(draw(run.game, COLUMNS * ROWS, seed=seed, condition=Condition(labels=labels)), ROWS).squeeze()
    )
    run.data.close()
    picture = Image.new("RGB", (samples.width // 2, samples.height // 2 + TITLE), "white")
    picture.paste(samples.reduce(2), (0, TITLE))
    ImageDraw.Draw(picture).text((2, 1), run.settings["name"], "black", ImageFont.load_default(13))
    return picture


def gallery(panels: list[Image.Image]) -> Image.Image:
    """Panels row by row, each in a cell of the largest one's size."""
    width, height = (max(sizes) + GAP for sizes in zip(*(one.size for one in panels), strict=True))
    rows = -(-len(panels) // ABREAST)
    picture = Image.new("RGB", (ABREAST * width - GAP, rows * height - GAP), "white")
    for index, one in enumerate(panels):
        picture.paste(one, (index % ABREAST * width, index // ABREAST * height))
    return picture


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--seed", type=int, default=0, help="of the samples (default 0)")
    arguments = parser.parse_args()
    picture = gallery([panel(run, arguments.seed) for run in arguments.runs])
    picture.save(arguments.out, optimize=True)
    print(f"{len(arguments.runs)} runs, {picture.width}x{picture.height} pixels: {arguments.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
