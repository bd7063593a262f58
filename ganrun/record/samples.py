"""Samples as files: one PNG for each, or one array of all. A folder of them is whole or not there."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ganrun.record.atomic import environment, sync_folder, write_atomically
from ganrun.record.grid import png


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Within, a folder to fill, which then gets this name; with an error it is gone. Raises EnvironmentFailed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with environment(f"cannot save {path}"):
            temporary.mkdir(parents=True)
            yield temporary
            os.replace(temporary, path)  # an empty folder of that name gives way
            sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def save_pngs(path: Path, images: Iterable[np.ndarray], names: Sequence[str]) -> None:
    """Write images, uint8 [H, W, 1 or 3] each, as PNG files of these names into a new folder."""
    with new_folder(path) as folder:
        for image, name in zip(images, names, strict=True):
            (folder / name).write_bytes(png(image))


def save_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name as one .npz, which numpy.load opens."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    with environment(f"cannot save {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, buffer.getbuffer())
