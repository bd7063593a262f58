"""`ganrun sample`: new samples of a run's averaged generator, as PNG files, an array, or one picture."""

from __future__ import annotations

from collections.abc import Sequence

from ganrun.cli.words import one_operand, read_words
from ganrun.run.load import load
from ganrun.run.samples import SampleForm, Samples

EXAMPLE = "ganrun sample RUN count=1000 format=npz"


def main(words: Sequence[str]) -> int:
    """Draw samples and write them; returns the exit code. Raises ConfigError before anything is drawn."""
    operands, form = read_words("sample", words, SampleForm, EXAMPLE)
    run = load(one_operand("sample", operands, "run", EXAMPLE), plugins=form.plugins, device=form.device,
               checkpoint=form.checkpoint)  # fmt: skip
    print(Samples(run, form).write())
    return 0
