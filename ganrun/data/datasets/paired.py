"""Paired domains: images with the ones they are to be made from. Isola et al. 2017 (pix2pix), section 3."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ganrun.core import limits
from ganrun.core.errors import ConfigError
from ganrun.data.datasets.base import Dataset
from ganrun.data.datasets.beside import Beside, check_equal, check_stated
from ganrun.data.datasets.folder import Folder
from ganrun.data.readers.listing import plain_name, some

SIDES = {"left": "right", "right": "left"}


class Paired(Beside):
    """Targets as the only stream, each with its input, which is drawn with it. Unlabelled."""

    def __init__(self, *, input: Dataset, target: Dataset, channels: int | None = None, resolution: int | None = None):
        """Files belong together by their names, whatever their endings; other data by their order.

        `channels` and `resolution` are checked where they are set. Raises ConfigError for data sets of different
        shapes or lengths, and for files without a partner, unless damaged ones may lack.
        """
        check_equal(input=input, target=target)
        check_stated(target, channels=channels, resolution=resolution)
        inputs, targets, left_out = _in_step(input, target)
        super().__init__(targets, inputs)
        self.labels, self.classes, self.stacked = None, (), 0
        sides = {"input": input, "target": target}
        self.notes = [f"{name}: {note}" for name, data in sides.items() for note in data.notes] + left_out

    @property
    def inputs(self) -> Dataset:  # type: ignore[override]
        """What the targets are made from, in their order."""
        return self._others

    @property
    def kind(self) -> str:
        """What messages call these data."""
        return type(self).__name__

    @property
    def content(self) -> Tensor | None:
        """The class of what each target shows. [N] int64"""
        return self._images.labels

    def _read_fingerprint(self) -> str:
        return f"{self._others.fingerprint()}-{self._images.fingerprint()}"


class SideBySide(Paired):
    """Pairs from files that hold both images side by side, as the authors of pix2pix publish theirs."""

    def __init__(
        self,
        *,
        path: str | None,
        split: str,
        skip_bad: bool,
        range: Sequence[float] | None,
        fit: str,
        channels: int | None,
        resolution: int | None,
    ):
        """`split`: left or right, the half that is the input.

        Raises ConfigError as `Folder` does, and for another half.
        """
        limits.choice(".split", split, SIDES)
        input, target = (
            Folder(path=path, labels=False, skip_bad=skip_bad, range=range, fit=fit, channels=channels,
                   resolution=resolution, classes=None, side=side)
            for side in (split, SIDES[split])
        )  # fmt: skip
        super().__init__(input=input, target=target, channels=channels, resolution=resolution)


def _in_step(input: Dataset, target: Dataset) -> tuple[Dataset, Dataset, list[str]]:
    """Both data sets in one order, without files that have no partner as theirs is damaged; and notes about those."""
    inputs, targets = _stems("input", input), _stems("target", target)
    if not (inputs and targets) or inputs == targets:
        return input, target, []
    common = sorted(inputs.keys() & targets.keys())
    alone = [f"input/{name}" for name in inputs if name not in targets]
    alone += [f"target/{name}" for name in targets if name not in inputs]
    if not common or (alone and not (input.may_lack or target.may_lack)):
        found = f"{len(alone):,} files without a partner of the same name: {some(alone)}"
        remedy = ".input.skip_bad=true .target.skip_bad=true, or deleting them"
        if not common:
            remedy = "giving each target the name of its input"
        raise ConfigError(".", found, "two folders with the same names", remedy)
    rows = [torch.tensor([stems[name] for name in common]) for stems in (inputs, targets)]
    note = [f"left out, without a partner of the same name: {len(alone):,} ({some(alone)})"] if alone else []
    return input.part(rows[0]), target.part(rows[1]), note


def _stems(side: str, data: Dataset) -> dict[str, int]:
    """The names of the files without their endings, with their places. Raises ConfigError for one name twice."""
    stems: dict[str, int] = {}
    for index, name in enumerate(data.file_names()):
        stem = plain_name(name.rpartition(".")[0] or name)
        if stem in stems:
            raise ConfigError(f".{side}.path", f"two files are named {stem}", "one of each name", "deleting one")
        stems[stem] = index
    return stems
