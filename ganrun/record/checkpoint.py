"""Checkpoints: files that carry their own digest, are replaced atomically, and are loaded without running code."""

from __future__ import annotations

import io
import logging
import math
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganrun.core.errors import ConfigError, NotFinite
from ganrun.record.atomic import environment, write_atomically
from ganrun.record.folder import OLD
from ganrun.record.stored import Unusable, content

logger = logging.getLogger(__name__)

FORMAT = 2  # 1: ganrun 0.1
NAME = re.compile(r"step_(\d{8,})\.([0-9a-f]{16})\.pt")
PLAIN = (str, int, bool, float, type(None))  # what a safe load accepts beside tensors and containers


class Damaged(Exception):
    """A checkpoint whose content is not what was saved under its name."""


class Checkpoints:
    """The checkpoints of one run, in one folder: step_<step>.<first 16 hex digits of the file's sha256>.pt.

    The digest in the name lets a file verify itself and stay a plain torch file: of 300 files with one
    flipped bit, torch.load reads 295 without complaint.
    """

    def __init__(self, folder: Path, *, keep: int):
        """`keep` is how many are kept, the newest. Raises ConfigError when it is below 2."""
        if keep < 2:
            raise ConfigError("log.checkpoints.keep", str(keep), "at least 2, so that a damaged one has a predecessor")
        self.folder = folder
        self.keep = keep

    def save(self, step: int, state: dict[str, Any], *, spare: int | None = None) -> Path:
        """Commit this state as one file, then delete the oldest, but not the one of step `spare`; returns its path.

        Raises NotFinite for a number that is not finite, and EnvironmentFailed when the file cannot be written.
        """
        check_finite(step, state)
        buffer = io.BytesIO()
        torch.save({"format": FORMAT, "step": step, "state": state}, buffer)
        with buffer.getbuffer() as data:
            return self._commit(step, data, spare)

    def _commit(self, step: int, data: memoryview, spare: int | None) -> Path:
        """Write these bytes under the name that their digest gives them, then prune."""
        path = self.folder / f"step_{step:08d}.{sha256(data).hexdigest()[:16]}.pt"
        self._tidy()
        intact = self.latest()
        earlier = f"{intact.name} is intact" if intact else "there is no earlier checkpoint"
        with environment(f"cannot save {path} ({len(data) / 2**20:.0f} MiB)", earlier):
            write_atomically(path, data)
            self._prune(path, step, spare)
        return path

    def latest(self) -> Path | None:
        """The newest checkpoint, whole or not."""
        return next(iter(self._newest_first()), None)

    def at(self, step: int) -> Path | None:
        """The checkpoint of this step, whole or not."""
        return next((path for path in self._newest_first() if _step(path) == step), None)

    def steps(self) -> list[int]:
        """The steps of the checkpoints, whole or not, in ascending order."""
        return sorted({_step(path) for path in self._newest_first()})

    def load(
        self, path: Path | None = None, unfit: Callable[[dict[str, Any]], str | None] = lambda state: None
    ) -> dict[str, Any]:
        """The state in this file, or in the newest one that is whole. Raises ConfigError when there is none.

        `unfit` says in what a state is not one of the run, or None; then it is passed over as a damaged one is.
        """
        if path is not None:
            try:
                return _checked(path, unfit)
            except Damaged as error:
                raise ConfigError(str(path), str(error), "a whole checkpoint", f"another of {path.parent}") from error
        reasons = []
        for candidate in self._newest_first():
            try:
                return _checked(candidate, unfit)
            except Damaged as error:
                reasons.append(f"{candidate.name} {error}")
                logger.warning("%s %s; using the one before it", candidate, error)
        found = "; ".join(reasons) or "no checkpoints"
        raise ConfigError(str(self.folder), found, "at least one whole checkpoint", "starting a new run")

    def _newest_first(self) -> list[Path]:
        files = [path for path in self.folder.glob("step_*.pt") if NAME.fullmatch(path.name)]
        return sorted(files, key=lambda path: (_step(path), path.lstat().st_mtime_ns), reverse=True)

    def _prune(self, committed: Path, step: int, spare: int | None) -> None:
        """Keep the newest, and that of step `spare`.

        Files of a later step are of a future that was abandoned, or damaged: set them aside, not deleted, because a
        user who resumed from an older checkpoint may want the newer back.
        """
        others = [path for path in self._newest_first() if path != committed]
        for path in others:
            if _step(path) >= step:
                os.replace(path, path.with_name(path.name + ".superseded"))
        for path in [path for path in others if _step(path) < step][self.keep - 1 :]:
            if _step(path) != spare and not path.is_dir():
                path.unlink()

    def _tidy(self) -> None:
        """Remove what a killed save left behind. Only the run that holds the folder's lock saves."""
        for pattern in (".step_*.tmp", ".best.*.tmp"):
            for leftover in self.folder.glob(pattern):
                leftover.unlink(missing_ok=True)


