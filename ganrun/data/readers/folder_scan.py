"""Scanning a folder of images: its files, class folders, sizes and modes, and which files are damaged."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ganrun.core.errors import ConfigError, nearest
from ganrun.data.readers.image_file import SUFFIXES, Header, UnreadableImage, inspect
from ganrun.data.readers.progress_bar import track

SPLITS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation"})
THREADS, CHUNK = 8, 64  # that read headers, and the number of files that one reads at a time
SHOWN = 5  # damaged files, sizes or modes that a message lists


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderListing:
    """The files below a folder, sorted, with the class folder that each is in."""

    paths: list[str]
    groups: list[str]  # the name of the folder right below the root; "" for files in the root itself
    ignored: int  # files whose names are not those of images


def list_images(root: str | None, where: str = ".path") -> FolderListing:
    """Every image file below the root, without hidden files and folders.

    Raises ConfigError when there is none, for folders that cannot be read, and for a loop of links.
    """
    folder = existing_folder(root, where)
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
        raise ConfigError(
            where, f"no images in {folder}{others}", "image files such as PNG or JPEG", f"another {where}"
        )
    return FolderListing(paths=paths, groups=groups, ignored=ignored)


def existing_folder(root: str | None, where: str) -> Path:
    """The folder. Raises ConfigError, with the nearest name beside it, when it is not there."""
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
        raise ConfigError(".path", f"{folder} cannot be opened ({problem.strerror})", "a readable folder") from problem
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        # only a link costs a look at the disk; a link to itself is a file that cannot be read
        if not (os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()):
            yield entry.path
            continue
        real = os.path.realpath(entry.path)
        if real in above:
            raise ConfigError(".path", f"a loop of links: {entry.path} leads back to {real}", "a tree",
                          f"deleting the link {entry.name}")  # fmt: skip
        yield from _walk(entry.path, [*above, real])


def class_names(found: FolderListing, labels: bool | None) -> list[str]:
    """The class folders that label the images, sorted; empty when they are unlabelled.

    Raises ConfigError for labels that are required and missing, for images beside class folders, and for splits.
    """
    names = sorted(set(found.groups) - {""})
    if labels is False or (labels is None and not names):
        return []
    if not names:
        remedy = ".labels=null, with a model that needs no labels"
        raise ConfigError(
            ".labels", f"{len(found.paths)} files and no class folders", "a folder for each class", remedy
        )
    stray = found.groups.count("")
    if stray:
        raise ConfigError(".path", f"{stray} images beside {len(names)} class folders", "one or the other",
                      ".labels=false to use all of them without classes")  # fmt: skip
    splits = [name for name in names if name.lower() in SPLITS]
    if splits:
        raise ConfigError(".path", f"the folders {', '.join(splits)} are parts of a data set", "class folders",
                      f"adding /{splits[-1] if 'train' not in splits else 'train'} to .path")  # fmt: skip
    return names


def read_headers(paths: Sequence[str], *, skip_bad: bool) -> tuple[list[int], list[Header], list[str]]:
    """The indices of good files, their headers, and a line for each damaged file.

    Raises ConfigError for damaged files, unless they are to be skipped.
    """
    good, seen, bad = [], [], []
    for index, found in enumerate(track(_all_headers(paths), "looking through the images", len(paths))):
        if isinstance(found, Header):
            seen.append(found)
            good.append(index)
        else:
            bad.append(f"{paths[index]} {found}")
    if bad and (not skip_bad or not good):
        more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        listed = "; ".join(bad[:SHOWN]) + more
        remedy = ".skip_bad=true, or deleting them" if good else "another .path"
        raise ConfigError(".path", f"{len(bad)} of {len(paths)} files: {listed}", "whole images", remedy)
    return good, seen, bad


def _all_headers(paths: Sequence[str]) -> Iterator[Header | UnreadableImage]:
    """The header of each file, or why it cannot be used. In threads, as disks and networks serve many at once."""
    pieces = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    pool = ThreadPoolExecutor(THREADS)
    try:
        with warnings.catch_warnings():  # here, not in the threads: it is one setting of the process
            warnings.simplefilter("ignore")
            for some in pool.map(_headers, pieces):
                yield from some
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupt does not wait for the rest


def _headers(paths: Sequence[str]) -> list[Header | UnreadableImage]:
    return [_header(Path(path)) for path in paths]


def _header(path: Path) -> Header | UnreadableImage:
    try:
        return inspect(path)
    except UnreadableImage as problem:
        return problem.with_traceback(None)


def counts_in_words(what: Sequence[str]) -> str:
    """Such as `12 of 64x64, 3 of 32x32`, the most frequent first."""
    common = Counter(what).most_common()
    more = f" and {len(common) - SHOWN} more" if len(common) > SHOWN else ""
    return ", ".join(f"{count:,} of {name}" for name, count in common[:SHOWN]) + more
