"""How a run came out, read back from its folder: final quality, objective, minutes, windows of metrics.jsonl."""

from __future__ import annotations

import json
import math
import os
import stat
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ganrun.core.errors import ConfigError
from ganrun.record.stored import misfit, record

LARGEST = 2**30  # bytes of metrics.jsonl; a line of 3 kB for each of 300,000 windows
LONGEST = 2**20  # bytes of one of its lines
BEFORE = {  # the form of a line of findings.jsonl
    "finding": str,
    "meaning": str,
    "failure": bool,
    "evidence": dict[str, float],
    "remedies": list[str],
}
LATEST = 2**63  # no step is as large


@dataclass(frozen=True, kw_only=True)
class Quality:
    """The quality of a run's samples as its summary has it: lower is better. None where no finite number was found."""

    metric: str  # such as metrics/quality_500, where 500 samples were measured
    last: float | None
    best: float | None
    best_step: int | None
    reals: float | None  # of reals against reals: the floor

    @classmethod
    def of(cls, summary: Mapping[str, Any]) -> Quality | None:
        """The entry `quality` of summary.json; None where there is none."""
        found = summary.get("quality")
        if not isinstance(found, dict) or not isinstance(found.get("metric"), str):
            return None
        numbers = {key: finite(found.get(key)) for key in ("last", "best", "reals")}
        return cls(metric=found["metric"], best_step=whole(found.get("best_step")), **numbers)


class Window(dict[str, float | None]):
    """The means of one line of metrics.jsonl, by metric; None where a number was not finite."""

    def __init__(self, line: str | bytes):
        """Raises ValueError for a line that no run writes."""
        found = json.loads(line)
        if not isinstance(found, dict) or (step := whole(found.pop("step", None))) is None:
            raise ValueError("no window")
        self.step = step
        self.time = finite(found.pop("time", None))  # seconds since 1970
        if not all(value is None or type(value) in (int, float) for value in found.values()):
            raise ValueError("no window")
        super().__init__({key: finite(value) for key, value in found.items()})


def windows(path: Path, damaged: list[int] | None = None) -> Iterator[Window]:
    """The lines of metrics.jsonl in order of their steps; nothing where there is no such file.

    The numbers of lines that are damaged, or not in order, are added to `damaged` and skipped. Raises ConfigError for
    what is no regular file, cannot be read, or is far too large.
    """
    last = -1
    for number, line in enumerate(_lines(path), 1):
        try:
            window = Window(line)
            if window.step <= last:
                raise ValueError("not in order")
        except (ValueError, RecursionError):
            if damaged is not None:
                damaged.append(number)
            continue
        last = window.step
        yield window


def found_before(run: Path) -> list[dict[str, Any]]:
    """The lines of what a run found before its first step. Raises ConfigError as `findings` does."""
    found = []
    for line in _lines(run / "findings.jsonl"):
        with suppress(ValueError, RecursionError):
            change = json.loads(line)
            if isinstance(change, dict) and change.get("step") == 0 and misfit(change, BEFORE) is None:
                found.append(change)
    return found


def findings(run: Path) -> list[str]:
    """The failures that a run has found and that are not over, by name, in the order in which they appeared.

    Empty for a run that was not watched. Raises ConfigError for what is no regular file, cannot be read, or is far too
    large.
    """
    found: dict[str, None] = {}
    for line in _lines(run / "findings.jsonl"):
        try:
            change = json.loads(line)
            name, state, failure = (change[key] for key in ("finding", "state", "failure"))
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if state == "over":
            found.pop(str(name), None)
        elif failure:
            found[str(name)] = None
    return list(found)


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a regular file; one that is too long comes in pieces. A pipe would be waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unusable(path, f"cannot be read ({error.strerror})") from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST:
        os.close(descriptor)
        regular = stat.S_ISREG(found.st_mode)
        raise _unusable(path, f"has more than {LARGEST >> 20} MiB" if regular else "is no regular file")
    with os.fdopen(descriptor, "rb") as file:
        try:
            while line := file.readline(LONGEST):
                yield line
        except OSError as error:
            raise _unusable(path, f"cannot be read ({error.strerror})") from error


def _unusable(path: Path, found: str) -> ConfigError:
    return ConfigError(str(path), found, "what the run wrote", "a copy of it")


def minutes(run: Path) -> float | None:
    """How long a run has trained, in minutes, until its last window; the time between interruptions is left out.

    None where it has recorded no window. Raises ConfigError for files that no run has written.
    """
    times = [window.time for window in windows(run / "metrics.jsonl") if window.time is not None]
    return trained_minutes(starts(record(run / "environment.json") or {}), times)


def trained_minutes(begun: Sequence[float], times: Sequence[float]) -> float | None:
    """The minutes from each start of training to the last window before the next; all in seconds since 1970."""
    if not times:
        return None
    ordered, begun = sorted(times), sorted(begun)
    if not begun or ordered[0] < begun[0]:
        begun = [ordered[0], *begun]
    total = 0.0
    for start, end in zip(begun, [*begun[1:], math.inf], strict=True):
        last = ordered[bisect_right(ordered, end) - 1] if ordered[0] <= end else start
        total += max(last - start, 0.0)
    return total / 60


def starts(environment: Mapping[str, Any]) -> list[float]:
    """When a run was started and resumed, in seconds since 1970, as its environment.json has it."""
    before = environment.get("before", [])
    entries = [environment, *(before if isinstance(before, list) else [])]
    found = [_timestamp(entry.get("time")) for entry in entries if isinstance(entry, dict)]
    return sorted(time for time in found if time is not None)


def _timestamp(text: Any) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
        return moment.timestamp() if moment.tzinfo else None
    except (TypeError, ValueError, OverflowError):
        return None


def finite(value: Any) -> float | None:
    """A finite number as a float; None for anything else."""
    if type(value) not in (int, float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def whole(value: Any) -> int | None:
    """A step: a whole number from 0 up. None for anything else."""
    return value if type(value) is int and 0 <= value < LATEST else None
