"""The progress of a long scan: a bar on a terminal, else a line in the log every ten seconds."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

PATIENCE = 10.0  # seconds between lines where there is no terminal
FEW = 2000  # items that are not worth a bar

log = logging.getLogger(__name__)
T = TypeVar("T")


def track(items: Iterable[T], what: str, total: int, few: int = FEW) -> Iterator[T]:
    """The same items, while showing how many of `total` are done, if these are more than `few`."""
    if total <= few:
        yield from items
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track as bar

        yield from bar(items, what, total, console=Console(stderr=True), transient=True)
    else:
        yield from _lines(items, what, total)


def _lines(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    last = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - last > PATIENCE:
            last = time.monotonic()
            log.info("%s: %d of %d", what, done, total)
        yield item
