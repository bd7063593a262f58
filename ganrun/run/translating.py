"""Measures of a run that translates: distances to what is known, and whether translations show what their images do."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

from ganrun.core.context import Batch
from ganrun.core.from_images import FromImages
from ganrun.core.seeding import generator
from ganrun.data.datasets.base import Dataset
from ganrun.data.sources.source import bulk, chosen
from ganrun.data.transforms.value_range import to_units
from ganrun.metrics.translation import Content, Translated, distances

MOST = 100  # held-out images that are translated
LEARNT = 2000  # training images that the classifier of a target domain learns from
CPU = torch.device("cpu")


class Translating:
    """Translates held-out images in every direction of a game, and measures what becomes of them."""

    def __init__(self, game: FromImages, streams: Mapping[str, Dataset], device: torch.device, most: int = MOST):
        """At most this many held-out images of each stream. Reads no image before the first measurement."""
        self.game, self.streams, self.device, self.most = game, streams, device, most

    @cached_property
    def parts(self) -> dict[str, Dataset]:
        """Some held-out images of each stream."""
        return {name: chosen(data.test, self.most) for name, data in self.streams.items() if data.test is not None}

    @cached_property
    def batches(self) -> dict[str, Batch]:
        """The same images, on the device."""
        return {name: bulk(part).batch(self.device) for name, part in self.parts.items()}

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

    def made(self, direction: str, images: Tensor | None = None) -> Tensor:
        """Translations in this direction, of its held-out images without any. [N, C, H, W] in [-1, 1]"""
        given = self.game.given(direction, self.batches) if images is None else images
        return torch.cat([self.game.translate(direction, some) for some in given.split(MOST)])

    def _measured(self, direction: str) -> dict[str, float]:
        images, made = self.game.given(direction, self.batches), self.made(direction)
        back = self.made(self.game.back[direction], made) if direction in self.game.back else None
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
        return None if part.truth is None else to_units(part.truth.bulk()[0]).to(self.device)

    @staticmethod
    def _is_known(part: Dataset) -> bool:
        return part.inputs is not None or part.truth is not None

    def _has_content(self, direction: str) -> bool:
        """Whether origin and target have the same classes, two or more."""
        streams = self.game.origins[direction], self.game.plans[direction].stream
        origin, target = (self.streams[name] for name in streams)
        if origin.content is None or target.content is None or origin.classes != target.classes:
            return False
        return len(target.content.unique()) > 1

    def _judge(self, stream: str) -> Content:
        data = self.streams[stream]
        rows = torch.randperm(len(data), generator=generator(0, "translating"))[:LEARNT]
        part = data.part(rows)
        return Content(bulk(part).batch(CPU).images, _content(part))


def _content(part: Dataset) -> Tensor:
    assert part.content is not None
    return part.content
