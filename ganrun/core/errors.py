"""Why a run ends, and with which exit code."""

from collections.abc import Iterable
from difflib import get_close_matches

BUG, REFUSED, STOPPED, ENVIRONMENT, JOBS_FAILED = 1, 2, 3, 4, 5


class Refused(ValueError):
    """The user asked for something that cannot be done; no work was started. Exit code 2.

    One line: where it was asked, what was found, what was expected, one thing to try.
    """

    def __init__(self, where: str, found: str, expected: str = "", remedy: str = ""):
        line = f"{where}: {found}" + (f", expected {expected}" if expected else "")
        super().__init__(line + (f". Try: {remedy}" if remedy else ""))

    @property
    def lines(self) -> list[str]:
        return [str(self)]


class Contradiction(Refused):
    """Several reasons at once why the chosen parts cannot play together. Exit code 2."""

    def __init__(self, reasons: Iterable[str]):
        self._reasons = list(reasons)
        ValueError.__init__(self, "; ".join(self._reasons))

    @property
    def lines(self) -> list[str]:
        return self._reasons


class Stopped(RuntimeError):
    """A guard ended the run: a number that is not finite, or a collapse. Exit code 3."""


class EnvironmentFailed(RuntimeError):
    """The machine failed during the run: a full disk, a dead worker. Exit code 4."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like this one, quoted for a message; empty when none is close."""
    matches = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return matches[0] if matches else ""
