"""`ganrun evaluate`: how far samples of a run, or pictures of another program, are from held-out reals."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from rich.table import Table

from ganrun.cli.lines import ERASE
from ganrun.cli.words import one_operand, read_words
from ganrun.config.types import Called, Within
from ganrun.core.errors import ConfigError
from ganrun.core.from_images import FromImages
from ganrun.data.datasets.base import Dataset, DataSets
from ganrun.machine import find_device
from ganrun.metrics.comparison import falls_as_samples_get_better, tag
from ganrun.metrics.translation import BESIDE
from ganrun.record.atomic import write_atomically
from ganrun.record.folder import is_run
from ganrun.record.grid import grid, save_png
from ganrun.record.new_folder import free_folder, new_folder
from ganrun.run.evaluation import (
    Evaluation,
    Reference,
    SampleSet,
    data_of_run,
    opened,
    samples_of_files,
    samples_of_run,
    translations_of_run,
)
from ganrun.run.load import LoadedRun, RunForm, load

EXAMPLE = "ganrun evaluate RUN samples=1000"
KINDS = ("held-out images", "training images")


@dataclass(kw_only=True)
class Form(RunForm):
    """The settings of `ganrun evaluate`."""

    samples: Annotated[int, Within(50, 100_000)] = 1000
    seed: Annotated[int, Within(0)] = 0
    against: Annotated[str | None, Called("the name of a data set")] = None
    reals: Literal["held_out", "train"] = "held_out"
    swd: bool = False
    ms_ssim: bool = False
    out: Annotated[str | None, Called("a folder")] = None
    inception: Annotated[str | None, Called("a file of weights")] = None
    dinov2: Annotated[str | None, Called("a file of weights")] = None


def main(words: Sequence[str]) -> int:
    """Evaluate one run, folder or array file; returns the exit code. Raises ConfigError."""
    of_data = [word for word in words if word.startswith("dataset.")]
    operands, form = read_words("evaluate", [word for word in words if word not in of_data], Form, EXAMPLE)
    path = Path(one_operand("evaluate", operands, "run, folder of pictures or array file", EXAMPLE))
    if not os.path.exists(path):
        raise ConfigError("evaluate", f"nothing is at {path}", "a run, a folder of pictures or an array file", EXAMPLE)
    run = _run(path, form) if os.path.isdir(path) and is_run(path) else None
    asked = [f"dataset={form.against}"] * bool(form.against) + of_data
    own = data_of_run(path, form.plugins) if run and (not asked or isinstance(run.game, FromImages)) else None
    data = _data(path, run, own, asked)
    folder = None if form.out is None else free_folder("out", form.out)
    samples, further = _samples(path, run, own, data, form)
    weights = {"inception": form.inception, "dinov2": form.dinov2}
    device = find_device(form.device)
    train = form.reals == "train"
    further_asked = {"swd": form.swd, "ms_ssim": form.ms_ssim}
    reference = Reference(data, form.samples, _progress, weights=weights, device=device, train=train, **further_asked)
    found = reference.evaluate(samples, data.kind)
    found = replace(found, metrics={**found.metrics, **further})
    _print(found, KINDS[train], KINDS[not train], Console(soft_wrap=True, markup=False, highlight=False, emoji=False))
    if folder is not None:
        _write(found, folder)
    return 0


def _run(path: Path, form: Form) -> LoadedRun:
    return load(path, plugins=form.plugins, device=form.device, checkpoint=form.checkpoint)


def _data(path: Path, run: LoadedRun | None, own: DataSets | None, asked: Sequence[str]) -> Dataset:
    """What samples are compared with: the data that are asked for, else those of the run that they are to be like."""
    if asked:
        data = opened(asked)
        if not isinstance(data, Dataset):
            raise ConfigError("against", "data of several streams", "one set of images", "against=mnist_5k")
        return data
    if run is None or own is None:
        found, remedy = "no data set to compare the pictures with", f"ganrun evaluate {path} against=mnist_5k"
        raise ConfigError("against", found, "the name of one", remedy)
    return own.streams[run.game.target]


def _samples(
    path: Path, run: LoadedRun | None, own: DataSets | None, data: Dataset, form: Form
) -> tuple[SampleSet, Mapping[str, float]]:
    """Samples, and what else is measured of them; a run that translates takes the images of its `own` data."""
    if run is None:
        return samples_of_files(path, data, form.samples, form.seed), {}
    if isinstance(run.game, FromImages) and own is not None:
        return translations_of_run(run, own, form.samples)
    return samples_of_run(run, form.samples, form.seed), {}


def _progress(what: str, done: int, total: int) -> None:
    if sys.stderr.isatty() and (done % 50 == 0 or done == total):
        end = ERASE if done == total else ""
        print(f"\rtraining a {what} of the real images: {100 * done // total} %{end}", end="", file=sys.stderr)


def _print(found: Evaluation, compared: str, others: str, console: Console) -> None:
    console.print(f"{found.source}: {found.samples:,} samples against {found.reals:,} {compared} of {found.against}")
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in ("measure", "samples", others, "better"):
        table.add_column(column, justify="left" if column in ("measure", "better") else "right")
    for name, value in found.metrics.items():
        other = found.of_reals.get(name)
        table.add_row(name, f"{value:.3g}", "" if other is None else f"{other:.3g}", _better(name))
    console.print(table)
    if found.classes:
        shares = "  ".join(f"{name} {100 * share:.1f} %" for name, share in found.classes.items())
        console.print(f"classes seen: {shares}")


def _better(name: str) -> str:
    if name.rpartition("/")[2] in BESIDE:
        return ""
    return "lower" if falls_as_samples_get_better(name if "/" in name else tag(name, 1)) else "higher"


def _write(found: Evaluation, folder: Path) -> None:
    lines = [f"figures     {folder / 'evaluation.json'}"]
    with new_folder(folder) as partial:
        write_atomically(partial / "evaluation.json", json.dumps(found.plain(), indent=2) + "\n")
        if found.nearest is not None:
            save_png(partial / "nearest.png", grid(found.nearest, 2))
            lines.append(
                f"copies      {folder / 'nearest.png'}: samples, and below each the training image nearest to it"
            )
    print("\n".join(lines))
