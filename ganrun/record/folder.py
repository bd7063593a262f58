"""The folder of one run: its lock, its parts, and the record of what the run was."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import platform
import shlex
import sys
import weakref
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ganrun.core.errors import ConfigError
from ganrun.record.atomic import environment, write_atomically
from ganrun.record.stored import check_kinds, record
from ganrun.version import __version__

logger = logging.getLogger(__name__)

OLD = "opening it with the version that wrote it: pip install 'ganrun<0.2'"  # what to try with a run of version 0.1
A_RUN = "the folder of a run, which holds config.yaml and checkpoints"


class Log(logging.FileHandler):
    """Writes run.log as far as its disk takes it: what a run must write, and fails without, is not in it."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Drop a line that cannot be written; anything else is a bug, and told."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        """Close the file, whatever is left to be written."""
        with suppress(OSError):
            super().close()


class RunFolder:
    """The folder of one run: outputs/<date>/<time>-<4 characters>/, locked while the run lives.

    Make one with `create` or `open`. The kernel frees the lock when the process ends, however it ends.
    """

    def __init__(self, path: Path):
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.samples = path / "samples"
        self.config = path / "config.yaml"
        self.log = path / "run.log"
        self.metrics = path / "metrics.jsonl"
        self.findings = path / "findings.jsonl"
        self.summary = path / "summary.json"
        self._lock: int | None = None
        self._handler: logging.Handler | None = None

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """The folder of a new run. Raises ConfigError where there is a run already, or where nothing can be written."""
        folder = cls(Path(path).absolute())
        try:
            folder._refuse_a_run()
            folder.path.mkdir(parents=True, exist_ok=True)
            folder._acquire()
            folder._refuse_a_run()  # another process may have been faster
            folder._make_parts()
        except OSError as error:
            folder.close()
            raise _unwritable(folder.path, error) from error
        except ConfigError:
            folder.close()
            raise
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The folder of a run that is resumed. Raises ConfigError where there is none, or while it is still running."""
        folder = cls(Path(path).absolute())
        if not is_run(folder.path):
            found = "is not a run" if folder.path.exists() else "does not exist"
            raise ConfigError(str(path), found, A_RUN, _suggest(folder.path))
        check_kinds(folder.path)
        try:
            folder._acquire()
            folder._make_parts()
        except OSError as error:
            folder.close()
            raise _unwritable(folder.path, error) from error
        return folder

    def describe(
        self, *, config: str, overrides: list[str], seed: int, command: list[str], more: Mapping[str, Any] | None = None
    ) -> None:
        """Write config.yaml, overrides.yaml and environment.json, each atomically; `more` goes into the last."""
        now = {"time": datetime.now().astimezone().isoformat(), "seed": seed, "command": command, **machine()}
        now |= more or {}
        path = self.path / "environment.json"
        if (past := record(path)) is not None:  # a resumed run keeps what it was before
            earlier = past.pop("before", [])
            now["before"] = [*(earlier if isinstance(earlier, list) else []), past]
        with environment(f"cannot describe the run in {self.path}"):
            write_atomically(path, json.dumps(now, indent=2) + "\n")
            write_atomically(self.path / "overrides.yaml", "".join(f"- {json.dumps(o)}\n" for o in overrides) or "[]\n")
            write_atomically(self.config, config)

    def list_data(self, files: list[str]) -> None:
        """Write data_files.json, the names of the files that the run learns from, where it is told any."""
        if files:
            with environment(f"cannot describe the run in {self.path}"):
                write_atomically(self.path / "data_files.json", json.dumps(files) + "\n")

    def start_log(self, level: int = logging.INFO) -> None:
        """Write log messages of `ganrun` to run.log too, until `close`."""
        with environment(f"cannot write {self.log}"):
            self._handler = Log(self.log, encoding="utf-8")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._handler.setLevel(level)
        root = logging.getLogger("ganrun")
        root.addHandler(self._handler)
        root.setLevel(min(level, root.level or level))

    def close(self) -> None:
        """Release the lock and close run.log."""
        if self._handler is not None:
            logging.getLogger("ganrun").removeHandler(self._handler)
            self._handler.close()
            self._handler = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _refuse_a_run(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(str(self.path), "is a file", "a folder for the run", "another hydra.run.dir")
        if is_run(self.path):
            where = shlex.quote(str(self.path))
            raise ConfigError(
                str(self.path), "already holds a run", "a new folder", f"ganrun resume {where} continues it"
            )

    def _make_parts(self) -> None:
        self.checkpoints.mkdir(exist_ok=True)
        self.samples.mkdir(exist_ok=True)

    def _acquire(self) -> None:
        """Hold the folder by an exclusive lock on `.lock`, which names this process for those who come later."""
        descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            found = f"in use by a live run, process {owner}"
            raise ConfigError(
                str(self.path), found, "a run that has ended", f"waiting for it, or kill {owner}"
            ) from None
        except OSError as error:  # some network file systems have no locks
            logger.warning("%s cannot be locked (%s): start only one run there", self.path, error.strerror)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._lock = descriptor
        self._forget_in_children()

    def _forget_in_children(self) -> None:
        """Close the lock in forked workers, or one that outlives a killed run would hold the folder."""
        reference = weakref.ref(self)

        def forget() -> None:
            folder = reference()
            if folder is not None and folder._lock is not None:
                os.close(folder._lock)
                folder._lock = None

        os.register_at_fork(after_in_child=forget)


def is_run(path: Path) -> bool:
    """Whether this is the folder of a run."""
    checkpoints = path / "checkpoints"
    return (path / "config.yaml").is_file() or (checkpoints.is_dir() and any(checkpoints.glob("step_*.pt")))


def machine() -> dict[str, Any]:
    """The versions and the hardware that a run used."""
    import torch

    from ganrun.machine import processor_name

    packages = ("torch", "torchvision", "hydra-core", "numpy", "tensorboard")
    return {
        "ganrun": __version__,
        "python": sys.version.split()[0],
        **{name.removesuffix("-core"): _version(name) for name in packages},
        "platform": platform.platform(),
        "cpu": f"{processor_name()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _unwritable(path: Path, error: OSError) -> ConfigError:
    reason = (error.strerror or str(error)).lower()
    return ConfigError(str(path), f"cannot be written ({reason})", "a folder that can be", "another hydra.run.dir")


def _suggest(path: Path) -> str:
    """What the user may have meant: the run around this path, or the runs with the most similar paths."""
    around = next((parent for parent in path.parents if is_run(parent)), None)
    if around is not None:
        return shlex.quote(str(around))
    start = next(parent for parent in (path, *path.parents) if parent.is_dir())
    runs = runs_below(start) if len(start.parts) > 2 else []
    runs = runs or runs_below(Path("outputs").absolute())
    names = [str(run) for run in runs]
    near = get_close_matches(str(path), names, n=2, cutoff=0.8) or names[:2]
    return " or ".join(shlex.quote(name) for name in near) or "ganrun, to start a run"


def runs_below(folder: Path, depth: int = 3) -> list[Path]:
    """The runs at most `depth` folders below this one, the latest first."""
    found = [config for level in range(1, depth + 1) for config in folder.glob("*/" * level + "config.yaml")]
    runs = [config for config in found if (config.parent / "checkpoints").is_dir()]
    return [config.parent for config in sorted(runs, key=lambda config: config.stat().st_mtime, reverse=True)]
