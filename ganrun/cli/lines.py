"""Lines of a report in the terminal: wrapped text, and what to try."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence

ERASE = "\r\x1b[2K"  # the line of the terminal that the cursor is in
WIDTH = 100  # columns, where the output is no terminal
LEAST = 40  # columns, however narrow the terminal


def wrapped(line: str, indent: int = 2) -> list[str]:
    """A line within the terminal; what continues it is indented further."""
    width = shutil.get_terminal_size((WIDTH, 24)).columns if sys.stdout.isatty() else WIDTH
    margin = " " * indent
    return textwrap.wrap(
        line, max(width, LEAST), initial_indent=margin, subsequent_indent=f"{margin}  ", break_on_hyphens=False
    )


def to_try(commands: Sequence[str]) -> Iterator[str]:
    """A line for each of these commands, or of the words to add to one, the likeliest first. Never broken."""
    for number, command in enumerate(commands):
        yield f"    {'try' if number == 0 else 'or '}  {command}"
