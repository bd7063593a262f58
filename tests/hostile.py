"""Run folders that nobody's run has written: edited by hand, damaged, or made to do harm."""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from copy import deepcopy
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from support import composed, tiny

from ganrun.config.resume import earlier_overrides, reopen
from ganrun.run.session import Session
from ganrun.run.signals import Signals

STEPS = (2, 4)  # of the two checkpoints that `finished` leaves
ODD: tuple[Any, ...] = (None, 3, -1, "x", [1], {"a": 1}, True, float("nan"), 10**30, [[]], {})


def quiet() -> Session:
    """A session that tells nobody."""
    return Session(signals=Signals(), console=Console(file=io.StringIO()))


def finished(path: Path, *overrides: str) -> Path:
    """A run of four steps, with two checkpoints."""
    often = ("steps=4", "log.every=1", "log.checkpoint=2", "log.samples=4")
    assert quiet().start(composed(*tiny(*often, *overrides)), path, overrides=["steps=4"]) == 0
    return path


def resumed(run: Path, *overrides: str) -> int:
    """Resume as the command does, in this process."""
    typed = list(overrides)
    cfg, changes = reopen(run, typed)
    return quiet().resume(cfg, run, overrides=earlier_overrides(run) + typed, changes=changes)


def newest(run: Path) -> Path:
    return max((run / "checkpoints").glob("step_*.pt"))


def rewritten(run: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the state in the newest checkpoint, which gets the digest that its new content has."""
    path = newest(run)
    content = torch.load(path, weights_only=True)
    change(content["state"])
    path.unlink()
    buffer = io.BytesIO()
    torch.save(content, buffer)
    digest = sha256(buffer.getvalue()).hexdigest()[:16]
    (path.parent / f"{path.name.split('.')[0]}.{digest}.pt").write_bytes(buffer.getvalue())


def places(node: Any, where: tuple = ()) -> Iterator[tuple]:
    """The keys that lead to every value of a state or a configuration, inner ones first."""
    if isinstance(node, (dict, OrderedDict, list)):
        for key, value in node.items() if not isinstance(node, list) else enumerate(node):
            yield from places(value, (*where, key))
    if where:
        yield where


def put(node: Any, where: tuple, value: Any) -> None:
    """Write a value, or what a function makes of the one there, at this place."""
    for key in where[:-1]:
        node = node[key]
    node[where[-1]] = value(node[where[-1]]) if callable(value) else value


def edited(run: Path, where: tuple, value: Any) -> None:
    """Write a value at this place of config.yaml."""
    settings = yaml.safe_load((run / "config.yaml").read_text())
    put(settings, where, deepcopy(value))
    (run / "config.yaml").write_text(yaml.safe_dump(settings))


def fifo(path: Path) -> None:
    """A pipe in the place of a file: whoever opens it waits."""
    if path.is_file() or path.is_symlink():
        path.unlink()
    os.mkfifo(path)
