"""`ganrun sample`: new samples of a run's averaged generator, or a folder of images that it translates."""

from __future__ import annotations

from collections.abc import Sequence

from ganrun.cli.opened import opened
from ganrun.core.from_images import FromImages
from ganrun.run.samples import SampleForm, Samples
from ganrun.run.translations import Translations

EXAMPLE = "ganrun sample RUN count=1000 format=npz"


def main(words: Sequence[str]) -> int:
    """Draw samples, or translate images, and write them; returns the exit code. Raises ConfigError before it begins."""
    run, form = opened("sample", words, SampleForm, EXAMPLE)
    wanted = Translations(run, form) if isinstance(run.game, FromImages) else Samples(run, form)
    print(wanted.write())
    return 0
