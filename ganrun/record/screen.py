"""Standard output and standard error that cannot end a run: when they fail, it goes on without them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from ganrun.core.errors import EnvironmentFailed


class Screen:
    """A stream of text that never fails: from the first error on, what is printed is dropped.

    As when `head` has seen enough, a terminal is gone, or the disk of a log is full. What the encoding cannot hold is
    written with escapes.
    """

    def __init__(self, stream: TextIO):
        self.stream = stream
        self.problem: Exception | None = None  # the first

    def write(self, text: str) -> int:
        """Write this, if anybody still reads."""
        if self.problem is None:
            try:
                self._write(text)
            except (OSError, ValueError) as error:  # ValueError: the stream was closed
                self.problem = error
        return len(text)

    def flush(self) -> None:
        """Hand on what is buffered, if anybody still reads."""
        if self.problem is None:
            try:
                self.stream.flush()
            except (OSError, ValueError) as error:
                self.problem = error

    def _write(self, text: str) -> None:
        try:
            self.stream.write(text)
        except UnicodeEncodeError as error:
            self.stream.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def close(self) -> None:
        """Hand on what is buffered; nowhere, after an error: Python would try again at its end, and complain."""
        self.flush()
        if self.problem is not None:
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.stream.fileno())
                os.close(nowhere)


@contextmanager
def unbreakable() -> Iterator[None]:
    """Within, what is printed to standard output and standard error raises nothing, even where they are closed."""
    _open_standard_files()
    before = sys.stdout, sys.stderr
    screens = [Screen(stream or open(os.devnull, "w")) for stream in before]  # noqa: SIM115
    sys.stdout, sys.stderr = screens
    try:
        yield
    finally:
        for screen in screens:
            screen.close()
        sys.stdout, sys.stderr = before


def _open_standard_files() -> None:
    """Open what is closed of the files 0 to 2, or the next file that is opened, a checkpoint, would be written to."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def check_printed() -> None:
    """Raises EnvironmentFailed when what was to be told could not be written, unless the reader had seen enough."""
    sys.stdout.flush()
    problem = getattr(sys.stdout, "problem", None)
    if isinstance(problem, OSError) and not isinstance(problem, BrokenPipeError):
        raise EnvironmentFailed(f"standard output: {problem.strerror}. Try: another file to write to")
