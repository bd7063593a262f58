"""The display of a run while it trains, and the summary at its end."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

logger = logging.getLogger(__name__)

EVERY = 10.0  # seconds between plain lines
PLAYERS = (("D", "discriminator"), ("G", "generator"))  # whose total is shown, and as what
OUTPUTS = (  # of D, by the group of their metrics: what is shown first comes first
    ("probability", "D(x)", "D(G(z))"),
    ("score", "score of reals", "of fakes"),
    ("energy", "energy of reals", "of fakes"),
)


class Display:
    """A live display on a terminal; elsewhere a plain line now and then. Every such line goes to the log as well."""

    def __init__(self, *, steps: int, console: Console, start: int = 0, clock: Callable[[], float] = time.monotonic):
        """`start` is the step a resumed run goes on from."""
        self.steps, self.console, self.start, self.clock = steps, console, start, clock
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._began = self._printed_at = clock()
        self._line: str | None = None
        self._printed: str | None = None

    def __enter__(self) -> Display:
        self._began = self.clock()
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        self._print()

    def update(self, step: int, means: Mapping[str, float], images_per_second: float, moment: str = "") -> None:
        """Show step, speed, time left, where the game is in its course, losses and scores."""
        parts = [
            f"step {step:,}/{self.steps:,}",
            f"{images_per_second:,.0f} images/s",
            f"{duration(self._left(step))} left",
            *([moment] if moment else []),
            *metrics(means),
        ]
        self._line = "  ".join(parts)
        if self._live is not None:
            self._live.update(self._display(step, parts), refresh=True)  # no thread of its own: training has all cores
        if self._printed is None or step >= self.steps or self.clock() - self._printed_at >= EVERY:
            self._print()

    def tell(self, line: str) -> None:
        """Print a line that stays, and log it."""
        logger.info(line)
        self.console.print(line, soft_wrap=True, highlight=False, markup=False)

    def _left(self, step: int) -> float:
        """Seconds until the last step, at the pace so far."""
        done = step - self.start
        return (self.clock() - self._began) / done * (self.steps - step) if done > 0 else float("inf")

    def _print(self) -> None:
        """The current line, once: to the log, and to the console where there is no display."""
        if self._line is None or self._line == self._printed:
            return
        self._printed, self._printed_at = self._line, self.clock()
        logger.info(self._line)
        if self._live is None:
            self.console.print(self._line, soft_wrap=True, highlight=False, markup=False)

    def _display(self, step: int, parts: list[str]) -> Table:
        head, *rest = parts
        table = Table.grid(padding=(0, 2))
        table.add_row(Text(head, style="bold"), ProgressBar(total=self.steps, completed=step, width=24), *rest[:2])
        outer = Table.grid()
        outer.add_row(table)
        outer.add_row(Text("  ".join(rest[2:])))
        return outer


def metrics(means: Mapping[str, float]) -> list[str]:
    """The losses, and the discriminator's mean outputs: as probabilities where the loss has them, else as they are.

    Of several pairs the mean.
    """
    losses = [(name, means.get(f"loss/{player}/total")) for name, player in PLAYERS]
    text = "loss " + " ".join(f"{name} {value:.4g}" for name, value in losses if value is not None)
    for kind, *names in OUTPUTS:
        values = [over_pairs(means, kind, side) for side in ("real", "fake")]
        if values[0] is not None:
            return [
                text,
                *(f"{name} {value:.3g}" for name, value in zip(names, values, strict=True) if value is not None),
            ]
    return [text]


def over_pairs(means: Mapping[str, float], head: str, tail: str) -> float | None:
    """The mean of head/tail, or of head/<pair>/tail over the pairs; None where there is none."""
    values = [v for key, v in means.items() if key.startswith(f"{head}/") and key.rpartition("/")[2] == tail]
    return fmean(values) if values else None


def duration(seconds: float) -> str:
    """Hours, minutes and seconds as h:mm:ss, or m:ss."""
    if seconds == float("inf"):
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def summary(
    console: Console,
    *,
    folder: Path,
    step: int,
    seconds: float,
    grid: Path | None,
    checkpoint: Path | None,
    best: Path | None = None,
    quality: Mapping[str, Any] | None = None,
    findings: Sequence[str] = (),
) -> None:
    """Print where everything is, with commands that can be pasted."""
    here = shown(folder)
    rows = [
        ("run", f"{here}  (step {step:,}, {duration(seconds)})"),
        ("samples", shown(grid) if grid else "none yet"),
        ("checkpoint", shown(checkpoint) if checkpoint else "none yet"),
        *([("best", shown(best))] if best else []),
        *([("quality", _quality(quality))] if quality else []),
        *([("findings", f"{', '.join(findings)}  ({command('ganrun')} diagnose {here})")] if findings else []),
        ("curves", f"{command('tensorboard')} --logdir {here}"),
        ("resume", f"{command('ganrun')} resume {here}"),
    ]
    for name, text in rows:
        console.print(f"{name:<12}{text}", soft_wrap=True, highlight=False, markup=False)


def _quality(found: Mapping[str, Any]) -> str:
    """How far the samples are from held-out reals, when they were nearest, and whether they still come nearer."""
    if found["last"] is None:
        return "the samples are not finite"
    text = f"{found['last']:.1f}, where other reals have {found['reals']:.1f} (lower is better)"
    text += f"; best {found['best']:.1f} at step {found['best_step']:,}" if found["best"] < found["last"] else ""
    if found["gained"] is None:
        return text
    gained = f"the last quarter of the run gained {found['gained']:.1f}"
    return f"{text}; " + (f"still falling: {gained}" if found["gained"] > 0 else "no longer falling")


def command(name: str) -> str:
    """A command as it can be typed: where `scripts/ganrun` started this one, no other need be on the shell's path."""
    starter = os.environ.get("GANRUN_STARTED_BY")
    if not starter:
        return name
    return shlex.quote(starter) if name == "ganrun" else shown(Path(sys.executable).with_name(name))


def shown(path: Path) -> str:
    """A path as a shell takes it, relative when it lies below the working folder."""
    relative = os.path.relpath(path)
    return shlex.quote(str(path) if relative.startswith("..") else relative)
