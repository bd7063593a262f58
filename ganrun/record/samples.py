"""Samples as files: one PNG for each, or one array of all. A folder of them is whole or not there."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ganrun.record.atomic import environment, write_atomically
from ganrun.record.grid import png
from ganrun.record.new_folder import new_folder


def save_pngs(path: Path, images: Iterable[np.ndarray], names: Sequence[str]) -> None:
    """Write images, uint8 [H, W, 1 or 3] each, as PNG files of these names into a new folder.

    A name may lead into folders inside it, with slashes.
    """
    with new_folder(path) as folder:
        for image, name in zip(images, names, strict=True):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(png(image))


def save_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name as one .npz, which numpy.load opens."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    with environment(f"cannot save {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, buffer.getbuffer())
