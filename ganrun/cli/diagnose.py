"""`ganrun diagnose RUN`: what a run shows, what it means, and what to try, with small charts, or as a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ganrun.cli.lines import to_try, wrapped
from ganrun.cli.report import page_target
from ganrun.cli.words import one_operand, read_words, with_remedy
from ganrun.core.errors import STOPPED
from ganrun.diagnosis.finding import Finding
from ganrun.diagnosis.history import History
from ganrun.record.atomic import environment, write_atomically
from ganrun.record.progress import shown
from ganrun.record.stored import record
from ganrun.report.diagnosis_page import Course, Found, diagnosis_page
from ganrun.run.diagnoses import Diagnosed, Shown, diagnose
from ganrun.run.diagnosis_pictures import illustrations

EXAMPLE = "ganrun diagnose RUN"
BARS = "▁▂▃▄▅▆▇█"
CHART = 40  # characters of a chart
CHARTED = ("diagnosis/distance", "diagnosis/spread", "diagnosis/accuracy_real", "diagnosis/accuracy_fake",
           "loss/discriminator/total", "loss/generator/total")  # fmt: skip
FIRST = "before the first step"


@dataclass(kw_only=True)
class Form:
    """The settings of `ganrun diagnose`."""

    out: str = ""  # an HTML page, with pictures
    plugins: list[str] = field(default_factory=list)


def main(words: Sequence[str]) -> int:
    """Print the findings of a run; returns the exit code, 3 where a failure is not over. Raises ConfigError."""
    operands, form = read_words("diagnose", words, Form, EXAMPLE)
    path = Path(one_operand("diagnose", operands, "run", EXAMPLE))
    out = page_target(form.out) if form.out else None
    found = diagnose(path, form.plugins)
    again = _again(found)
    print("\n".join(_page(found, again)))
    if out is not None:
        with environment(f"cannot write {out}"):
            write_atomically(out, diagnosis_page(_course(found, again, form.plugins)).encode("utf-8", "replace"))
        print(f"page: {shown(out)}; it opens in a browser from disk")
    return STOPPED if found.failures else 0


def _again(found: Diagnosed) -> str:
    """The command that starts the run again with the likeliest remedy; empty where there is none."""
    remedy = next((words for finding in found.failures for words in finding.remedies), None)
    return "" if remedy is None else with_remedy(record(found.path / "overrides.yaml") or [], remedy)


def _page(found: Diagnosed, again: str) -> Iterator[str]:
    """The lines of the report."""
    yield f"{found.path}: step {found.step:,} of {found.settings['steps']:,}"
    if found.before:
        yield FIRST
    for finding in found.before:
        yield from _of(finding, finding.name)
    yield "findings"
    now = [one for one in found.findings if one.ended is None]
    for one in now:
        yield from _of(one.finding, f"{_name(one)}, {_when(one)}")
    if not now:
        yield from wrapped("none: neither a failure nor signs of health")
    if again:
        yield from ("again with the likeliest remedy", f"  {again}")
    past = [one for one in found.findings if one.ended is not None]
    if past:
        yield "over"
        yield from (f"  {_name(one)}, {_when(one)}" for one in past)
    yield from _charts(found.history)


def _of(finding: Finding, title: str) -> Iterator[str]:
    """A finding with its meaning, figures and remedies."""
    yield from wrapped(f"{title}: {finding.meaning}")
    yield from wrapped(finding.evidence_line, indent=4)
    yield from to_try(finding.commands)


def _name(one: Shown) -> str:
    return f"{one.finding.name} of pair {one.pair}" if one.pair else one.finding.name


def _when(one: Shown) -> str:
    return f"since step {one.began:,}" if one.ended is None else f"steps {one.began:,} to {one.ended:,}"


def _course(found: Diagnosed, again: str, plugins: Sequence[str]) -> Course:
    """What the page shows."""
    history, names = found.history, [finding.name for finding in found.failures]
    charted = [*CHARTED, *(tag for tag in history.tags if tag.startswith("metrics/quality"))]
    players = ("generator", "discriminator")
    return Course(
        name=str(found.path),
        step=found.step,
        steps=found.settings["steps"],
        verdict=f"Found and not over: {', '.join(names)}." if names else "No failure is found now.",
        findings=[*(_found(one, one.name, FIRST) for one in found.before),
                  *(_found(one.finding, _name(one), _when(one)) for one in found.findings)],
        command=again,
        curves={tag: history.points(tag) for tag in charted if tag in history},
        gradients={player: {tag.rpartition("/")[2]: history.column(tag) for tag in history.layers(player)}
                   for player in players},
        samples=found.path / "samples",
        pictures=tuple(illustrations(found.path, plugins)),
    )  # fmt: skip


def _found(finding: Finding, name: str, when: str) -> Found:
    return Found(
        name=name, when=when, meaning=finding.meaning, figures=finding.evidence_line, remedies=finding.commands
    )


def _charts(history: History) -> Iterator[str]:
    """A line for each number that was logged: its course from the first log to the last, and its value at both."""
    there = [tag for tag in CHARTED if tag in history]
    if there:
        yield "course"
    for tag in there:
        _, values = history.points(tag)
        if len(values):
            yield f"  {tag:<25} {bars(values):<{CHART}} {values[0]:.4g} to {values[-1]:.4g}"


def bars(values: np.ndarray) -> str:
    """Values [R] as a chart of one line, from their least to their largest; each character is a mean of some."""
    means = np.array([part.mean() for part in np.array_split(values, min(CHART, len(values)))])
    scale = (means - means.min()) / max(float(np.ptp(means)), 1e-30)
    return "".join(BARS[round(float(share) * (len(BARS) - 1))] for share in scale)
