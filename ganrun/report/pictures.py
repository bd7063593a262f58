"""Small copies of sample grids, as data that a page holds itself."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from ganrun.record.stored import content
from ganrun.report.run import ReportedRun

LARGEST = 2**26  # bytes of a file
PIXELS = 2**25  # of a picture
QUALITIES = (80, 65, 50, 35, 20)  # of JPEG: the first that fits, or the last


@dataclass(frozen=True)
class Picture:
    """A small copy of a grid: its step, size in pixels, and the picture as a `data:` address."""

    step: int
    width: int
    height: int
    address: str


class Sizes(NamedTuple):
    """How many pictures a strip has, and how large pictures are: pixels of the longer side, and bytes of the file."""

    frames: int
    frame: tuple[int, int]
    grid: tuple[int, int]


def sizes(runs: int) -> Sizes:
    """For a page of this many runs, so that it stays small."""
    if runs <= 6:
        return Sizes(12, (148, 9_000), (480, 90_000))
    if runs <= 24:
        return Sizes(8, (148, 6_000), (380, 36_000))
    return Sizes(6, (112, 3_500), (260, 16_000))


def strip(run: ReportedRun, size: Sizes) -> list[Picture]:
    """Grids from the same noise, evenly through the run: the first, the last, and those between; damaged ones not."""
    found = [small(run.pictures[step], step, *size.frame) for step in spread(list(run.pictures), size.frames)]
    return [picture for picture in found if picture]


def best(run: ReportedRun, size: Sizes) -> Picture | None:
    """The grid of the best step as far as that is known, else the last."""
    step = run.best_picture
    return None if step is None else small(run.pictures[step], step, *size.grid)


def spread(steps: list[int], most: int) -> list[int]:
    """At most this many of the steps, the first and the last among them, the others evenly between by their place."""
    if len(steps) <= most:
        return steps
    last = len(steps) - 1
    return [steps[round(place * last / (most - 1))] for place in range(most)]


def small(path: Path, step: int, side: int, most: int) -> Picture | None:
    """A copy of a PNG file of at most `side` pixels, as PNG or as JPEG of about `most` bytes, whichever is smaller.

    None for a file that is damaged, or no picture.
    """
    try:
        if path.stat().st_size > LARGEST:
            return None
        with Image.open(io.BytesIO(content(path)), formats=["PNG"]) as image:
            if image.width * image.height > PIXELS:
                return None
            plain = image.convert("L" if image.mode in ("1", "L") else "RGB")
    except Exception:  # a file made to do harm raises anything
        return None
    plain.thumbnail((side, side), Image.Resampling.LANCZOS)
    jpeg, png = _jpeg(plain, most), _encoded(plain, "PNG", optimize=True)
    kind, data = ("jpeg", jpeg) if len(jpeg) < len(png) else ("png", png)
    address = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    return Picture(step, plain.width, plain.height, address)


def _jpeg(image: Image.Image, most: int) -> bytes:
    """A JPEG file of the best quality that fits."""
    data = b""
    for quality in QUALITIES:
        data = _encoded(image, "JPEG", quality=quality, subsampling=0)
        if len(data) <= most:
            break
    return data


def _encoded(image: Image.Image, kind: str, **more: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    return buffer.getvalue()
