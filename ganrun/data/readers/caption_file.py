"""Captions beside images: a text file for each, or one file of all as JSON lines or as a table."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ganrun.core.errors import ConfigError
from ganrun.data.readers.image_root import ImageRoot
from ganrun.data.readers.label_file import FILES
from ganrun.data.readers.listing import plain_name, some
from ganrun.data.readers.regular import open_regular, printable, reason

USUAL = ("captions.jsonl", "captions.csv", "metadata.jsonl", "metadata.csv")  # names of a file of all captions
TITLES = ("caption", "captions", "text", "sentence", "description", "prompt")  # usual titles of what is said
EXPECTED = "a FILE.txt beside each FILE.png, captions.jsonl or captions.csv"
LINE = '{"file": "NAME", "caption": "SENTENCE"} in each line'


class Captions(NamedTuple):
    """What was read of captions."""

    of: dict[str, list[str]]  # the sentences of each image, by its name
    files: list[str]  # that were read
    notes: list[str]  # sentences: what was left out


def read_captions(root: ImageRoot, file: str | None, names: Sequence[str]) -> Captions:
    """The sentences of each image [N], and the files that they are in.

    `file` is that of all captions; null looks for one of the usual names, and then for a text file beside each image,
    with a sentence in each line. Raises ConfigError where an image has none, and for files that cannot be read.
    """
    chosen = file or next((name for name in USUAL if root.holds(name)), None)
    if chosen is None:
        return _beside(root, names)
    text, place = _text(root, chosen)
    rows = _of_lines(text, place) if chosen.lower().endswith((".jsonl", ".ndjson")) else _of_table(text, place)
    found: dict[str, list[str]] = {}
    for name, sentence in rows:
        found.setdefault(plain_name(name), []).append(sentence)
    matched = _matched(found, names, place)
    others = sorted(found.keys() - {key for name in names for key in _keys(name)})
    note = f"left out, captions of images that are not there: {len(others):,} ({some([*map(printable, others)])})"
    return Captions(matched, [chosen] if root.holds(chosen) else [], [note] if others else [])


def _beside(root: ImageRoot, names: Sequence[str]) -> Captions:
    """A text file for each image, of the same name but for its ending; each line that is not empty is a sentence."""
    files = {name: f"{os.path.splitext(name)[0]}.txt" for name in names}
    found = {name: _text(root, file)[0].splitlines() for name, file in files.items() if root.holds(file)}
    whole = {plain_name(name): [line.strip() for line in lines if line.strip()] for name, lines in found.items()}
    matched = _matched({name: lines for name, lines in whole.items() if lines}, names, root.path)
    return Captions(matched, list(files.values()), [])


def _text(root: ImageRoot, file: str) -> tuple[str, str]:
    """The content of a file in the root or at a path of its own, and where it is."""
    inside = root.holds(file)
    place = root.place(file) if inside else printable(file)
    try:
        with root.open(file) if inside else open_regular(os.path.expanduser(file)) as opened:
            return opened.read().decode("utf-8-sig"), place
    except UnicodeDecodeError as problem:
        raise ConfigError(
            ".captions", f"{place} is no text in UTF-8 ({problem.reason})", "UTF-8", "saving it as UTF-8"
        ) from problem
    except Exception as problem:  # a member of an archive raises nearly anything
        raise ConfigError(
            ".captions", f"{place} cannot be opened ({reason(problem)})", EXPECTED, ".captions=null"
        ) from problem


def _of_lines(text: str, place: str) -> Iterator[tuple[str, str]]:
    """A name and a sentence of each line of JSON; of several sentences in a line, each."""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            name, said = _value(entry, FILES), _value(entry, TITLES)
        except (ValueError, TypeError, AttributeError, RecursionError) as problem:
            found = f"line {number} of {place} cannot be read ({type(problem).__name__}: {reason(problem)})"
            raise ConfigError(".captions", found, LINE, "mending that line") from problem
        for sentence in said if isinstance(said, list) else [said]:
            if not isinstance(name, str) or not isinstance(sentence, str) or not sentence.strip():
                raise ConfigError(
                    ".captions", f"line {number} of {place} has no name and sentence", LINE, "mending that line"
                )
            yield name, sentence.strip()


def _value(entry: Mapping[str, Any], usual: Iterable[str]) -> Any:
    lower = {str(key).lower(): value for key, value in entry.items()}
    return next((lower[key] for key in usual if key in lower), None)


def _of_table(text: str, place: str) -> Iterator[tuple[str, str]]:
    """A name and a sentence of each row of a table with titles, separated by commas, semicolons or tabs."""
    separator = max(",;\t", key=text.partition("\n")[0].count)
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=separator, strict=True) if row]
    except csv.Error as problem:
        raise ConfigError(
            ".captions", f"{place} cannot be read ({problem})", "a table", "saving it again as CSV"
        ) from problem
    titles = [title.strip().lower() for title in rows[0]] if rows else []
    first, second = (next((titles.index(t) for t in usual if t in titles), None) for usual in (FILES, TITLES))
    if first is None or second is None:
        found = f"{place} has the columns {some([printable(title) for title in titles]) or 'none'}"
        raise ConfigError(".captions", found, "the titles file and caption", "naming these two columns so")
    for number, row in enumerate(rows[1:], 2):
        if len(row) <= max(first, second) or not row[second].strip():
            found = f"row {number} of {place} has no caption"
            raise ConfigError(".captions", found, "a name and a caption", "writing one there")
        yield row[first].strip(), row[second].strip()


def _keys(name: str) -> tuple[str, str]:
    """What a file of captions may call this image: its name with the ending, or without it."""
    return plain_name(name), os.path.splitext(plain_name(name))[0]


def _matched(found: Mapping[str, list[str]], names: Sequence[str], place: str) -> dict[str, list[str]]:
    """The sentences of each image, by its name with the ending or without it."""
    keys = {name: next((key for key in _keys(name) if key in found), "") for name in names}
    missing = [printable(name) for name, key in keys.items() if key not in found]
    if missing:
        message = f"{len(missing):,} of {len(names):,} images have no caption in {printable(place)} ({some(missing)})"
        raise ConfigError(".captions", message, EXPECTED, "adding them, or taking these images out")
    return {name: found[key] for name, key in keys.items()}
