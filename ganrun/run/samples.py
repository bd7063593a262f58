"""Samples of a run as files: one PNG for each, one array of all, or one picture."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ganrun.config.types import Called, Within
from ganrun.core.context import Condition, Latent
from ganrun.core.errors import ConfigError
from ganrun.core.from_noise import Drawing
from ganrun.core.seeding import generators_kept
from ganrun.data.readers.progress_bar import track
from ganrun.record.atomic import environment, write_atomically
from ganrun.record.grid import grid, save_png, to_bytes, to_pixels
from ganrun.record.progress import shown
from ganrun.record.samples import save_npz, save_pngs
from ganrun.run.draw import batches
from ganrun.run.langevin import STEPS, Langevin, check_noise
from ganrun.run.load import LoadedRun, RunForm
from ganrun.run.place import game_of, labels_of, place
from ganrun.run.rejection import PERCENTILE, Rejection, check
from ganrun.run.sentences import sentences_of

USUAL = 64  # samples
MOST = 10_000  # samples of one picture
ENDINGS = {"grid": ".png", "npz": ".npz", "png": ""}


@dataclass(kw_only=True)
class SampleForm(RunForm):
    """What `ganrun sample` takes beside the run."""

    count: Annotated[int, Within(1)] | None = None
    seed: Annotated[int, Within(0)] = 0
    out: str | None = None
    format: Literal["grid", "png", "npz"] | None = None  # null: a grid; of translations PNG files
    classes: list[int | str] | None = None
    text: str | list[str] | None = None
    truncation: Annotated[float, Within(0)] | None = None
    resolution: Annotated[int, Within(1)] | None = None
    reject: bool | Annotated[float, Within(1, 99)] = False
    ddls: bool | Annotated[int, Within(1)] = False
    images: Annotated[str | None, Called("a folder or an archive")] = None
    direction: str | None = None


class Samples:
    """The samples that were asked for, and the files they become."""

    def __init__(self, run: LoadedRun, form: SampleForm):
        """Raises ConfigError for what the run cannot do, before anything is drawn."""
        self.run, self.form, self.game = run, form, game_of(run)
        self.format = form.format or "grid"
        kinds = labels_of(run, form.classes)
        self.sentences = None if form.text is None else sentences_of(run, form.text)
        self.count = form.count or self._usual(len(kinds) if self.sentences is None else len(self.sentences.lines))
        self.labels = _shared(kinds, self.count) if kinds else None
        self.rejection: Rejection | None = None
        self._check()
        self.path = place(run, form.out, ENDINGS[self.format], "samples", self._words())

    def write(self) -> str:
        """Draw and write; returns a line that says what was written, and where."""
        with generators_kept(self.run.device), self._drawing() as drawing:
            {"grid": self._grid, "png": self._pngs, "npz": self._npz}[self.format](self._drawn(drawing))
        line = f"{self.count:,} {'sample' if self.count == 1 else 'samples'} of step {self.run.step:,}"
        if self.rejection is not None:
            line += f", accepted by D from {self.rejection.seen:,}"
        return f"{line}: {shown(self.path)}"

    def _drawn(self, drawing: Drawing) -> Iterator[Tensor]:
        """The samples, one by one. [C, H, W]"""
        form, labels = self.form, self.labels
        if form.reject is not False:
            percentile = PERCENTILE if form.reject is True else float(form.reject)
            self.rejection = Rejection(self.game, drawing, seed=form.seed, percentile=percentile)
            pieces = self.rejection.batches(self.count, labels)
        else:
            condition = Condition(labels=labels) if self.sentences is None else self.sentences.condition(self.count)
            pieces = batches(
                self.game, drawing, self.count, seed=form.seed, condition=condition, change=self._langevin()
            )
        yield from track((image for piece in pieces for image in piece), "drawing", self.count, few=0)

    def _langevin(self) -> Callable[[nn.Module, Latent, int], Latent] | None:
        """What moves noise towards what D takes for real; None where that was not asked for."""
        form = self.form
        if form.ddls is False:
            return None
        return Langevin(self.game, seed=form.seed, steps=STEPS if form.ddls is True else form.ddls).moved

    def _grid(self, samples: Iterator[Tensor]) -> None:
        """One picture, with a row for each class where they share it evenly; of points a scatter."""
        classes = 0 if self.labels is None else len(self.labels.unique())
        classes = classes if self.sentences is None else len(self.sentences.lines)
        rows = classes if classes > 1 and self.count % classes == 0 else None
        picture = grid(torch.stack(list(samples)), rows)
        with environment(f"cannot save {self.path}"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        save_png(self.path, picture)
        if self.sentences is not None:
            write_atomically(self.path.with_suffix(".txt"), self.sentences.listing(self.count))

    def _pngs(self, samples: Iterator[Tensor]) -> None:
        """A folder with a file for each; its name ends in the class where there are classes."""
        classes = [""] * self.count
        if self.labels is not None:
            names = [re.sub(r"[^\w.-]+", "-", name) for name in self.run.classes]
            classes = [f"_{names[label]}" for label in self.labels.tolist()]
        files = [f"{number:06d}{name}.png" for number, name in enumerate(classes)]
        save_pngs(self.path, (to_bytes(sample[None])[0] for sample in samples), files)

    def _npz(self, samples: Iterator[Tensor]) -> None:
        """`images`, uint8 [N, H, W, C], or `points`, float32 [N, 2]; of classes `labels` [N], names `classes`."""
        if self._points:
            found = {"points": np.stack([sample.flatten().numpy() for sample in samples])}
        else:
            found = {"images": np.stack([to_pixels(sample[None])[0] for sample in samples])}
        if self.labels is not None:
            found |= {"labels": self.labels.numpy(), "classes": np.array(self.run.classes)}
        save_npz(self.path, found)

    def _check(self) -> None:
        """Raises ConfigError for a format that does not suit the samples, and for options that the run refuses."""
        form = self.form
        for key in ("images", "direction"):
            if getattr(form, key) is not None:
                raise ConfigError(key, "set, but this run makes images from noise", "a run that translates",
                                  f"leaving {key} out")  # fmt: skip
        if self.format == "png" and self._points:
            raise ConfigError("format", "png, but the samples are points of the plane", "npz or grid", "format=npz")
        if self.format == "grid" and self.count > MOST:
            found = f"{self.count:,} for one picture"
            raise ConfigError("count", found, f"{MOST:,} at most", "format=npz or format=png")
        if form.reject is not False:
            check(self.run.pair())
        if form.ddls is not False:
            check_noise(self.game, self.run.pair())
        apart: dict[str, object] = {"text": self.sentences, "resolution": form.resolution}
        for key, value in apart.items():
            if form.reject is not False and value is not None:
                raise ConfigError("reject", f"set, with {key}", "one of them", "leaving reject out")
        for key, value in (apart | {"truncation": form.truncation, "reject": form.reject or None}).items():
            if form.ddls is not False and value is not None:
                raise ConfigError("ddls", f"set, with {key}", "one of them", "leaving ddls out")
        if form.resolution is not None and form.resolution not in self.game.resolutions:
            sizes = [str(size) for size in self.game.resolutions]
            raise ConfigError("resolution", f"{form.resolution}, in which this run makes no images",
                              " or ".join(sizes), f"resolution={sizes[-1]}")  # fmt: skip
        with self._drawing():
            pass

    def _drawing(self) -> AbstractContextManager[Drawing]:
        return self.game.drawing(self.form.truncation, self.form.resolution)

    @property
    def _points(self) -> bool:
        """Whether the samples are points of the plane, [2, 1, 1]."""
        data = self.run.settings["dataset"]
        return (data["channels"], data["resolution"]) == (2, 1)

    def _usual(self, classes: int) -> int:
        """As many as a grid has, the same number of each class."""
        return max(USUAL // classes, 1) * classes if 1 < classes <= USUAL else USUAL

    def _words(self) -> list[str]:
        """What was asked for, for the name of the file."""
        form = self.form
        words = [f"count_{self.count}", f"seed_{form.seed}"]
        words += [f"classes_{'-'.join(map(str, form.classes))}"] if form.classes else []
        words += [] if self.sentences is None else [f"text_{'_'.join(self.sentences.lines)}"[:60]]
        words += [] if form.truncation is None else [f"truncation_{form.truncation:g}"]
        words += [] if form.resolution is None else [f"resolution_{form.resolution}"]
        words += [] if form.ddls is False else ["ddls" if form.ddls is True else f"ddls_{form.ddls}"]
        words += ["reject"] if form.reject is True else [f"reject_{form.reject:g}"] if form.reject else []
        return words


def _shared(kinds: Sequence[int], count: int) -> Tensor:
    """Labels for this many samples, shared among classes as evenly as can be, those of each in a row. [count]"""
    return torch.tensor(kinds)[torch.arange(count) * len(kinds) // count]
