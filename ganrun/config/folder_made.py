"""The folder of a run or a sweep as Hydra makes it: what is refused leaves nothing behind, what is new nothing old."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from ganrun.config.groups import expand_home

ENDED = ".ganrun_jobs"  # in a sweep's folder: how jobs ended that a launcher of Hydra has started


class FolderMade(Callback):
    """Remembers the folder that Hydra is about to make, so that what was refused leaves nothing behind."""

    folder: ClassVar[Path] = Path()
    first: ClassVar[Path | None] = None  # the uppermost part of it that was not there before
    sweep: ClassVar[Path | None] = None  # the folder of the sweep that began

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Remember the folder of a single run."""
        expand(config)
        self.remember(Path(config.hydra.run.dir).absolute())

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Remember the folder of a sweep."""
        expand(config)
        FolderMade.sweep = Path(config.hydra.sweep.dir).absolute()
        for ended in (FolderMade.sweep / ENDED).glob("*.json"):  # of an earlier sweep in this folder
            ended.unlink()
        self.remember(FolderMade.sweep)

    @classmethod
    def remember(cls, folder: Path) -> None:
        """Note which part of this path does not exist yet."""
        cls.folder = folder
        cls.first = next((part for part in reversed((folder, *folder.parents)) if not part.exists()), None)

    @classmethod
    def concerns(cls, path: Path) -> bool:
        """Whether this path lies on the way to the folder, or in it."""
        return cls.folder.is_relative_to(path.absolute()) or path.absolute().is_relative_to(cls.folder)

    @classmethod
    def forget(cls) -> None:
        """Remove the folder if nothing is in it but Hydra's note about the sweep."""
        with suppress(OSError):
            if cls.first is not None and [path.name for path in cls.folder.iterdir()] == ["multirun.yaml"]:
                (cls.folder / "multirun.yaml").unlink()
        cls.remove_empty(cls.folder)

    @classmethod
    def remove_empty(cls, folder: Path) -> None:
        """Remove this folder and those above it, as far as Hydra made them and nothing is in them."""
        for path in (folder, *folder.parents):
            if cls.first is None or not path.is_relative_to(cls.first):
                return
            with suppress(OSError):
                path.rmdir()


def expand(node: DictConfig) -> None:
    """Let `~` stand for the user's own folder wherever a value begins with it, as it does in what is typed."""
    for key in list(node.keys()):
        value: Any = node._get_node(key)
        if isinstance(value, DictConfig) and not value._is_none() and not value._is_missing():
            expand(value)
        elif isinstance(text := getattr(value, "_value", lambda: None)(), str) and expand_home(text) != text:
            value._set_value(expand_home(text))
