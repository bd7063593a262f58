"""`ganrun check`: what is wrong with a run before it is started. Trains a copy for a few steps and writes nothing."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import closing

from omegaconf import DictConfig

from ganrun.cli.words import with_remedy
from ganrun.config.build import build
from ganrun.core.errors import STOPPED
from ganrun.core.traits import Level
from ganrun.diagnosis.finding import Finding
from ganrun.run.check import BREAKING, Examined, examine
from ganrun.run.rehearsal import check_metrics

WIDTH = 100  # columns, when the output is not a terminal
LEAST = 40  # columns, however narrow the terminal


def check(cfg: DictConfig, arguments: Sequence[str]) -> int:
    """Build what this configuration describes, print what was found, and return the exit code.

    `arguments` are what was typed, to which remedies are added. 3 for a finding that would spoil the run. Raises
    ConfigError.
    """
    run = build(cfg)
    with closing(run.data):
        check_metrics(run)
        examined = examine(run)
    print("\n".join(_page(examined, [d.sentence for d in run.diagnostics if d.level is not Level.NOTE], arguments)))
    return STOPPED if any(finding.name in BREAKING for finding in examined.findings) else 0


def _page(examined: Examined, warnings: Sequence[str], arguments: Sequence[str]) -> Iterator[str]:
    """The lines of the report."""
    for title, lines in examined.sections.items():
        yield title
        for line in lines:
            yield from _wrapped(line)
    if warnings:
        yield "warnings of the checker"
        for line in warnings:
            yield from _wrapped(line)
    yield "findings"
    for finding in examined.findings:
        yield from _of(finding, arguments)
    if not examined.findings:
        yield from _wrapped("none: nothing was found that would keep this run from learning")


def _of(finding: Finding, arguments: Sequence[str]) -> Iterator[str]:
    yield from _wrapped(f"{finding.name}: {finding.meaning}")
    if finding.evidence:
        yield from _wrapped(finding.evidence_line, indent=4)
    for number, remedy in enumerate(finding.remedies):
        yield f"    {'try' if number == 0 else 'or '}  {with_remedy(arguments, remedy)}"


def _wrapped(line: str, indent: int = 2) -> list[str]:
    """A line within the terminal; what continues it is indented further."""
    width = shutil.get_terminal_size((WIDTH, 24)).columns if sys.stdout.isatty() else WIDTH
    margin = " " * indent
    return textwrap.wrap(
        line, max(width, LEAST), initial_indent=margin, subsequent_indent=f"{margin}  ", break_on_hyphens=False
    )
