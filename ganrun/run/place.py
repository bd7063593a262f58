"""What samples and walks share: the run, its classes, and where pictures go."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ganrun.core.errors import ConfigError, for_shell, typed
from ganrun.core.from_noise import FromNoise
from ganrun.data.transforms.classes import class_indices
from ganrun.run.load import LoadedRun

DRAWN = "drawn"  # the folder in a run's for what is drawn from it


def game_of(run: LoadedRun) -> FromNoise:
    """The game of a run whose images are made from noise. Raises ConfigError for another."""
    if not isinstance(run.game, FromNoise):
        found = "this run translates images and has no noise to draw from"
        raise ConfigError(str(run.path), found, "a run whose images are made from noise",
                          f"ganrun sample {for_shell(str(run.path))} images=FOLDER, which translates them")  # fmt: skip
    return run.game


def labels_of(run: LoadedRun, classes: Sequence[int | str] | None) -> list[int]:
    """The labels of these classes, by name or number; all without any, none for a run that is not conditional.

    Raises ConfigError for classes that the run does not have.
    """
    if not run.game.classes:
        if classes is not None:
            raise ConfigError("classes", "this run is not conditional", "no classes", "leaving classes out")
        return []
    if classes is None:
        return list(range(run.game.classes))
    try:
        return class_indices(classes, run.classes)
    except ConfigError as error:
        raise ConfigError("classes", error.found, error.expected, _own(error.remedy)) from error


def _own(remedy: str) -> str:
    """A remedy of the data set's setting as one of this command's."""
    return re.sub(r"\.classes=", "classes=", remedy.strip("'\""))


def place(run: LoadedRun, out: str | None, ending: str, name: str, words: Sequence[str]) -> Path:
    """The file or folder to write: `out`, or one in the run's folder that is named after what was asked for.

    `ending` is that of its name, empty for a folder; into a folder that is given, a file of this `name` is written.
    `words` are what the default is named after. Raises ConfigError where something is already.
    """
    own = re.sub(r"[^\w.-]+", "-", "_".join([name, f"step_{run.step}", *words]))
    path = run.path / DRAWN / f"{own}{ending}" if out is None else Path(out).expanduser()
    if out is not None and ending and path.suffix.lower() != ending:
        if path.suffix and not path.is_dir():
            raise ConfigError("out", f"{out}, for a file that ends in {ending}", "a folder, or that ending",
                              typed("out", str(path.with_suffix(ending))))  # fmt: skip
        path = path / f"{name}{ending}"
    refuse_existing(path, folder=not ending)
    return path


def refuse_existing(path: Path, *, folder: bool) -> None:
    """Raises ConfigError where something is at this path, but for an empty folder where a `folder` is to be.

    Also where nothing can be written.
    """
    try:
        is_there = any(path.iterdir()) or not folder if path.is_dir() else path.is_symlink() or path.exists()
    except OSError as error:
        raise ConfigError("out", f"{path}: {error.strerror}", "a path where nothing is") from error
    if is_there:
        number = next(n for n in range(2, 10**6) if not path.with_stem(f"{path.stem}_{n}").exists())
        raise ConfigError("out", f"{path} is there already", "a path where nothing is",
                          typed("out", str(path.with_stem(f"{path.stem}_{number}"))))  # fmt: skip
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        found = f"{above} is a folder in which nothing can be written" if above.is_dir() else f"{above} is a file"
        raise ConfigError("out", found, "a folder that can be written", f"out={path.name}")
