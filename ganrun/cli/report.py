"""`ganrun report FOLDER...`: one HTML page that ranks and compares runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ganrun.cli.words import read_words
from ganrun.core.errors import ConfigError
from ganrun.record.atomic import environment, write_atomically
from ganrun.record.progress import shown

EXAMPLE = "ganrun report FOLDER out=report.html"
ENDINGS = (".html", ".htm")
LONGEST = 200  # bytes of the name of a file


@dataclass(frozen=True)
class Form:
    """The settings of `ganrun report`."""

    out: str = "report.html"
    better: Literal["lower", "higher"] = "lower"  # of the objective; a quality is better when it is lower


def main(words: Sequence[str]) -> int:
    """Write the page of these runs; returns the exit code. Raises ConfigError before anything is written."""
    folders, form = read_words("report", words, Form, EXAMPLE)
    out = page_target(form.out)
    from ganrun.report.page import page
    from ganrun.report.run import find_runs, read_run

    if not folders:
        raise ConfigError("report", "no folder named", "folders of runs, or of a sweep", "ganrun report outputs")
    paths = find_runs(folders)
    runs = [read_run(path) for path in _tracked(paths)]
    content = page(runs, higher=form.better == "higher").encode("utf-8", "replace")
    with environment(f"cannot write {out}"):
        write_atomically(out, content)
    size = f"{len(content) / 1e6:.1f} MB" if len(content) >= 1e6 else f"{len(content) / 1e3:.0f} kB"
    print(f"{len(runs)} run{'s' * (len(runs) != 1)} in {shown(out)} ({size}); it opens in a browser from disk")
    return 0


def _tracked(paths: Sequence[Path]) -> Iterable[Path]:
    """The same paths, with a bar on a terminal while they are read."""
    if len(paths) < 3 or not sys.stderr.isatty():
        return paths
    from rich.console import Console
    from rich.progress import track

    return track(paths, "reading runs", console=Console(stderr=True), transient=True)


def page_target(name: str) -> Path:
    """Where the page goes. Raises ConfigError for a place where it cannot be, or that holds something else."""
    from ganrun.report.page import GENERATOR

    out = Path(name)
    if out.suffix not in ENDINGS or len(os.fsencode(out.name)) > LONGEST:
        raise ConfigError("out", repr(name), "the name of a file that ends in .html", "out=report.html")
    if not os.path.isdir(out.parent):
        raise ConfigError("out", f"there is no folder {out.parent}", "a folder that exists", f"out={out.name}")
    if os.path.lexists(out) and not _is_ours(out, GENERATOR):
        raise ConfigError("out", f"{out} exists and is no report", "a new file, or an earlier report", "another out=")
    return out


def _is_ours(out: Path, mark: str) -> bool:
    """Whether a file is an earlier report, which a new one may replace."""
    from ganrun.record.stored import Unusable, content

    try:
        return mark.encode() in content(out)[:8192]
    except (OSError, Unusable):
        return False
