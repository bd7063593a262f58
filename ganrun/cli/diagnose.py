"""`ganrun diagnose RUN`: what a run shows, what it means, and what to try, with small charts, or as a page."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ganrun.cli.report import page_target
from ganrun.cli.words import one_operand, read_words, with_remedy
from ganrun.core.errors import STOPPED, for_shell
from ganrun.diagnosis.history import History
from ganrun.record.atomic import environment, write_atomically
from ganrun.record.progress import shown
from ganrun.record.results import found_before
from ganrun.record.stored import record
from ganrun.report.diagnosis_page import Course, Found, diagnosis_page
from ganrun.run.diagnoses import Diagnosed, Shown, diagnose
from ganrun.run.diagnosing import tried
from ganrun.run.diagnosis_pictures import illustrations

EXAMPLE = "ganrun diagnose RUN"
WIDTH, LEAST = 100, 40  # columns, where the output is no terminal, and of the narrowest terminal
BARS = "▁▂▃▄▅▆▇█"
CHART = 40  # characters of a chart
CHARTED = ("diagnosis/distance", "diagnosis/spread", "diagnosis/accuracy_real", "diagnosis/accuracy_fake",
           "loss/discriminator/total", "loss/generator/total")  # fmt: skip


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
    overrides = record(path / "overrides.yaml") or []
    print("\n".join(_page(found, overrides)))
    if out is not None:
        _write(out, found, overrides, form.plugins)
    return STOPPED if any(one.rule.failure and one.ended is None for one in found.findings) else 0


def _page(found: Diagnosed, overrides: Sequence[str]) -> Iterator[str]:
    """The lines of the report."""
    yield f"{found.path}: step {found.step:,} of {found.settings['steps']:,}"
    yield from _before(found.path)
    yield "findings"
    now = [one for one in found.findings if one.ended is None]
    for one in now:
        yield from _of(one, found)
    if not now:
        yield "  none: neither a failure nor signs of health"
    remedy = next((words for one in now for words in tried(one.rule, found.settings)), None)
    if remedy is not None:
        yield from ("again with the first remedy", f"  {with_remedy(overrides, remedy)}")
    past = [one for one in found.findings if one.ended is not None]
    if past:
        yield "over"
        yield from (f"  {_name(one)}, steps {one.began:,} to {one.ended:,}" for one in past)
    yield from _charts(found.history)


def _write(out: Path, found: Diagnosed, overrides: Sequence[str], plugins: list[str]) -> None:
    """Write the page. Raises EnvironmentFailed where it cannot be written."""
    words = [
        Found(
            name=one.rule.name,
            pair=one.pair,
            meaning=one.rule.meaning,
            when=_when(one),
            figures=", ".join(f"{key} {value:.4g}" for key, value in one.evidence.items()),
            remedies=tried(one.rule, found.settings) if one.ended is None else (),
        )
        for one in found.findings
    ]
    first = next((remedy for one in words for remedy in one.remedies), None)
    failures = [one.rule.name for one in found.findings if one.rule.failure and one.ended is None]
    history = found.history
    course = Course(
        name=str(found.path), step=found.step, steps=found.settings["steps"], findings=words,
        verdict=f"Found and not over: {', '.join(failures)}." if failures else "No failure is found now.",
        command=with_remedy(overrides, first) if first else "",
        curves={tag: history.points(tag) for tag in (*CHARTED, *_measured(history))if tag in history},
        gradients={player: {tag.rpartition("/")[2]: history.column(tag) for tag in history.layers(player)}
                   for player in ("generator", "discriminator")},
        samples=found.path / "samples", pictures=tuple(illustrations(found.path, plugins)),
    )  # fmt: skip
    with environment(f"cannot write {out}"):
        write_atomically(out, diagnosis_page(course).encode("utf-8", "replace"))
    print(f"page: {shown(out)}; it opens in a browser from disk")


def _measured(history: History) -> list[str]:
    return [tag for tag in history.tags if tag.startswith("metrics/quality")]


def _when(one: Shown) -> str:
    return f"since step {one.began:,}" if one.ended is None else f"steps {one.began:,} to {one.ended:,}, over"


def _before(run: Path) -> Iterator[str]:
    """What was found before the first step; nothing where that was nothing."""
    lines = found_before(run)
    if lines:
        yield "before the first step"
    for line in lines:
        yield from _wrapped(f"{line['finding']}: {line['meaning']}")
        yield from _remedies(line["remedies"])


def _remedies(remedies: Sequence[str]) -> Iterator[str]:
    for number, remedy in enumerate(remedies):
        yield f"    {'try' if number == 0 else 'or '}  {' '.join(map(for_shell, remedy.split()))}"


def _of(one: Shown, found: Diagnosed) -> Iterator[str]:
    """A finding with its meaning, figures and remedies."""
    yield from _wrapped(f"{_name(one)}, since step {one.began:,}: {one.rule.meaning}")
    yield from _wrapped(", ".join(f"{key} {value:.4g}" for key, value in one.evidence.items()), indent=4)
    yield from _remedies(tried(one.rule, found.settings))


def _name(one: Shown) -> str:
    return f"{one.rule.name} of pair {one.pair}" if one.pair else one.rule.name


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


def _wrapped(line: str, indent: int = 2) -> list[str]:
    width = shutil.get_terminal_size((WIDTH, 24)).columns if sys.stdout.isatty() else WIDTH
    margin = " " * indent
    return textwrap.wrap(
        line, max(width, LEAST), initial_indent=margin, subsequent_indent=f"{margin}  ", break_on_hyphens=False
    )
