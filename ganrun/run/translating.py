"""Measures of a run that translates: distances to what is known, and whether translations show what their images do."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from ganrun.config.build import Run
from ganrun.core.context import Batch
from ganrun.core.from_images import FromImages
from ganrun.core.seeding import generator
from ganrun.data.datasets.base import Dataset
from ganrun.data.sources.source import bulk
from ganrun.data.transforms.value_range import to_units
from ganrun.metrics.translation import Content, Translated, distances

MOST = 100  # held-out images that are translated
LEARNT = 2000  # training images that the classifier of a target domain learns from
CPU = torch.device("cpu")


class Translating:
    """Translates held-out images in every direction of a game, and measures what becomes of them."""

    def __init__(self, run: Run):
        """Reads no image before the first measurement."""
        assert isinstance(run.game, FromImages)
        self.run, self.game = run, run.game

    @cached_property
    def parts(self) -> dict[str, Dataset]:
        """Some held-out images of each stream."""
        found = {name: source.held_out_part(MOST) for name, source in self.run.data.sources.items()}
        return {name: part for name, part in found.items() if part is not None}

    @cached_property
    def batches(self) -> dict[str, Batch]:
        """The same images, on the device."""
        return {name: bulk(part).batch(self.run.device) for name, part in self.parts.items()}

    @cached_property
    def judges(self) -> dict[str, Content]:
        """For each direction whose images are of the classes of its target domain, a classifier of that domain."""
        return {name: self._judge(plan.stream) for name, plan in self.game.plans.items() if self._has_content(name)}

    def measure(self) -> dict[str, float]:
        """Every measure, by the name under which runs record it."""
        found = {name: self._measured(name) for name in self.game.plans}
        return self.game.qualified(
            {name: {f"translation/{k}": v for k, v in one.items()} for name, one in found.items()}
        )

    def names(self) -> list[str]:
        """The names of all measures."""
        found = {}
        for name in self.game.plans:
            own = ["change", *["cycle"] * (name in self.game.back)]
            own += ["error", "error_unchanged"] if self._is_known(self.parts[self.game.origins[name]]) else []
            own += ["content", "content_of_reals"] if self._has_content(name) else []
            found[name] = {f"translation/{one}": 0.0 for one in own}
        return list(self.game.qualified(found))

    def _measured(self, direction: str) -> dict[str, float]:
        images = self.game.given(direction, self.batches)
        made = self.game.translate(direction, images)
        back = self.game.translate(self.game.back[direction], made) if direction in self.game.back else None
        found = distances(Translated(images=images, made=made, back=back, truth=self._truth(direction)))
        if (judge := self.judges.get(direction)) is not None:
            origin, target = self.game.origins[direction], self.game.plans[direction].stream
            found["content"] = judge.kept(made.cpu(), _content(self.parts[origin]))
            found["content_of_reals"] = judge.kept(self.batches[target].images.cpu(), _content(self.parts[target]))
        return found

    def _truth(self, direction: str) -> Tensor | None:
        """What the images of this direction should become, where that is known. [N, C, H, W]"""
        stream = self.game.origins[direction]
        part = self.parts[stream]
        if part.inputs is not None:
            return self.batches[stream].images
        return None if part.truth is None else to_units(part.truth.bulk()[0]).to(self.run.device)

    @staticmethod
    def _is_known(part: Dataset) -> bool:
        return part.inputs is not None or part.truth is not None

    def _has_content(self, direction: str) -> bool:
        """Whether origin and target have the same classes, two or more."""
        streams = self.game.origins[direction], self.game.plans[direction].stream
        origin, target = (self.run.data.sources[name].dataset for name in streams)
        if origin.content is None or target.content is None or origin.classes != target.classes:
            return False
        return len(target.content.unique()) > 1

    def _judge(self, stream: str) -> Content:
        data = self.run.data.sources[stream].dataset
        rows = torch.randperm(len(data), generator=generator(0, "translating"))[:LEARNT]
        part = data.part(rows)
        return Content(bulk(part).batch(CPU).images, _content(part))


def _content(part: Dataset) -> Tensor:
    assert part.content is not None
    return part.content
