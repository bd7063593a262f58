"""`ganrun diagnose RUN`: what a run shows, what it means, and what to try, with small charts."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from ganrun.cli.words import one_operand, read_words

EXAMPLE = "ganrun diagnose RUN"
WIDTH = 100  # columns, where the output is no terminal
BARS = "▁▂▃▄▅▆▇█"
CHART = 40  # characters of a chart
CHARTED = ("diagnosis/distance", "diagnosis/spread", "diagnosis/accuracy_real", "diagnosis/accuracy_fake",
           "loss/discriminator/total", "loss/generator/total")  # fmt: skip


@dataclass(kw_only=True)
class Form:
    """The settings of `ganrun diagnose`."""

    plugins: list[str] = field(default_factory=list)


def main(words: Sequence[str]) -> int:
    """Print the findings of a run; returns the exit code: 3 where a failure is not over."""
    operands, form = read_words("diagnose", words, Form, EXAMPLE)
    path = Path(one_operand("diagnose", operands, "run", EXAMPLE))
    from ganrun.config.accepted import accepted
    from ganrun.record.stored import record
    from ganrun.run.diagnoses import diagnose

    found = diagnose(path, form.plugins)
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    lines = [f"{path}: step {found.step:,} of {found.settings['steps']:,}", ""]
    start = ["ganrun", *(record(path / "overrides.yaml") or [])]
    for one in found.findings:
        remedies = [remedy.words(found.settings) for remedy in one.rule.remedies] if one.ended is None else []
        lines += _told(one, [[*start, *words.split()] for words in accepted(found.settings, remedies)[:3]])
    if not found.findings:
        lines += ["nothing found: neither a failure nor signs of health", ""]
    lines += _charts(found.history)
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
    return 3 if any(one.rule.failure and one.ended is None for one in found.findings) else 0
