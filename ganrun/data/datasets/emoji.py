"""Emoji with English captions, read from the archive that npm has of emoji-datasource-google, as it is.

The pictures are Google's Noto Color Emoji (Apache 2.0), cut and listed by emoji-data of Cal Henderson (MIT).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.data.datasets.base import InMemory
from ganrun.data.readers.headers import in_threads
from ganrun.data.readers.image_file import decode, inspect
from ganrun.data.readers.progress_bar import track
from ganrun.data.readers.regular import UnreadableImage, find, printable
from ganrun.data.readers.tar_file import read_members
from ganrun.data.transforms.classes import ClassSelection, select_classes
from ganrun.data.transforms.resize import check_shape

LEAST, SIDE = 16, 64  # pixels: the fewest in which an emoji can be told, and those of the archive
EXPECTED = "npm's archive of emoji-datasource-google"
FETCH = "npm pack emoji-datasource-google@16.0.0"
LIST, FOLDER = "package/emoji.json", f"package/img/google/{SIDE}/"
TONES = {"1F3FB": "light", "1F3FC": "medium-light", "1F3FD": "medium", "1F3FE": "medium-dark", "1F3FF": "dark"}


class Picture(NamedTuple):
    """What the list of the archive says of one picture."""

    file: str
    category: str  # such as food_and_drink
    caption: str


class Emoji(InMemory):
    """Some 3,800 emoji on white; the categories are the classes. About half are others' variants in skin colour.

    A caption is such as: waving hand sign, dark skin.
    """

    def __init__(self, *, path: str | None, channels: int, resolution: int, classes: ClassSelection):
        """Raises ConfigError for another archive, a damaged one, and sizes that the pictures do not have."""
        check_shape(channels, resolution, most=SIDE)
        if resolution < LEAST:
            raise ConfigError(".resolution", f"{resolution}", f"{LEAST} to {SIDE}", f".resolution={LEAST}")
        pictures, files = read_archive(path)
        names = sorted({picture.category for picture in pictures})
        labels = torch.tensor([names.index(picture.category) for picture in pictures])
        rows, chosen, kept = select_classes(classes, names, labels)
        used = pictures if rows is None else [pictures[row] for row in rows.tolist()]
        place, shape = printable(str(path)), {"channels": channels, "resolution": resolution}

        def one(picture: Picture) -> Tensor:
            name = FOLDER + picture.file
            return decoded(f"{place}[{printable(name)}]", files[name], **shape)

        images = torch.stack(list(track(in_threads(one, used), "reading the emoji", len(used))))
        super().__init__(images=images, labels=chosen, names=kept, classes=None)
        self.captions = [picture.caption for picture in used]


def read_archive(path: str | None) -> tuple[list[Picture], dict[str, bytes]]:
    """The list of the pictures, in its order, and the image files by name. Raises ConfigError for another archive."""
    if not path:
        raise ConfigError(".path", "not set", EXPECTED, f"{FETCH}, and .path=emoji-datasource-google-16.0.0.tgz")
    if find(path, ".path", EXPECTED) == "folder":
        raise ConfigError(".path", f"{printable(path)} is a folder", EXPECTED, FETCH)
    files = dict(read_members(path, _is_wanted, where=".path", expected=EXPECTED))
    pictures = listed(f"{printable(path)}[{LIST}]", files[LIST]) if LIST in files else []
    missing = [picture.file for picture in pictures if FOLDER + picture.file not in files]
    if missing or not pictures:
        lacks = f"{FOLDER}{printable(missing[0])}" if missing else f"{LIST} with pictures"
        raise ConfigError(".path", f"{printable(path)} has no {lacks}", EXPECTED, FETCH)
    return pictures, files


def _is_wanted(name: str) -> bool:
    return name == LIST or name.startswith(FOLDER)


def listed(where: str, raw: bytes) -> list[Picture]:
    """The pictures of Google's that an emoji.json lists. Raises ConfigError for what is none."""
    try:
        return [picture for entry in json.loads(raw) for picture in _of_entry(entry)]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as problem:
        raise ConfigError(where, f"is no list of emoji ({type(problem).__name__}: {problem})", "that of emoji-data",
                          FETCH) from problem  # fmt: skip


def _of_entry(entry: Mapping[str, Any]) -> Iterator[Picture]:
    """An emoji and its variants in skin colour."""
    category = str(entry["category"]).lower().replace("&", "and").replace(" ", "_")
    name = str(entry["name"]).lower()
    if entry["has_img_google"]:
        yield Picture(str(entry["image"]), category, name)
    for tones, variant in entry.get("skin_variations", {}).items():
        if variant["has_img_google"]:
            skin = " and ".join(TONES.get(tone, tone) for tone in tones.split("-"))
            yield Picture(str(variant["image"]), category, f"{name}, {skin} skin")


def decoded(place: str, raw: bytes, *, channels: int, resolution: int) -> Tensor:
    """A picture on white. [C, R, R] uint8. Raises ConfigError for a damaged one, and for another size."""
    try:
        header = inspect(BytesIO(raw))
        image = decode(BytesIO(raw), channels=channels, resolution=resolution)
    except UnreadableImage as problem:
        raise ConfigError(place, str(problem), "a whole image", FETCH) from problem
    if (header.width, header.height) != (SIDE, SIDE):
        raise ConfigError(place, f"is {header.width}x{header.height} pixels", f"{SIDE}x{SIDE}", FETCH)
    return image
