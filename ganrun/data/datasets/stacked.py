"""Three digits as the red, green and blue of one image: 1,000 modes to count. Metz et al. 2017, section 3.3."""

from __future__ import annotations

import torch
from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.data.datasets.base import Dataset, InMemory
from ganrun.data.datasets.benchmarks import Mnist
from ganrun.data.datasets.bundled import Digits
from ganrun.data.datasets.counter_rng import uniform
from ganrun.data.datasets.sizes import check_size
from ganrun.data.transforms.classes import ClassSelection, select_classes

MODES = tuple(str(mode) for mode in range(1000))


class Stacked(Dataset):
    """Digits drawn at random, three to an image; the class is the number that they write, 100 r + 10 g + b."""

    stacked = 10

    def __init__(self, *, digits: InMemory, size: int, seed: int, classes: ClassSelection):
        """`digits` [M, 1, R, R] with labels 0..9; image i is a function of the digits, the seed and i."""
        assert digits.labels is not None
        self.channels, self.resolution = 3, digits.resolution
        self.digits = digits.images[:, 0].contiguous()  # [M, R, R]
        drawn = uniform(seed, "stacked", rows=size, columns=3)
        picks = torch.from_numpy(drawn).mul(len(digits)).long()  # [N, 3]
        labels = (digits.labels[picks] * torch.tensor([100, 10, 1])).sum(1)
        rows, self.labels, self.classes = select_classes(classes, MODES, labels)
        self.picks = picks if rows is None else picks[rows]

    def __len__(self) -> int:
        return len(self.picks)

    def image(self, index: int) -> Tensor:
        return self.digits[self.picks[index]]

    def bulk(self) -> tuple[Tensor, Tensor | None]:
        return self.digits[self.picks], self.labels


class StackedDigits(Stacked):
    """Stacks of the 1,797 digits that scikit-learn ships."""

    def __init__(self, *, size: int, seed: int, channels: int, resolution: int, classes: ClassSelection):
        _check(size, channels)
        digits = Digits(channels=1, resolution=resolution, classes=None)
        super().__init__(digits=digits, size=size, seed=seed, classes=classes)


class StackedMnist(Stacked):
    """Stacks of MNIST's digits, from its files."""

    def __init__(
        self,
        *,
        root: str,
        split: str,
        download: bool,
        size: int,
        seed: int,
        channels: int,
        resolution: int,
        classes: ClassSelection,
    ):
        _check(size, channels)
        digits = Mnist(root=root, split=split, download=download, channels=1, resolution=resolution, classes=None)
        super().__init__(digits=digits, size=size, seed=seed, classes=classes)


def _check(size: int, channels: int) -> None:
    check_size(size, "images", least=1, usual=60000)
    if channels != 3:
        raise ConfigError(".channels", f"{channels} for three stacked digits", "3", ".channels=3")
