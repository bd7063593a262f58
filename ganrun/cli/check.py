"""`ganrun check`: what is wrong with a run before it is started. Trains a copy for a few steps and writes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

from omegaconf import DictConfig

from ganrun.cli.lines import to_try, wrapped
from ganrun.cli.words import with_remedy
from ganrun.config.build import build
from ganrun.config.overrides import read_options
from ganrun.core.errors import STOPPED
from ganrun.core.traits import Level
from ganrun.diagnosis.finding import Finding
from ganrun.run.check import Examined, examine
from ganrun.run.rehearsal import check_metrics


def check(cfg: DictConfig, arguments: Sequence[str]) -> int:
    """Build what this configuration describes, print what was found, and return the exit code.

    `arguments` are what was typed, to which remedies are added. 3 for a finding that would spoil the run. Raises
    ConfigError.
    """
    run = build(cfg)
    with closing(run.data):
        check_metrics(run)
        examined = examine(run, read_options(list(arguments)).overrides)
    print("\n".join(_page(examined, [d.sentence for d in run.diagnostics if d.level is not Level.NOTE], arguments)))
    return STOPPED if any(finding.failure for finding in examined.findings) else 0


def _page(examined: Examined, warnings: Sequence[str], arguments: Sequence[str]) -> Iterator[str]:
    """The lines of the report."""
    for title, lines in examined.sections.items():
        yield title
        for line in lines:
            yield from wrapped(line)
    if warnings:
        yield "warnings of the checker"
        for line in warnings:
            yield from wrapped(line)
    yield "findings"
    for finding in examined.findings:
        yield from _of(finding, arguments)
    if not examined.findings:
        yield from wrapped("none: nothing was found that would keep this run from learning")


def _of(finding: Finding, arguments: Sequence[str]) -> Iterator[str]:
    yield from wrapped(f"{finding.name}: {finding.meaning}")
    if finding.evidence:
        yield from wrapped(finding.evidence_line, indent=4)
    yield from to_try([with_remedy(arguments, remedy) for remedy in finding.remedies])
