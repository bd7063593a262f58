"""Captions beside images: a text file for each, or one file of all as JSON lines or as a table."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ganrun.core.errors import ConfigError
from ganrun.data.readers.image_root import ImageRoot
from ganrun.data.readers.label_file import FILES
from ganrun.data.readers.listing import some
from ganrun.data.readers.regular import open_regular, printable, reason

USUAL = ("captions.jsonl", "captions.csv", "metadata.jsonl", "metadata.csv")  # names of a file of all captions
TITLES = ("caption", "captions", "text", "sentence", "description", "prompt")  # usual titles of what is said
EXPECTED = "a FILE.txt beside each FILE.png, captions.jsonl or captions.csv"
LINE = '{"file": "NAME", "caption": "SENTENCE"} in each line'


def read_captions(root: ImageRoot, file: str | None, names: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """The sentences of each image [N], by its name, and the names of the files that were read.

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
        found.setdefault(name, []).append(sentence)
    return _matched(found, names, place), [chosen] if root.holds(chosen) else []


def _beside(root: ImageRoot, names: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """A text file for each image, of the same name but for its ending; each line that is not empty is a sentence."""
    files = {name: f"{os.path.splitext(name)[0]}.txt" for name in names}
    found = {name: _text(root, file)[0].splitlines() for name, file in files.items() if root.holds(file)}
    whole = {name: [line.strip() for line in lines if line.strip()] for name, lines in found.items()}
    return _matched({name: lines for name, lines in whole.items() if lines}, names, root.path), list(files.values())


def _text(root: ImageRoot, file: str) -> tuple[str, str]:
    """The content of a file in the root or at a path of its own, and where it is."""
    inside = root.holds(file)
    place = root.place(file) if inside else printable(file)
    try:
        with root.open(file) if inside else open_regular(os.path.expanduser(file)) as opened:
            return opened.read().decode("utf-8-sig"), place
    except UnicodeDecodeError as problem:
        raise ConfigError(".captions", f"{place} is no text in UTF-8 ({problem.reason})", "UTF-8") from problem
    except Exception as problem:  # a member of an archive raises nearly anything
        raise ConfigError(".captions", f"{place} cannot be opened ({reason(problem)})", EXPECTED) from problem


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
            raise ConfigError(".captions", found, LINE) from problem
        for sentence in said if isinstance(said, list) else [said]:
            if not isinstance(name, str) or not isinstance(sentence, str) or not sentence.strip():
                raise ConfigError(".captions", f"line {number} of {place} has no name and sentence", LINE)
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
        raise ConfigError(".captions", f"{place} cannot be read ({problem})", "a table") from problem
    titles = [title.strip().lower() for title in rows[0]] if rows else []
    first, second = (next((titles.index(t) for t in usual if t in titles), None) for usual in (FILES, TITLES))
    if first is None or second is None:
        found = f"{place} has the columns {some([printable(title) for title in titles]) or 'none'}"
        raise ConfigError(".captions", found, "the titles file and caption")
    for number, row in enumerate(rows[1:], 2):
        if len(row) <= max(first, second) or not row[second].strip():
            raise ConfigError(".captions", f"row {number} of {place} has no caption", "a name and a caption")
        yield row[first].strip(), row[second].strip()


def _matched(found: Mapping[str, list[str]], names: Sequence[str], place: str) -> dict[str, list[str]]:
    """The sentences of each image, by its name with the ending or without it."""
    keys = {name: name if name in found else os.path.splitext(name)[0] for name in names}
    missing = [printable(name) for name, key in keys.items() if key not in found]
    if missing:
        message = f"{len(missing):,} of {len(names):,} images have no caption in {printable(place)} ({some(missing)})"
        raise ConfigError(".captions", message, EXPECTED)
    return {name: found[key] for name, key in keys.items()}
