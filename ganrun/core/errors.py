"""Why a run ends, and with which exit code."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

BUG, CONFIG_ERROR, STOPPED, ENVIRONMENT, JOBS_FAILED = 1, 2, 3, 4, 5
# The dot of `.width` and of `'~.ends'`; not that of a path such as .cache/x.
OWN_SETTING = re.compile(r"(?:^|(?<=[\s'\"(\[~]))\.(?=[a-z_][\w.]*(?![\w./]))")
LONG = 600  # characters of what is quoted; a list of damaged files fits
PLAIN = re.compile(r"(?!(?:null|true|false|nan|inf)$)[./]*[A-Za-z_][\w./-]*", re.ASCII | re.IGNORECASE)
# What Hydra reads as it is.
READABLE = re.compile(r"""[\w./+-]*|[\[{][^'"\\]*[\]}]|\$\{[\w.]+\}|"(?:[^"\\]|\\.)*\"""", re.ASCII)
# KEY=VALUE in a sentence; a comma or a bracket of the sentence may follow. What is in quotes already comes first.
BARE = re.compile(
    r"""'[^']*'|"(?:[^"\\]|\\.)*"|(?<![^\s(])((?:~|\+{1,2})?\.?[a-z_][\w./@]*="""
    r"""(?:\[[^\]']*\]|\{[^}']*\}|[^\s'",;)]*))(?=[,;.)]?(?:\s|$))"""
)
SAFE = re.compile(r"[\w@%+=:,./-]+", re.ASCII)  # what no shell changes


def placed(text: str, place: str) -> str:
    """A part's message with its place in the configuration in front of its own settings: `.width` -> `loss.width`."""
    return OWN_SETTING.sub(f"{place}.", text)


class ConfigError(ValueError):
    """The configuration asks for something that cannot be done; no work was started. Exit code 2.

    One line: where it was asked, what was found, what was expected, one thing to try. A part does not know its place
    in the configuration: it writes its own settings with a leading dot, `.width`, and itself as `.`; whoever builds
    the part puts the place in front with `at`. Without a remedy, the command line offers the value that the
    configuration has. A remedy that begins with `where=` is that setting with everything that follows as its value.
    """

    def __init__(self, where: str, found: str, expected: str, remedy: str = ""):
        self.where, self.found, self.expected = where, found, expected
        self.remedy = _set(where, remedy) if remedy.startswith(f"{where}=") else _quoted(remedy)
        line = f"{_cut(where)}: {_cut(found) if found.strip() else repr(found)}" + (
            f", expected {expected}" if expected else ""
        )
        super().__init__(line + (f". Try: {self.remedy}" if remedy else ""))

    def trying(self, remedy: str) -> ConfigError:
        """The same error with this remedy."""
        return ConfigError(self.where, self.found, self.expected, remedy)

    def at(self, place: str) -> ConfigError:
        """The same error of a part at this place of the configuration, such as `model.generator`."""
        where = place if self.where == "." else placed(self.where, place)
        return ConfigError(where, *(placed(text, place) for text in (self.found, self.expected, self.remedy)))

    @property
    def lines(self) -> list[str]:
        """The error in one line."""
        return [str(self)]

    @property
    def complete(self) -> bool:
        """Whether it has something to try."""
        return bool(self.remedy)


class ConfigErrors(ConfigError):
    """Several reasons at once why the chosen parts cannot be combined. Exit code 2."""

    def __init__(self, reasons: Iterable[str | ConfigError]):
        self.reasons = list(reasons)
        ValueError.__init__(self, "; ".join(self.lines))

    def trying(self, remedy: str) -> ConfigErrors:
        """The same errors, with this remedy where one has none."""
        return ConfigErrors(
            reason.trying(remedy) if isinstance(reason, ConfigError) and not reason.complete else reason
            for reason in self.reasons
        )

    def at(self, place: str) -> ConfigErrors:
        """The same errors of a part at this place of the configuration."""
        return ConfigErrors(
            reason.at(place) if isinstance(reason, ConfigError) else placed(reason, place) for reason in self.reasons
        )

    @property
    def lines(self) -> list[str]:
        """The reasons, one line each."""
        return [str(reason) for reason in self.reasons]

    @property
    def complete(self) -> bool:
        """Whether each reason has something to try."""
        return all(not isinstance(reason, ConfigError) or reason.complete for reason in self.reasons)


class Stopped(RuntimeError):
    """A guard ended the run: a number that is not finite, or a collapse. Exit code 3."""


class NotFinite(Stopped):
    """A loss, a gradient or a weight is NaN or infinite."""


class EnvironmentFailed(RuntimeError):
    """The machine failed during the run: a full disk, a dead worker. Exit code 4."""


class WaitInterrupted(RuntimeError):
    """A signal came while the run waited for data in the midst of a step, which therefore cannot be finished."""


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, or sizes went beyond what an address can be. On a CPU, PyTorch raises a RuntimeError."""
    text = str(error)
    signs = ("allocate memory", "out of memory", "overflow", "Overflow", "too large", "exceeds maximum")
    return isinstance(error, MemoryError) or any(sign in text for sign in signs)


def beyond_memory(error: BaseException) -> ConfigError | None:
    """The refusal of a run for which memory ran out before any work; None for another error."""
    if not out_of_memory(error):
        return None
    found = f"not enough for this run ({str(error)[-120:]})"
    return ConfigError("memory", found, "a run that fits this machine", "a smaller batch, or narrower networks")


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like this one, for a message; empty when none is close."""
    matches = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return matches[0] if matches else ""


def typed(key: str, value: object) -> str:
    """KEY=VALUE as it is typed into a shell so that the setting gets this value: a string, a number, a list of them."""
    return for_shell(f"{key}={literal(value)}")


def for_shell(word: str) -> str:
    """A word as it is typed into a shell, in the quotes that are easiest to read."""
    if SAFE.fullmatch(word):
        return word
    if "'" not in word:
        return f"'{word}'"
    if not set(word) & set("\\$`!"):
        return '"' + word.replace('"', '\\"') + '"'
    return shlex.quote(word)


def literal(value: object) -> str:
    """A value as Hydra's parser reads it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(literal, value)) + "]"
    text = str(value)
    if not isinstance(value, str) or PLAIN.fullmatch(text):
        return text
    text = re.sub(r'(\\*)("|$)', lambda end: end[1] * 2 + end[2].replace('"', '\\"'), text)
    return '"' + text.replace("${", "\\${") + '"'


def _set(where: str, remedy: str) -> str:
    """A remedy that sets `where`: what follows is one value, whatever it is made of."""
    value = remedy.removeprefix(f"{where}=")
    return for_shell(remedy) if READABLE.fullmatch(value) or not value else typed(where, value)


def _quoted(remedy: str) -> str:
    """A remedy in which every KEY=VALUE has the quotes that a shell needs."""
    return BARE.sub(lambda found: for_shell(found[1]) if found[1] else found[0], remedy)


def _cut(text: str) -> str:
    """A text of bounded length."""
    return text if len(text) <= LONG else f"{text[: LONG // 2]} ... {text[-LONG // 3 :]}"
