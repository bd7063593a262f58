"""What is kept between runs because making it takes long: classifiers, and features of real images."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ganrun.record.atomic import write_atomically
from ganrun.record.stored import content


def cache_folder() -> Path:
    """Where it is kept: below XDG_CACHE_HOME, by default ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ganrun"


def keep(path: Path, data: bytes | memoryview) -> None:
    """Keep these bytes for the next time; where nothing can be written, they are made again then."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)


def keep_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Keep tensors [N, D] of the CPU by name, as a .npz file, whose parts carry their checksums."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{name: tensor.numpy() for name, tensor in tensors.items()})
    keep(path, buffer.getbuffer())


def kept_tensors(path: Path, names: tuple[str, ...], rows: int) -> dict[str, Tensor] | None:
    """The tensors of these names that were kept, [rows, D] each, finite; None where there is no such file.

    A damaged file, or one that holds anything else, is none: no code in it can run.
    """
    try:
        with np.load(io.BytesIO(content(path)), allow_pickle=False) as file:
            found = {name: torch.from_numpy(file[name]) for name in names}
    except Exception:  # a file made to do harm raises anything
        return None
    sound = all(one.ndim == 2 and len(one) == rows and one.dtype == torch.float32 for one in found.values())
    return found if sound and all(bool(one.isfinite().all()) for one in found.values()) else None
