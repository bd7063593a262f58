"""Looking through a folder of images once: which files, which classes, which sizes and modes, which are bad."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ganrun.data.picture import SUFFIXES, Bad, Header, inspect
from ganrun.data.progress import track
from ganrun.errors import Refused, nearest

SPLITS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation"})
SHOWN = 5  # bad files, sizes and classes that a message lists


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The files below a folder, sorted, with the class folder that each is in."""

    paths: list[Path]
    groups: list[str]  # the name of the folder right below the root; "" for files in the root itself
    ignored: int  # files that are no images by name


def find(root: str | None, where: str = "dataset.path") -> Found:
    """Every image file below the root. Hidden files and folders are left out; a loop of links is refused."""
    folder = existing(root, where)
    paths, groups, ignored = [], [], 0
    for path in sorted(_walk(folder, [os.path.realpath(folder)])):
        if path.suffix.lower() in SUFFIXES:
            inner = path.relative_to(folder).parts
            paths.append(path)
            groups.append(inner[0] if len(inner) > 1 else "")
        else:
            ignored += 1
    if not paths:
        others = f" ({ignored} other files)" if ignored else ""
        raise Refused(where, f"no images in {folder}{others}", "files such as .png or .jpg", f"another {where}")
    return Found(paths=paths, groups=groups, ignored=ignored)


def existing(root: str | None, where: str) -> Path:
    """The folder, or a refusal with the nearest name beside it."""
    if not root:
        raise Refused(where, "not set", "a folder of images", f"{where}=path/to/images")
    folder = Path(root)
    if folder.is_dir():
        return folder
    if folder.exists():
        remedy = f"dataset=array {where}={folder}" if folder.suffix in (".npy", ".npz") else f"{where}={folder.parent}"
        raise Refused(where, f"{folder} is a file", "a folder of images", remedy)
    siblings = [child.name for child in folder.parent.iterdir() if child.is_dir()] if folder.parent.is_dir() else []
    close = nearest(folder.name, siblings)
    raise Refused(
        where, f"no folder {folder}", "a folder of images", f"{where}={folder.parent / close}" if close else ""
    )


def _walk(folder: Path, above: list[str]) -> Iterator[Path]:
    """Files below a folder, through links too. `above` are the real paths that lead here."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as problem:
        raise Refused(
            "dataset.path", f"{folder} cannot be opened ({problem.strerror})", "a readable folder"
        ) from problem
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        if not os.path.isdir(entry.path):  # a link to itself is a file that cannot be read
            yield Path(entry.path)
            continue
        real = os.path.realpath(entry.path)
        if real in above:
            raise Refused("dataset.path", f"a loop of links: {entry.path} leads back to {real}", "a tree",
                          f"deleting the link {entry.name}")  # fmt: skip
        yield from _walk(Path(entry.path), [*above, real])


def name_classes(found: Found, labels: bool | None) -> list[str]:
    """The class folders that label the images, sorted; empty when they are unlabelled."""
    names = sorted(set(found.groups) - {""})
    if labels is False or (labels is None and not names):
        return []
    if not names:
        raise Refused("dataset.labels", f"{len(found.paths)} files and no class folders", "a folder for each class",
                      "dataset.labels=null, with a model that needs no labels")  # fmt: skip
    stray = found.groups.count("")
    if stray:
        raise Refused("dataset.path", f"{stray} images beside {len(names)} class folders", "one or the other",
                      "dataset.labels=false to use all of them without classes")  # fmt: skip
    splits = [name for name in names if name.lower() in SPLITS]
    if splits:
        raise Refused("dataset.path", f"the folders {', '.join(splits)} are parts of a data set", "class folders",
                      f"adding /{splits[-1] if 'train' not in splits else 'train'} to dataset.path")  # fmt: skip
    return names


def headers(paths: Sequence[Path], *, skip_bad: bool) -> tuple[list[int], list[Header], list[str]]:
    """Which files are good, their headers, and a line for each bad one. Bad files are refused unless skipped."""
    good, seen, bad = [], [], []
    for index, path in enumerate(track(paths, "looking through the images", len(paths))):
        try:
            seen.append(inspect(path))
            good.append(index)
        except Bad as problem:
            bad.append(f"{path} {problem}")
    if bad and (not skip_bad or not good):
        more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        listed = "; ".join(bad[:SHOWN]) + more
        remedy = "dataset.skip_bad=true, or deleting them" if good else "another dataset.path"
        raise Refused("dataset.path", f"{len(bad)} of {len(paths)} files: {listed}", "whole images", remedy)
    return good, seen, bad


def counted(what: Sequence[str]) -> str:
    """`12 of 64x64, 3 of 32x32`, the most frequent first."""
    common = Counter(what).most_common()
    more = f" and {len(common) - SHOWN} more" if len(common) > SHOWN else ""
    return ", ".join(f"{count:,} of {name}" for name, count in common[:SHOWN]) + more
