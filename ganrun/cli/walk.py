"""`ganrun walk`: images along a path between noises, between classes, or along a code."""

from __future__ import annotations

from collections.abc import Sequence

from ganrun.cli.opened import opened
from ganrun.run.film import Film, WalkForm

EXAMPLE = "ganrun walk RUN out=walk.gif"


def main(words: Sequence[str]) -> int:
    """Draw a walk and write it; returns the exit code. Raises ConfigError before anything is drawn."""
    run, form = opened("walk", words, WalkForm, EXAMPLE)
    print(Film(run, form).write())
    return 0
