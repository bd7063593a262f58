"""HDF5 files, whose arrays are read into memory. Needs the package h5py. Links to other files are not followed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ganrun.core.errors import ConfigError
from ganrun.data.readers.npy import DEFLATE
from ganrun.data.readers.regular import open_regular, printable, reason

MAGIC = b"\x89HDF\r\n\x1a\n"


class Hdf5:
    """The arrays of an HDF5 file by name, such as `images` or `train/images`."""

    others: tuple[str, ...] = ()
    twice: tuple[str, ...] = ()

    def __init__(self, path: Path):
        """Raises ConfigError for a damaged file, and without the package h5py."""
        self.where = printable(path)
        try:
            import h5py
        except ImportError as problem:
            found = "the package h5py, which reads HDF5 files, is not installed"
            raise ConfigError(".path", found, "the package h5py", "pip install h5py") from problem
        self._is_text = h5py.check_string_dtype
        self.names: list[str] = []
        try:
            open_regular(path).close()
            self._file = h5py.File(path, "r", locking=False)
            self._file.visititems(lambda name, part: self._note(name, part, h5py.Dataset))
        except Exception as problem:  # the library raises nearly anything on damaged files
            found = f"cannot be read ({reason(problem)})"
            raise ConfigError(self.where, found, "a whole HDF5 file", "saving it again") from problem

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _note(self, name: str, part: Any, kind: type) -> None:
        if isinstance(part, kind):
            self.names.append(name)

    def __getitem__(self, name: str) -> np.ndarray:
        """One array, read into memory. Raises ConfigError for a damaged one, and for values in other files."""
        part, where = self._file[name], f"{self.where}[{printable(name)}]"
        if part.external or part.is_virtual:
            raise ConfigError(where, "keeps its values in other files", "values in this one", "h5repack")
        if part.shape is None:
            raise ConfigError(where, "no values", "an array", "saving it again")
        words = self._is_text(part.dtype)
        if part.dtype.kind not in "buif" and not words:
            raise ConfigError(where, f"values of type {part.dtype}", "numbers of one kind", "saving them as uint8")
        stored = part.id.get_storage_size()
        if part.nbytes > DEFLATE * max(stored, 1):
            raise ConfigError(where, f"says {part.nbytes:,} bytes, and {stored:,} are stored", "a whole array",
                              "saving it again")  # fmt: skip
        try:
            return np.asarray(part.asstr()[()], str) if words else np.asarray(part[()])
        except Exception as problem:  # the library raises nearly anything on damaged files
            found = f"cannot be read ({reason(problem)})"
            raise ConfigError(where, found, "a whole array", "saving it again") from problem
