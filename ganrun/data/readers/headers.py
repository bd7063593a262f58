"""Looking through image files: the header of each, and which are damaged."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from ganrun.core.errors import ConfigError
from ganrun.data.readers.evenly_spaced import evenly_spaced
from ganrun.data.readers.image_file import LEAST, Header, inspect
from ganrun.data.readers.image_root import ImageRoot
from ganrun.data.readers.listing import SHOWN
from ganrun.data.readers.progress_bar import track
from ganrun.data.readers.regular import UnreadableImage, reason

T = TypeVar("T")
THREADS, CHUNK = 8, 64  # that read headers, and the number of files that one reads at a time
EIGHT_AND_SIXTEEN = frozenset({"uint8", "uint16"})  # types that say how bright a value is


@dataclass(frozen=True, slots=True, kw_only=True)
class Headers:
    """What was found: the indices of good files, the headers of those looked at, and a line for each damaged file."""

    good: Sequence[int]
    looked: Sequence[int]  # those of the good files whose headers were read
    seen: list[Header]
    bad: list[str]


def read_headers(
    root: ImageRoot, names: Sequence[str], *, skip_bad: bool, halved: bool = False, most: int | None = None
) -> Headers:
    """The headers of these files, or of a half of each. Raises ConfigError for damaged files.

    To skip them, all are decoded, as a file may be damaged between its header and its end. Without that, at most `most`
    of them are looked at, evenly spaced, and the rest taken for good until they are read.
    """
    rows = range(len(names)) if skip_bad or most is None else evenly_spaced(len(names), most)
    total, names = len(names), names if len(rows) == len(names) else [names[row] for row in rows]
    found = list(track(_all_headers(root, names, skip_bad), "looking through the images", len(names)))
    found = [_half(one) if halved and isinstance(one, Header) else one for one in found]
    odd = _odd(found)
    found = [_of_one_kind(one, odd) if isinstance(one, Header) else one for one in found]
    bad = [f"{root.place(name)} {one}" for name, one in zip(names, found, strict=True) if not isinstance(one, Header)]
    seen = [one for one in found if isinstance(one, Header)]
    if bad and (not skip_bad or not seen):
        more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        remedy = ".skip_bad=true, or deleting them" if seen else "another .path"
        listed = "; ".join(bad[:SHOWN]) + more
        raise ConfigError(".path", f"{len(bad)} of {len(names)} files: {listed}", "whole images", remedy)
    looked = [row for row, one in zip(rows, found, strict=True) if isinstance(one, Header)]
    return Headers(good=looked if len(names) == total else range(total), looked=looked, seen=seen, bad=bad)


def _odd(found: Sequence[Header | UnreadableImage]) -> frozenset[str]:
    """Types of values that cannot be put beside the others, as they do not say how bright they are."""
    types = Counter(one.dtype for one in found if isinstance(one, Header))
    if len(types) < 2 or set(types) <= EIGHT_AND_SIXTEEN:
        return frozenset()
    usual = types.most_common(1)[0][0]
    return frozenset(set(types) - {usual} - (EIGHT_AND_SIXTEEN if usual in EIGHT_AND_SIXTEEN else set()))


def _half(header: Header) -> Header | UnreadableImage:
    """The header of one of two images that a file holds side by side."""
    if header.width % 2 or header.width < 2 * LEAST:
        return UnreadableImage(f"is {header.width} pixels wide, which are not two images side by side")
    return header._replace(width=header.width // 2)


def _of_one_kind(header: Header, odd: frozenset[str]) -> Header | UnreadableImage:
    return UnreadableImage(f"has {header.dtype} values, unlike the others") if header.dtype in odd else header


def _all_headers(root: ImageRoot, names: Sequence[str], thoroughly: bool) -> Iterator[Header | UnreadableImage]:
    """The header of each file, or why it cannot be used."""
    pieces = [names[start : start + CHUNK] for start in range(0, len(names), CHUNK)]
    with warnings.catch_warnings():  # here, not in the threads: it is one setting of the process
        warnings.simplefilter("ignore")
        for some in in_threads(lambda piece: [_header(root, name, thoroughly) for name in piece], pieces):
            yield from some


def in_threads(function: Callable[..., T], items: Sequence[object]) -> Iterator[T]:
    """The results in order. Disks and networks serve many at once, and decoders let other threads run."""
    pool = ThreadPoolExecutor(THREADS)
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupt does not wait for the rest


def _header(root: ImageRoot, name: str, thoroughly: bool) -> Header | UnreadableImage:
    try:
        with root.open(name) as file:
            return inspect(file, thoroughly=thoroughly)
    except UnreadableImage as problem:
        return problem.with_traceback(None)
    except Exception as problem:  # members of an archive raise nearly anything
        return UnreadableImage(why_not_opened(problem))


def why_not_opened(problem: Exception) -> str:
    """Why this file could not be read, in words."""
    opening = isinstance(problem, OSError) and problem.strerror
    return f"cannot be opened ({reason(problem)})" if opening else f"is cut or damaged ({reason(problem)})"
