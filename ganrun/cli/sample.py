"""`ganrun sample`: new samples of a run's averaged generator, as PNG files, an array, or one picture."""

from __future__ import annotations

from collections.abc import Sequence

from ganrun.cli.opened import opened
from ganrun.run.samples import SampleForm, Samples

EXAMPLE = "ganrun sample RUN count=1000 format=npz"


def main(words: Sequence[str]) -> int:
    """Draw samples and write them; returns the exit code. Raises ConfigError before anything is drawn."""
    run, form = opened("sample", words, SampleForm, EXAMPLE)
    print(Samples(run, form).write())
    return 0
