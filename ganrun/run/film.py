"""A walk as a file: a strip of pictures, or a moving picture that loops."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from ganrun.config.types import Within
from ganrun.core.context import Latent
from ganrun.core.errors import ConfigError, typed
from ganrun.core.seeding import generators_kept
from ganrun.data.readers.progress_bar import track
from ganrun.record.atomic import environment
from ganrun.record.grid import grid, save_png
from ganrun.record.moving import check_mp4, save_gif, save_mp4
from ganrun.record.progress import shown
from ganrun.run.load import LoadedRun, RunForm
from ganrun.run.place import game_of, labels_of, place
from ganrun.run.sentences import sentences_of
from ganrun.run.walk import Walk, check_code, way_of

WIDEST = 1000  # frames of a strip, at most
ENDINGS = (".gif", ".mp4", ".png")


@dataclass(kw_only=True)
class WalkForm(RunForm):
    """What `ganrun walk` takes beside the run."""

    out: str | None = None
    frames: Annotated[int, Within(2, 10_000)] | None = None
    rows: Annotated[int, Within(1, 100)] = 4
    seed: Annotated[int, Within(0)] = 0
    between: Literal["noise", "classes"] | None = None
    code: str | None = None
    text: list[str] | None = None
    stops: Annotated[int, Within(2, 1000)] | None = None
    classes: list[int | str] | None = None
    interpolation: Literal["slerp", "lerp"] | None = None
    truncation: Annotated[float, Within(0)] | None = None
    fps: Annotated[int, Within(1, 50)] = 20


class Film:
    """The frames of a walk, and the file they become."""

    def __init__(self, run: LoadedRun, form: WalkForm):
        """Raises ConfigError for what the run cannot do, before anything is drawn."""
        self.run, self.form, self.game = run, form, game_of(run)
        self.labels = labels_of(run, form.classes)
        self.sentences = None if form.text is None else sentences_of(run, form.text)
        self.ending = _ending(form.out)
        self.loops = self.ending != ".png"
        self._check()
        self.path = place(run, form.out, self.ending, "walk", self._words())

    def write(self) -> str:
        """Draw and write; returns a line that says what was written, and where."""
        form = self.form
        with generators_kept(self.run.device), self.game.drawing(form.truncation) as drawing:
            walk = Walk(
                game=self.game, drawing=drawing, rows=form.rows, frames=form.frames, loops=self.loops, seed=form.seed
            )
            latents, told = self._walked(walk)
            frames = torch.stack([walk.images(latent) for latent in track(latents, "drawing", len(latents), few=0)])
        self._save(frames)
        return f"{len(frames)} frames {told}, of step {self.run.step:,}: {shown(self.path)}"

    def _walked(self, walk: Walk) -> tuple[list[Latent], str]:
        """The latents of each frame, and what they are in words."""
        form = self.form
        if form.code is not None:
            return walk.along_code(form.code), f"along {form.code}"
        if form.between == "classes":
            how = "by shares of both" if self.game.mixes_labels else "one after another, as this generator mixes none"
            return walk.between_classes(self.labels), f"between classes, {how}"
        if self.sentences is not None:
            return walk.between_sentences(self._vectors(walk)), f"between {len(self.sentences.lines)} sentences"
        way = way_of(self.game, form.interpolation)
        stops = form.stops or (4 if self.loops else 2)
        return walk.between_noises(stops, way, self.labels), f"between {stops} noises by {way}"

    @torch.no_grad()
    def _vectors(self, walk: Walk) -> Tensor:
        """What the generator's encoder makes of the sentences. [S, E]"""
        assert self.sentences is not None
        encoder: Any = walk.drawing.generator.text
        given = self.sentences.condition(len(self.sentences.lines)).tensor
        assert given is not None
        vectors: Tensor = encoder(given.to(self.run.device))
        return vectors

    def _save(self, frames: Tensor) -> None:
        """Frames [F, R, C, H, W]: a strip has a walk in each row; a moving picture shows all at once."""
        with environment(f"cannot save {self.path}"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        everything = frames.transpose(0, 1).flatten(0, 1)
        if self.ending == ".png":
            save_png(self.path, grid(everything, frames.shape[1]))
            return
        pictures = [grid(frame, reals=everything) for frame in frames]
        (save_gif if self.ending == ".gif" else save_mp4)(self.path, pictures, self.form.fps)

    def _check(self) -> None:
        """Raises ConfigError for settings that exclude each other, and for what this run does not have."""
        form = self.form
        self._check_way()
        if form.between == "classes" and len(self.labels) < 2:
            found = "classes, but this run is not conditional" if not self.game.classes else "classes, but there is one"
            raise ConfigError("between", found, "at least two classes", "between=noise")
        if not self.loops and (form.frames or 0) > WIDEST:
            raise ConfigError("frames", f"{form.frames:,} in one picture", f"{WIDEST:,} at most", "out=walk.mp4")
        if self.sentences is not None and (form.code is not None or form.between is not None):
            raise ConfigError("text", "set, with code or between", "one of them", "leaving the other out")
        if self.sentences is not None and len(self.sentences.lines) < 2:
            raise ConfigError("text", "one sentence", "two or more", "text=['a red star','a blue star']")
        if form.code is not None:
            check_code(self.game, form.code)
        way_of(self.game, form.interpolation)
        with self.game.drawing(form.truncation):
            pass
        if self.ending == ".mp4":
            check_mp4()

    def _check_way(self) -> None:
        """Raises ConfigError for settings of a walk between noises in another."""
        form = self.form
        if form.code is not None and form.between is not None:
            raise ConfigError("code", f"{form.code}, with between={form.between}", "one of them", "leaving between out")
        if form.code is None and form.between != "classes":
            return
        walk = "a walk between classes" if form.code is None else "a walk along a code"
        for name, value in (("stops", form.stops), ("interpolation", form.interpolation)):
            if value is not None:
                raise ConfigError(name, f"{value}, in {walk}", "a walk between noises", f"leaving {name} out")

    def _words(self) -> list[str]:
        """What was asked for, for the name of the file."""
        form = self.form
        asked = {"classes": form.classes and "-".join(map(str, form.classes)), "seed": form.seed,
                 "truncation": form.truncation, "interpolation": form.interpolation}  # fmt: skip
        kind = form.code or form.between or ("noise" if self.sentences is None else "text")
        return [kind, *(f"{key}_{value}" for key, value in asked.items() if value is not None)]


def _ending(out: str | None) -> str:
    """The ending of the file to write. Raises ConfigError for one of another kind."""
    if out is None or not Path(out).suffix or Path(out).is_dir():
        return ".gif"
    ending = Path(out).suffix.lower()
    if ending not in ENDINGS:
        expected = f"a file that ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}"
        raise ConfigError("out", out, expected, typed("out", str(Path(out).with_suffix(".gif"))))
    return ending
