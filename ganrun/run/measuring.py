"""The callback that measures samples against held-out reals, without changing a bit of training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ganrun.config.build import Run
from ganrun.core.callbacks import Callback
from ganrun.core.context import Batch, Condition, Progress, UpdateResult
from ganrun.core.game import Game
from ganrun.core.seeding import reseed
from ganrun.data.sources.source import Source
from ganrun.metrics.comparison import QUALITY, Comparison, joined, spaces, tag
from ganrun.record.recorder import Recorder

CHUNK = 100  # samples that are drawn at once


class Measuring(Callback):
    """Measures samples of the generator, averaged where the run keeps an average, against held-out reals.

    The samples of a step follow from the seed and the step alone: a resumed run measures what it would have measured.
    A run that measures nothing, as it is set so or has no held-out images, has it too.
    """

    name = "metrics"
    form: Any = {"history": list[list[float]]}  # noqa: RUF012

    def __init__(self, run: Run, recorder: Recorder):
        """Reads the held-out images. Raises ConfigError for too few of them."""
        self.run, self.recorder = run, recorder
        settings = run.settings.get("metrics") or {"every": 0, "samples": 0}  # a run of before this group has none
        self.every, self.samples = settings["every"], settings["samples"]
        self.history: list[list[float]] = []  # the step and the quality of each measurement
        self.reals: float | None = None  # the quality of reals that the run trains on, as if they were samples
        held_out = held_out_images(run, self.samples) if self.every and run.rank.writes else {}
        self.comparison = _comparison(run, held_out) if held_out else None
        self.condition = run.game.condition_of(held_out) if held_out else Condition()

    @property
    def quality(self) -> str | None:
        """The tag of the one number that summarises the others; None for a run that measures nothing."""
        return None if self.comparison is None else tag(QUALITY, self.samples)

    def tag_of(self, metric: str | None) -> str | None:
        """The tag of a metric as settings name it: `quality` is that of this run's samples, None where it has none."""
        return self.quality if metric == QUALITY else metric

    def after_step(self, now: Progress, results: Sequence[UpdateResult], *, last: bool) -> None:
        if self.comparison is not None and (now.step % self.every == 0 or now.step == self.run.settings["steps"]):
            found = self.measure(now.step)
            self.history.append([float(now.step), found[tag(QUALITY, self.samples)]])
            self.recorder.measured(now.step, found)

    def measure(self, step: int) -> dict[str, float]:
        """Measures of samples that are drawn for this step, by tag. Infinite quality for values that are not finite."""
        assert self.comparison is not None
        reseed(self.run.settings["seed"], "metrics", step=step)
        images = list(drawn(self.run.game, self.samples, self.condition))
        found = {QUALITY: float("inf")}
        if all(bool(some.isfinite().all()) for some in images):
            labels = self.condition.labels
            found = self.comparison.measure(joined(map(spaces, images)), repeated(labels, self.samples))
        return {tag(name, self.samples): value for name, value in found.items()}

    def summary(self) -> dict[str, Any] | None:
        """How good the samples were, when they were best, and what the last quarter gained; None without a measurement.

        `gained` is by how much the best quality of the last quarter of the steps is below the best before it.
        """
        if not self.history or self.comparison is None:
            return None
        if self.reals is None:
            images = _source(self.run).examples(self.samples).images
            self.reals = self.comparison.measure(joined(map(spaces, images.split(CHUNK))))[QUALITY]
        (final, last), (step, best) = self.history[-1], min(self.history, key=lambda one: one[1])
        early, late = ([value for at, value in self.history if (at > 0.75 * final) is part] for part in (False, True))
        gained = min(early) - min(late) if early and math.isfinite(min(early) - min(late)) else None
        return {
            "metric": self.quality, "last": last if math.isfinite(last) else None,
            "best": best if math.isfinite(best) else None, "best_step": int(step),
            "reals": self.reals, "gained": gained,
        }  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Every measurement's quality so far."""
        return {"history": [list(one) for one in self.history]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.history = [list(one) for one in state.get("history", [])]


def measured_tags(run: Run) -> list[str]:
    """The tags of all that a run measures of its samples; none where it measures nothing."""
    settings = run.settings.get("metrics") or {"every": 0}
    held_out = held_out_images(run, settings["samples"]) if settings["every"] else {}
    if not held_out:
        return []
    comparison = _comparison(run, held_out)
    return [tag(name, settings["samples"]) for name in comparison.measure(comparison.reals, comparison.labels)]


def drawn(game: Game, count: int, condition: Condition, chunk: int = CHUNK) -> Iterator[Tensor]:
    """New samples from torch's generator, in chunks on the device of the game. [N, C, H, W] in [-1, 1] each

    The condition's rows [M, ...] are repeated as often as needed; without any, samples are as in training.
    """
    for start in range(0, count, chunk):
        size = min(chunk, count - start)
        yield game.draw(size, Condition(*(_rows(one, start, size) for one in condition)))


def repeated(rows: Tensor | None, count: int) -> Tensor | None:
    """The first rows [M, ...], again and again until there are `count`."""
    return None if rows is None else _rows(rows, 0, count)


def held_out_images(run: Run, most: int) -> dict[str, Batch]:
    """At most this many held-out images of each stream, [N, C, H, W]; empty where a stream has none."""
    found = {name: source.held_out(most) for name, source in run.data.sources.items()}
    return {name: batch for name, batch in found.items() if batch is not None} if all(found.values()) else {}


def _rows(tensor: Tensor | None, start: int, size: int) -> Tensor | None:
    if tensor is None:
        return None
    return tensor[torch.arange(start, start + size, device=tensor.device) % len(tensor)]


def _source(run: Run) -> Source:
    """Of the reals that the first pair's samples are to look like."""
    return run.data.sources[next(iter(run.game.plans.values())).stream]


def _comparison(run: Run, held_out: Mapping[str, Batch]) -> Comparison:
    stream = next(iter(run.game.plans.values())).stream
    data, reals = run.data.sources[stream].dataset, held_out[stream]
    modes = getattr(data, "modes", None)
    return Comparison(
        joined(map(spaces, reals.images.split(CHUNK))),
        labels=reals.labels if run.game.classes else None,
        mixture=None if modes is None else (modes, data.sigma),  # type: ignore[attr-defined]
    )
