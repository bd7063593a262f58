"""`ganrun list`: every choice with the first lines of its YAML file. Needs neither torch nor Hydra."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ganrun.config.groups import CONF, own_folder
from ganrun.core.errors import ConfigError, nearest

KINDS = {
    "tricks": "tricks",
    "models": "model",
    "losses": "loss",
    "datasets": "dataset",
    "experiments": "experiment",
    "games": "game",
    "optim": "optim",
    "updates": "updates",
}
SENTENCE = re.compile(r"(?<=[.)])\s+(?=[A-Z]|ganhacks)")
PUBLISHED = re.compile(r"\b(19|20)\d\d\b|ganhacks|arXiv|\bsection\b|\bequation\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One choice, as its file describes it."""

    name: str
    what: str  # the first comment, without its source
    source: str  # who published it; empty when the file does not name it, or within `what`
    when: str  # from a comment that begins with `When:`
    path: Path


def entries(group: str, folders: Iterable[Path] = ()) -> list[Entry]:
    """Every choice of a group, by name; a user's file replaces one of ganrun with the same name."""
    found: dict[str, Entry] = {}
    for folder in (CONF, *folders):
        for path in sorted(path for path in (folder / group).rglob("*.yaml") if path.is_file()):
            name = path.relative_to(folder / group).with_suffix("").as_posix()
            found[name] = read(path, name)
    return [found[name] for name in sorted(found)]


def read(path: Path, name: str) -> Entry:
    """The choice that this file describes in the comments at its top: what it is, its source, and `When:` to try it."""
    lines = [" ".join(line.lstrip("#").split()) for line in _comments(path) if "@package" not in line]
    first = lines[0] if lines else ""
    start = next((i for i, line in enumerate(lines) if line.startswith("When:")), len(lines))
    sentences = SENTENCE.split(first)
    cut = next((i for i, sentence in enumerate(sentences) if i and PUBLISHED.search(sentence)), len(sentences))
    return Entry(
        name=name,
        what=" ".join(sentences[:cut]),
        source=" ".join(sentences[cut:]).rstrip("."),
        when=" ".join(lines[start:]).removeprefix("When:").strip(),
        path=path,
    )


def _comments(path: Path) -> list[str]:
    """The lines before the first that is not a comment."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[: next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))]


def show(arguments: Sequence[str]) -> int:
    """`ganrun list [KIND ...] [--config-dir FOLDER]`; returns the exit code."""
    kinds, folders = _read_arguments(arguments)
    for position, kind in enumerate(kinds):
        listed = entries(KINDS[kind], folders)
        heading = f"{kind}  ({_typed(KINDS[kind])})"
        print("\n" * (position > 0) + (heading if len(kinds) > 1 else f"{heading}, {len(listed)}:"))
        print(_table(listed, folders))
    return 0


def _read_arguments(arguments: Sequence[str]) -> tuple[list[str], list[Path]]:
    kinds: list[str] = []
    folders: list[Path] = []
    words = iter(arguments)
    for word in words:
        option, equals, value = word.partition("=")
        if option in ("--config-dir", "-cd"):
            folders.append(own_folder(value if equals else next(words, "")))
        else:
            kinds.append(_kind(word))
    return kinds or list(KINDS), folders


def _kind(word: str) -> str:
    """A kind, or the group that it lists, under either name."""
    names = {group: kind for kind, group in KINDS.items()} | {kind: kind for kind in KINDS}
    if word in names:
        return names[word]
    close = nearest(word, names)
    raise ConfigError(
        "list", f"there is no kind {word}", ", ".join(KINDS), f"ganrun list {names.get(close, '')}".strip()
    )


def _typed(group: str) -> str:
    return "'tricks=[NAME,NAME]'" if group == "tricks" else f"{group}=NAME"


def _table(listed: Sequence[Entry], folders: Sequence[Path]) -> str:
    """Name, what it is, source: in columns on a terminal and in a file, wrapped between words."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=3)
    table.add_column(ratio=2)
    for entry in listed:
        mine = " (yours)" if any(folder in entry.path.parents for folder in folders) else ""
        table.add_row(Text(f"  {entry.name}"), Text(entry.what + mine), Text(entry.source, style="dim"))
    console = Console(width=None if sys.stdout.isatty() else 118)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().rstrip("\n").split("\n"))
