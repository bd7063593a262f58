"""Labels in files: dataset.json as the tools of StyleGAN write it, a table labels.csv, or one beside each image."""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ganrun.core.errors import ConfigError
from ganrun.data.readers.image_root import ImageRoot
from ganrun.data.readers.listing import Listing, some
from ganrun.data.readers.progress_bar import track
from ganrun.data.readers.regular import LONGEST, open_regular, printable, reason

JSON, TABLE = "dataset.json", "labels.csv"
BESIDE = ".cls"  # ending of a file that holds the label of the image of the same name, as in WebDataset's archives
REMEDY = "another name for that file, or .labels=false"
FILES = ("file", "filename", "file_name", "name", "image", "path", "id")  # usual titles of columns
LABELS = ("label", "labels", "class", "target", "category")


def find_label_file(root: ImageRoot, labels: bool | str | None) -> str | None:
    """The name of the file of labels: as set, or dataset.json or labels.csv in the root; None when there is none."""
    if labels is False:
        return None
    if isinstance(labels, str):
        return labels
    return next((name for name in (JSON, TABLE) if root.holds(name)), None)


def read_labels(root: ImageRoot, file: str, names: Sequence[str]) -> tuple[np.ndarray | None, list[str]]:
    """A label for each image [N], whole numbers or text, or None where the file says so; and notes.

    Raises ConfigError for a file that cannot be read, and when it has not one label for each image.
    """
    raw, place = _content(root, file)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise ConfigError(".labels", f"{place} is no text in UTF-8 ({problem.reason})", "UTF-8", REMEDY) from problem
    if file.lower().endswith(".json"):
        found = _of_json(text, place)
        if found is None:
            return None, [f"{os.path.basename(place)} says that there are no labels"]
    else:
        found = _of_table(text, place, names)
    return _matched(found, names, place)


def _content(root: ImageRoot, file: str) -> tuple[bytes, str]:
    """The bytes, and where they are: in the root, or at a path of its own."""
    inside = root.holds(file)
    place = root.place(file) if inside else printable(file) or "an empty name"
    try:
        with root.open(file) if inside else open_regular(file) as opened:
            return opened.read(), place
    except Exception as problem:  # a member of an archive raises nearly anything
        found = f"{place} cannot be opened ({reason(problem)})"
        raise ConfigError(".labels", found, f"{JSON}, or a table such as {TABLE}", REMEDY) from problem


def _of_json(text: str, place: str) -> dict[str, Any] | None:
    """{"labels": [["00000/img00000000.png", 6], ...]}, or null for unlabelled images."""
    expected = '{"labels": [["NAME", NUMBER], ...]}'
    try:
        pairs = json.loads(text)["labels"]
        if pairs is None:
            return None
        found = dict(pairs.items() if isinstance(pairs, dict) else ((name, label) for name, label in pairs))
    except (ValueError, TypeError, KeyError, RecursionError) as problem:
        message = f"{place} cannot be read ({type(problem).__name__}: {reason(problem)})"
        raise ConfigError(".labels", message, expected, REMEDY) from problem
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ConfigError(".labels", f"{place} names {printable(twice)} twice", "each image once", REMEDY)
    odd = next((label for label in found.values() if isinstance(label, bool) or not isinstance(label, int | str)), None)
    if odd is not None or None in found.values():
        raise ConfigError(".labels", f"a label {str(odd)[:80]} in {place}", "whole numbers or names", REMEDY)
    return found


