"""`ganrun export RUN format=... out=FOLDER`: a network of a run as files for other programs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from ganrun.cli.words import one_operand, read_words
from ganrun.run.export.folder import export
from ganrun.run.load import RunForm

EXAMPLE = "ganrun export RUN format=safetensors out=FOLDER"


@dataclass(kw_only=True)
class Form(RunForm):
    """The settings of `ganrun export`."""

    format: Literal["safetensors", "onnx", "torch_export"]
    out: str
    network: Literal["generator", "discriminator"] = "generator"
    pair: str = ""


def main(words: Sequence[str]) -> int:
    """Export as these words ask, and print what was written; returns the exit code. Raises ConfigError."""
    operands, form = read_words("export", words, Form, EXAMPLE)
    run = one_operand("export", operands, "run", EXAMPLE)
    with shown(f"exporting {run} as {form.format}"):
        done = export(run, form=form.format, out=form.out, network=form.network, pair=form.pair, plugins=form.plugins,
                      checkpoint=form.checkpoint)  # fmt: skip
    which = f"the {'averaged ' * done.averaged}{form.network} of step {done.step:,}, {done.parameters:,} parameters"
    print(f"exported    {done.file}  ({which})")
    print(f"checked     loaded again, its outputs for {done.images} images differ by at most {done.difference:.1g}")
    print(f"how to use  {done.file.with_name('README.md')}")
    return 0


@contextmanager
def shown(what: str) -> Iterator[None]:
    """Shows on a terminal that this is being done; the line is removed afterwards."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{what} ..."):
        yield
