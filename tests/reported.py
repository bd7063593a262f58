"""Run folders for tests of reports: one tiny run is trained, the others are copies of it with what a test says.

No run here has measured a quality: `quality` in summary.json and `metrics/quality_500` in metrics.jsonl are written by
the test.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from hostile import finished

METRIC = "metrics/quality_500"


def trained(folder: Path) -> Path:
    """A real run of four steps with a grid at each."""
    return finished(folder, "steps=4", "log.samples=1", "game.grid=4")


def copied(
    original: Path, folder: Path, *, quality: float | None = None, reals: float = 0.5, typed: list[str] | None = None,
    **settings: Any,
) -> Path:  # fmt: skip
    """A copy of the run without its checkpoints' weight, with these settings and this quality."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(original, folder, ignore=shutil.ignore_patterns("*.pt", "events.*"))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for name, value in settings.items():
        *path, last = name.split("__")
        node = config
        for key in path:
            node = node[key]
        node[last] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    overrides = [f"{name.replace('__', '.')}={value}" for name, value in settings.items()] if typed is None else typed
    (folder / "overrides.yaml").write_text("".join(f"- {json.dumps(o)}\n" for o in overrides))
    if quality is not None:
        measured(folder, quality, reals)
    return folder


def measured(folder: Path, quality: float, reals: float = 0.5) -> None:
    """As if the run had measured its samples at each log: 3, 2 and 1 above the last, which is the best."""
    summary = json.loads((folder / "summary.json").read_text())
    summary["quality"] = {"metric": METRIC, "last": quality, "best": quality, "best_step": 4, "reals": reals}
    (folder / "summary.json").write_text(json.dumps(summary))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    told = [line | {METRIC: quality + 4 - line["step"]} for line in lines]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))


def summarised(folder: Path, **changes: Any) -> None:
    """Write these entries into the run's summary."""
    summary: Mapping[str, Any] = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps({**summary, **changes}))


def embedded(page: str) -> dict[str, Any]:
    """The numbers that the page's script draws."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return dict(json.loads(found[1]))