def read(path: Path) -> dict[str, Any]:
    """The state in this file, after its digest was verified; no code in it can run.

    Raises Damaged for a file that is not what was saved, and ConfigError for another format or a wrong name.
    """
    name = NAME.fullmatch(path.name)
    if name is None:
        raise ConfigError(str(path), "not a checkpoint's name", "step_<step>.<digest>.pt, as the run named it")
    try:
        data = content(path)
    except FileNotFoundError:
        if path.is_symlink():
            raise Damaged("is a link to nothing") from None
        raise ConfigError(str(path), "does not exist", "a checkpoint", f"one of those in {path.parent}") from None
    except Unusable as error:
        raise Damaged(str(error)) from error
    if sha256(data).hexdigest()[:16] != name[2]:
        raise Damaged("is damaged: its content does not match the digest in its name")
    try:
        found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # a file made to do harm raises anything
        raise Damaged("is not a checkpoint: it holds more than tensors and plain values") from error
    state = _unwrap(path, found)
    try:
        check_finite(int(name[1]), state)
    except NotFinite as error:
        raise Damaged("holds a number that is not finite") from error
    except Exception as error:  # or by a tensor of another layout
        raise Damaged("is not a checkpoint: it holds more than tensors and plain values") from error
    return state


def _checked(path: Path, unfit: Callable[[dict[str, Any]], str | None]) -> dict[str, Any]:
    """The state in this file. Raises Damaged where it is not one of the run, and ConfigError as `read` does."""
    state = read(path)
    if (found := unfit(state)) is not None:
        raise Damaged(f"does not fit this run ({found})")
    return state


def _unwrap(path: Path, found: Any) -> dict[str, Any]:
    version = found.get("format") if isinstance(found, dict) else None
    if type(version) is int and version > FORMAT:
        raise ConfigError(str(path), f"format {version}", f"format {FORMAT}", "a newer ganrun")
    if type(version) is int and version < FORMAT:
        raise ConfigError(str(path), f"a checkpoint of ganrun 0.1 (format {version})", f"format {FORMAT}", OLD)
    if type(version) is not int or not isinstance(found.get("state"), dict):
        raise Damaged("is not a checkpoint of ganrun")
    return found["state"]


def _step(path: Path) -> int:
    name = NAME.fullmatch(path.name)
    assert name is not None, path
    return int(name[1])


def check_finite(step: int, state: Any) -> None:
    """Raises NotFinite for a number that is not finite: saved, it would spoil every later step."""
    tensors: dict[torch.device, dict[str, Tensor]] = {}
    for where, value in _leaves(state, ""):
        if isinstance(value, float) and not math.isfinite(value):
            raise _not_finite(step, where)
        if isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex()):
            tensors.setdefault(value.device, {})[where] = value
    for here in tensors.values():  # one wait for each device
        finite = torch.stack([torch.isfinite(tensor.detach()).all() for tensor in here.values()]).tolist()
        for where, good in zip(here, finite, strict=True):
            if not good:
                raise _not_finite(step, where)


def _not_finite(step: int, where: str) -> NotFinite:
    return NotFinite(f"step {step}: {where} holds a number that is not finite, so no checkpoint of this step was saved")


def _leaves(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Every tensor and plain value of a state, with the keys that lead to it."""
    if type(value) in (dict, OrderedDict):
        for key, item in value.items():
            assert type(key) in PLAIN, f"{where} has a key of type {type(key)}"
            yield from _leaves(item, f"{where}.{key}" if where else str(key))
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{where}[{index}]")
    elif type(value) in (Tensor, nn.Parameter, *PLAIN):
        yield where, value
    else:
        raise TypeError(f"a checkpoint cannot hold {where}, a {type(value).__qualname__}: a safe load refuses it")
