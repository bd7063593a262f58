"""`ganrun walk`: images along a path between noises, between classes, or along a code."""

from __future__ import annotations

from collections.abc import Sequence

from ganrun.cli.words import one_operand, read_words
from ganrun.run.film import Film, WalkForm
from ganrun.run.load import load

EXAMPLE = "ganrun walk RUN out=walk.gif"


def main(words: Sequence[str]) -> int:
    """Draw a walk and write it; returns the exit code. Raises ConfigError before anything is drawn."""
    operands, form = read_words("walk", words, WalkForm, EXAMPLE)
    run = load(one_operand("walk", operands, "run", EXAMPLE), plugins=form.plugins, device=form.device,
               checkpoint=form.checkpoint)  # fmt: skip
    print(Film(run, form).write())
    return 0
