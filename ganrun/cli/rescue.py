"""`ganrun rescue RUN`: the run again with the remedies of its findings, one after the other, until one helps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from ganrun.cli.words import one_operand, read_words, with_remedy
from ganrun.config.types import Within
from ganrun.core.errors import STOPPED
from ganrun.record.stored import record
from ganrun.run.rescue import quality_of, rescue
from ganrun.run.sweep_table import print_table

EXAMPLE = "ganrun rescue RUN tries=3"


@dataclass(kw_only=True)
class Form:
    """The settings of `ganrun rescue`."""

    tries: Annotated[int, Within(1, 20)] = 3
    out: str = ""  # the folder of the tries; RUN-rescue without one
    plugins: list[str] = field(default_factory=list)


def main(words: Sequence[str]) -> int:
    """Try remedies, print a table of them; returns the exit code, 3 where none helped. Raises ConfigError."""
    operands, form = read_words("rescue", words, Form, EXAMPLE)
    path = Path(one_operand("rescue", operands, "run", EXAMPLE))
    out = Path(form.out) if form.out else path.with_name(f"{path.resolve().name}-rescue")
    done = rescue(path, tries=form.tries, out=out, plugins=form.plugins)
    print_table(done.outcomes)
    quality = quality_of(path)
    reached = "" if quality is None else f", with quality {quality:.4g}"
    print(f"\n{path} showed {', '.join(done.failures)}{reached}")
    if done.rescued_by is None:
        print(f"none of {len(done.outcomes)} remedies helped: the table says what each came to")
        return STOPPED
    print(f"helped: {done.rescued_by}\n  {with_remedy(record(path / 'overrides.yaml') or [], done.rescued_by)}")
    return 0
