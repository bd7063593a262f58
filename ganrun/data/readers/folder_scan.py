"""Looking through a folder of images once: which files, which classes, which sizes and modes, which are bad."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ganrun.core.errors import ConfigError, nearest
from ganrun.data.readers.image_file import SUFFIXES, Bad, Header, inspect
from ganrun.data.readers.scan_progress import track

SPLITS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation"})
THREADS, TOGETHER = 8, 64  # that look through the files, and how many a thread takes at a time
SHOWN = 5  # bad files, sizes and classes that a message lists


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The files below a folder, sorted, with the class folder that each is in."""

    paths: list[str]
    groups: list[str]  # the name of the folder right below the root; "" for files in the root itself
    ignored: int  # files that are no images by name


def find(root: str | None, where: str = "dataset.path") -> Found:
    """Every image file below the root. Hidden files and folders are left out; a loop of links is refused."""
    folder = existing(root, where)
    paths, groups, ignored = [], [], 0
    root_length = len(os.path.join(folder, ""))
    for path in _walk(os.fspath(folder), [os.path.realpath(folder)]):
        if os.path.splitext(path)[1].lower() in SUFFIXES:
            group, inside, _ = path[root_length:].partition(os.sep)
            paths.append(path)
            groups.append(group if inside else "")
        else:
            ignored += 1
    if not paths:
        others = f" ({ignored} other files)" if ignored else ""
        raise ConfigError(where, f"no images in {folder}{others}", "files such as .png or .jpg", f"another {where}")
    return Found(paths=paths, groups=groups, ignored=ignored)


def existing(root: str | None, where: str) -> Path:
    """The folder, or a refusal with the nearest name beside it."""
    if not root:
        raise ConfigError(where, "not set", "a folder of images", f"{where}=path/to/images")
    folder = Path(root)
    if folder.is_dir():
        return folder
    if folder.exists():
        remedy = f"dataset=array {where}={folder}" if folder.suffix in (".npy", ".npz") else f"{where}={folder.parent}"
        raise ConfigError(where, f"{folder} is a file", "a folder of images", remedy)
    siblings = [child.name for child in folder.parent.iterdir() if child.is_dir()] if folder.parent.is_dir() else []
    close = nearest(folder.name, siblings)
    raise ConfigError(
        where, f"no folder {folder}", "a folder of images", f"{where}={folder.parent / close}" if close else ""
    )


def _walk(folder: str, above: list[str]) -> Iterator[str]:
    """Files below a folder, through links too, each folder's in order. `above` are the real paths that lead here."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as problem:
        raise ConfigError(
            "dataset.path", f"{folder} cannot be opened ({problem.strerror})", "a readable folder"
        ) from problem
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        # only a link costs a look at the disk; a link to itself is a file that cannot be read
        if not (os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()):
            yield entry.path
            continue
        real = os.path.realpath(entry.path)
        if real in above:
            raise ConfigError("dataset.path", f"a loop of links: {entry.path} leads back to {real}", "a tree",
                          f"deleting the link {entry.name}")  # fmt: skip
        yield from _walk(entry.path, [*above, real])


def name_classes(found: Found, labels: bool | None) -> list[str]:
    """The class folders that label the images, sorted; empty when they are unlabelled."""
    names = sorted(set(found.groups) - {""})
    if labels is False or (labels is None and not names):
        return []
    if not names:
        raise ConfigError("dataset.labels", f"{len(found.paths)} files and no class folders", "a folder for each class",
                      "dataset.labels=null, with a model that needs no labels")  # fmt: skip
    stray = found.groups.count("")
    if stray:
        raise ConfigError("dataset.path", f"{stray} images beside {len(names)} class folders", "one or the other",
                      "dataset.labels=false to use all of them without classes")  # fmt: skip
    splits = [name for name in names if name.lower() in SPLITS]
    if splits:
        raise ConfigError("dataset.path", f"the folders {', '.join(splits)} are parts of a data set", "class folders",
                      f"adding /{splits[-1] if 'train' not in splits else 'train'} to dataset.path")  # fmt: skip
    return names


def headers(paths: Sequence[str], *, skip_bad: bool) -> tuple[list[int], list[Header], list[str]]:
    """Which files are good, their headers, and a line for each bad one. Bad files are refused unless skipped."""
    good, seen, bad = [], [], []
    for index, found in enumerate(track(_looked(paths), "looking through the images", len(paths))):
        if isinstance(found, Header):
            seen.append(found)
            good.append(index)
        else:
            bad.append(f"{paths[index]} {found}")
    if bad and (not skip_bad or not good):
        more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        listed = "; ".join(bad[:SHOWN]) + more
        remedy = "dataset.skip_bad=true, or deleting them" if good else "another dataset.path"
        raise ConfigError("dataset.path", f"{len(bad)} of {len(paths)} files: {listed}", "whole images", remedy)
    return good, seen, bad


def _looked(paths: Sequence[str]) -> Iterator[Header | Bad]:
    """What each file says of itself. Several at a time: a disk answers many at once, and a network even more."""
    pieces = [paths[start : start + TOGETHER] for start in range(0, len(paths), TOGETHER)]
    pool = ThreadPoolExecutor(THREADS)
    try:
        with warnings.catch_warnings():  # here, as it is one setting of the whole process
            warnings.simplefilter("ignore")
            for some in pool.map(_look, pieces):
                yield from some
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupt does not wait for the rest


def _look(paths: Sequence[str]) -> list[Header | Bad]:
    return [_header(Path(path)) for path in paths]


def _header(path: Path) -> Header | Bad:
    try:
        return inspect(path)
    except Bad as problem:
        return problem.with_traceback(None)


def counted(what: Sequence[str]) -> str:
    """`12 of 64x64, 3 of 32x32`, the most frequent first."""
    common = Counter(what).most_common()
    more = f" and {len(common) - SHOWN} more" if len(common) > SHOWN else ""
    return ", ".join(f"{count:,} of {name}" for name, count in common[:SHOWN]) + more
