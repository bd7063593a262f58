"""Why a run ends, and with which exit code."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

BUG, CONFIG_ERROR, STOPPED, ENVIRONMENT, JOBS_FAILED = 1, 2, 3, 4, 5
# The dot of `.width` and of `'~.ends'`; not that of a path such as .cache/x.
OWN_SETTING = re.compile(r"(?:^|(?<=[\s'\"(\[~]))\.(?=[a-z_][\w.]*(?![\w./]))")


def placed(text: str, place: str) -> str:
    """A part's message with its place in the configuration in front of its own settings: `.width` -> `loss.width`."""
    return OWN_SETTING.sub(f"{place}.", text)


class ConfigError(ValueError):
    """The configuration asks for something that cannot be done; no work was started. Exit code 2.

    One line: where it was asked, what was found, what was expected, one thing to try. A part does not know its place
    in the configuration: it writes its own settings with a leading dot, `.width`, and itself as `.`; whoever builds
    the part puts the place in front with `at`.
    """

    def __init__(self, where: str, found: str, expected: str = "", remedy: str = ""):
        self.where, self.found, self.expected, self.remedy = where, found, expected, remedy
        line = f"{where}: {found}" + (f", expected {expected}" if expected else "")
        super().__init__(line + (f". Try: {remedy}" if remedy else ""))

    def at(self, place: str) -> ConfigError:
        """The same error of a part at this place of the configuration, such as `model.generator`."""
        where = place if self.where == "." else placed(self.where, place)
        return ConfigError(where, *(placed(text, place) for text in (self.found, self.expected, self.remedy)))

    @property
    def lines(self) -> list[str]:
        """The error in one line."""
        return [str(self)]


class ConfigErrors(ConfigError):
    """Several reasons at once why the chosen parts cannot be combined. Exit code 2."""

    def __init__(self, reasons: Iterable[str]):
        self._reasons = list(reasons)
        ValueError.__init__(self, "; ".join(self._reasons))

    def at(self, place: str) -> ConfigErrors:
        """The same errors of a part at this place of the configuration."""
        return ConfigErrors(placed(reason, place) for reason in self._reasons)

    @property
    def lines(self) -> list[str]:
        """The reasons, one line each."""
        return self._reasons


class Stopped(RuntimeError):
    """A guard ended the run: a number that is not finite, or a collapse. Exit code 3."""


class EnvironmentFailed(RuntimeError):
    """The machine failed during the run: a full disk, a dead worker. Exit code 4."""


class WaitInterrupted(RuntimeError):
    """A signal came while the run waited for data in the midst of a step, which therefore cannot be finished."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like this one, for a message; empty when none is close."""
    matches = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return matches[0] if matches else ""
