"""The page of one run's findings: what was found, its course, gradients of each layer, and pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from ganrun.report.page import GENERATOR, digest, environment_of_pages, own_file
from ganrun.report.pictures import Picture, small, spread
from ganrun.report.run import grids
from ganrun.version import __version__

COLDEST, HOTTEST = 1e-6, 1e2  # gradient norms at the ends of the colours
COLOURS = np.array([[13, 8, 60], [126, 3, 168], [225, 100, 98], [252, 206, 37]], dtype=float)  # RGB, evenly spaced
CELL, WIDE = 10, 720  # pixels of a row, and of the whole map
FRAMES, FRAME = 8, (148, 9_000)
WIDTH, HEIGHT = 300, 110  # of a chart


@dataclass(frozen=True, kw_only=True)
class Found:
    """One finding in words."""

    name: str
    when: str  # since step 300; steps 300 to 500
    meaning: str
    figures: str = ""
    remedies: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Illustration:
    """A picture below a title, with what it shows."""

    title: str
    note: str
    image: np.ndarray  # uint8 [H, W] or [H, W, 3]


@dataclass(frozen=True, kw_only=True)
class Course:
    """What the page shows of one run."""

    name: str
    step: int
    steps: int
    verdict: str
    findings: Sequence[Found]
    command: str = ""  # that trains with the first remedy
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)  # name -> steps [P], values [P]
    gradients: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)  # player -> layer -> norms [T]
    samples: Path | None = None  # the folder of grids
    pictures: Sequence[Illustration] = ()


def diagnosis_page(run: Course) -> str:
    """The page, the same for the same run."""
    style = own_file("page.css")
    return (
        environment_of_pages()
        .get_template("diagnosis.html")
        .render(
            version=__version__,
            generator=Markup(GENERATOR),
            style=Markup(style),
            policy=f"default-src 'none'; img-src data:; style-src '{digest(style)}'",
            title=run.name,
            step=run.step,
            steps=run.steps,
            verdict=run.verdict,
            findings=run.findings,
            command=run.command,
            charts=[_chart(name, *points) for name, points in run.curves.items() if len(points[0]) > 1],
            heats=[_heat(player, layers) for player, layers in run.gradients.items() if layers],
            coldest=COLDEST,
            hottest=HOTTEST,
            strip=_strip(run.samples),
            pictures=[_picture(one) for one in run.pictures],
        )
    )


def _chart(name: str, steps: np.ndarray, values: np.ndarray) -> dict[str, str]:
    """A curve as the points of a line, and its numbers."""
    low, high = float(values.min()), float(values.max())
    x = (steps - steps[0]) / max(float(steps[-1] - steps[0]), 1.0) * (WIDTH - 4) + 2
    y = HEIGHT - 4 - (values - low) / max(high - low, 1e-30) * (HEIGHT - 8)
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    numbers = {"first": values[0], "last": values[-1], "least": low, "most": high}
    return {"name": name, "line": line} | {key: f"{value:.3g}" for key, value in numbers.items()}


def _heat(player: str, layers: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """A map of norms: a row for each layer, a column for each log."""
    norms = np.stack(list(layers.values()))
    scale = np.log10(np.clip(np.nan_to_num(norms, nan=HOTTEST, posinf=HOTTEST), COLDEST, HOTTEST) / COLDEST)
    picture = coloured(scale / np.log10(HOTTEST / COLDEST))
    size = (WIDE, CELL * len(layers))
    large = Image.fromarray(picture).resize(size, Image.Resampling.NEAREST)
    return {"name": player, "layers": list(layers), "address": _address(large), "width": size[0], "height": size[1]}


def coloured(shares: np.ndarray) -> np.ndarray:
    """Numbers from 0 to 1 as colours from dark to bright. [H, W] -> uint8 [H, W, 3]"""
    place = np.clip(shares, 0, 1) * (len(COLOURS) - 1)
    below = np.minimum(place.astype(int), len(COLOURS) - 2)
    part = (place - below)[..., None]
    return (COLOURS[below] * (1 - part) + COLOURS[below + 1] * part).round().astype(np.uint8)


def _strip(samples: Path | None) -> list[Picture]:
    found = grids(samples) if samples is not None else {}
    pictures = [small(found[step], step, *FRAME) for step in spread(list(found), FRAMES)]
    return [picture for picture in pictures if picture]


def _picture(one: Illustration) -> dict[str, Any]:
    image = Image.fromarray(one.image[..., 0] if one.image.ndim == 3 and one.image.shape[2] == 1 else one.image)
    return {"title": one.title, "note": one.note, "address": _address(image), "width": image.width,
            "height": image.height}  # fmt: skip


def _address(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