def _of_table(text: str, place: str, names: Sequence[str]) -> dict[str, str]:
    """Rows of a file's name and its label, separated by commas, semicolons or tabs; with titles or without."""
    separator = max(",;\t", key=text.partition("\n")[0].count)
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=separator, strict=True) if row]
    except csv.Error as problem:
        raise ConfigError(".labels", f"{place} cannot be read ({problem})", "a table", REMEDY) from problem
    first, second, skipped = _columns(rows, place, names)
    found: dict[str, str] = {}
    for number, row in enumerate(rows[skipped:], skipped + 1):
        if len(row) <= max(first, second) or not row[second].strip():
            raise ConfigError(".labels", f"row {number} of {place} has no label", "a name and a label", REMEDY)
        if found.setdefault(row[first].strip(), row[second].strip()) != row[second].strip():
            message = f"{place} has two labels for {printable(row[first].strip())}"
            raise ConfigError(".labels", message, "one for each image", REMEDY)
    return found


def _columns(rows: Sequence[Sequence[str]], place: str, names: Sequence[str]) -> tuple[int, int, int]:
    """The columns of names and of labels, and 1 when the first row has titles."""
    titles = [title.strip().lower() for title in rows[0]] if rows else []
    first, second = (
        next((titles.index(title) for title in usual if title in titles), None) for usual in (FILES, LABELS)
    )
    if first is not None and second is not None:
        return first, second, 1
    if len(titles) != 2:
        message = f"{place} has the columns {some([printable(title) for title in titles]) or 'none'}"
        raise ConfigError(".labels", message, "the titles file and label, or two columns", REMEDY)
    known = {*names, *(os.path.splitext(name)[0] for name in names)}
    return 0, 1, int(rows[0][0].strip() not in known)


def _matched(found: Mapping[str, Any], names: Sequence[str], place: str) -> tuple[np.ndarray, list[str]]:
    """The label of each image, by its name with the ending or without it."""
    keys = [name if name in found else os.path.splitext(name)[0] for name in names]
    missing = [printable(name) for name, key in zip(names, keys, strict=True) if key not in found]
    if missing:
        message = f"{len(missing):,} of {len(names):,} images have no label in {place} ({some(missing)})"
        raise ConfigError(".labels", message, "one for each image", REMEDY)
    unused = len(found.keys() - set(keys))
    notes = [f"labels from {os.path.basename(place)}" + (f"; {unused:,} of them are of no image" if unused else "")]
    return _numbers_or_names([found[key] for key in keys]), notes


def _numbers_or_names(labels: Sequence[int | str]) -> np.ndarray:
    """Whole numbers where all of these are, else text [N]."""
    if all(isinstance(label, int) or (label.isascii() and label.isdigit() and len(label) < 18) for label in labels):
        values = np.array([int(label) for label in labels], dtype=object)
        return values.astype(np.int64) if max(map(abs, values)) < 2**62 else values.astype(str)
    return np.array([printable(str(label)) for label in labels])


def read_labels_beside(root: ImageRoot, found: Listing) -> np.ndarray | None:
    """The label of each image [N] in a file beside it, whole numbers or text; None where the first image has none.

    Raises ConfigError where only some images have one, and for files that cannot be read.
    """
    files = [os.path.splitext(name)[0] + BESIDE for name in found.names]
    if not root.holds(files[0]):
        return None
    missing = [printable(name) for name, file in zip(found.names, files, strict=True) if not root.holds(file)]
    if missing:
        some_of_them = f"{len(missing):,} of {len(files):,} images have no NAME{BESIDE} beside them ({some(missing)})"
        raise ConfigError(".labels", some_of_them, "one for each image", REMEDY)
    for file in files:
        found.used(file)
    return _numbers_or_names([_label(root, file) for file in track(files, "reading the labels", len(files))])


def _label(root: ImageRoot, file: str) -> str:
    try:
        with root.open(file) as opened:
            text = opened.read(LONGEST).decode("utf-8").strip()
    except Exception as problem:  # a member of an archive raises nearly anything
        found = f"{root.place(file)} cannot be read ({reason(problem)})"
        raise ConfigError(".labels", found, "a number or a name", REMEDY) from problem
    if not text:
        raise ConfigError(".labels", f"{root.place(file)} is empty", "a number or a name", REMEDY)
    return text
