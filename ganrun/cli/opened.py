"""The run that a command is given, opened as its settings say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from ganrun.cli.words import one_operand, read_words
from ganrun.run.load import LoadedRun, RunForm, load

Form = TypeVar("Form", bound=RunForm)


def opened(command: str, words: Sequence[str], form: type[Form], example: str) -> tuple[LoadedRun, Form]:
    """The only operand of a command, a run, loaded without its data; and the settings. Raises ConfigError."""
    operands, given = read_words(command, words, form, example)
    run = one_operand(command, operands, "run", example)
    return load(run, plugins=given.plugins, device=given.device, checkpoint=given.checkpoint), given
