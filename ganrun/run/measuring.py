"""The callback that measures samples against held-out reals, without changing a bit of training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from ganrun.config.build import Run
from ganrun.core.callbacks import Callback
from ganrun.core.context import Batch, Condition, Progress, UpdateResult
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.from_images import FromImages
from ganrun.core.game import Game
from ganrun.core.pair import Pair
from ganrun.core.seeding import generator, reseed
from ganrun.core.traits import Traits
from ganrun.data.sources.source import Source
from ganrun.metrics.comparison import QUALITY, Comparison, check_count, joined, spaces, tag
from ganrun.metrics.copying import Memorised
from ganrun.metrics.features import pixels
from ganrun.metrics.generalisation import GAP, generalisation_gap
from ganrun.metrics.published import Published
from ganrun.metrics.requested import Requested, check
from ganrun.record.recorder import Recorder
from ganrun.run.published import KINDS, Seen, networks
from ganrun.run.translating import Translating

CHUNK = 100  # samples that are drawn at once
COPIED = 2_000  # training images that samples may be copies of
PIXELS = "pixels"  # the space in which they are compared
COPIES = "memorised"  # the share of samples that are


class Measuring(Callback):
    """Measures samples of the generator, averaged where the run keeps an average, against held-out reals.

    The samples of a step follow from the seed and the step alone: a resumed run measures what it would have measured.
    A run that measures nothing, as it is set so or has no held-out images, has it too.
    """

    name = "metrics"
    form: Any = {"history": list[list[float]]}  # noqa: RUF012

    def __init__(self, run: Run, recorder: Recorder):
        """Reads no image before the first measurement. Raises ConfigError for too few held-out images."""
        self.run, self.recorder = run, recorder
        self.every, self.samples = run.settings["metrics"]["every"], sample_count(run)
        self.history: list[list[float]] = []  # the step and the quality of each measurement
        self.acts = measures(run) and run.rank.writes
        self.published = published(run) if self.acts else []
        if self.acts:
            check_count(min(len(_target(run).dataset.test or ()), self.samples))
            resolution = _target(run).dataset.resolution
            check(resolution, swd=_asked(run, "swd"), ms_ssim=_asked(run, "ms_ssim"), place="metrics.{}")

    @cached_property
    def held_out(self) -> dict[str, Batch]:
        """Held-out images of each stream. [N, C, H, W]"""
        return held_out_images(self.run, self.samples)

    @cached_property
    def comparison(self) -> Comparison:
        """What samples are compared with."""
        return _comparison(self.run, self.held_out)

    @cached_property
    def memorised(self) -> Memorised:
        """Training images, at most 2,000, that samples may be copies of: the same selection in every run."""
        source = _target(self.run)
        rows = torch.randperm(len(source.dataset), generator=generator(0, "copied images"))[:COPIED]
        train = [pixels(source.pick(some).images.float()).double() for some in rows.split(CHUNK)]
        return Memorised(torch.cat(train), self.comparison.reals[PIXELS])

    @cached_property
    def seen(self) -> Seen:
        """What samples are compared with, as published networks see it."""
        return Seen(self.published, self.held_out[self.run.game.target].images, self.run.device)

    @cached_property
    def requested(self) -> Requested:
        """The measures that are made because the settings ask for them."""
        return _requested(self.run, self.held_out)

    @cached_property
    def translating(self) -> Translating | None:
        """Measures of translations; None where images are made from noise."""
        return _translating(self.run)

    @cached_property
    def reals(self) -> float:
        """The quality of reals that the run trains on, as if they were samples."""
        return self.comparison.measure(joined(map(spaces, self._trained().split(CHUNK))))[QUALITY]

    @cached_property
    def floor(self) -> dict[str, float]:
        """Published and requested measures of reals that the run trains on, as if they were samples, by tag."""
        if not self.published and not self.requested:
            return {}
        trained = _target(self.run).examples(self.samples)
        labels = trained.labels if self.run.game.classes else None
        found = self.seen.floor(trained.images) if self.published else {}
        found |= self.requested.measure(trained.images, labels)
        return {tag(name, self.samples): value for name, value in found.items()}

    def _trained(self) -> Tensor:
        """As many reals of the training set as there are samples. [N, C, H, W]"""
        return _target(self.run).examples(self.samples).images

    @property
    def quality(self) -> str | None:
        """The tag of the one number that summarises the others; None for a run that measures nothing."""
        return tag(QUALITY, self.samples) if self.acts else None

    def tag_of(self, metric: str | None) -> str | None:
        """The tag of a metric as settings name it: `quality` is that of this run's samples, None where it has none."""
        return self.quality if metric == QUALITY else metric

    def after_step(self, now: Progress, results: Sequence[UpdateResult], *, last: bool) -> None:
        if self.acts and (now.step % self.every == 0 or now.step == self.run.settings["steps"]):
            found = self.measure(now.step)
            self.history.append([float(now.step), found[tag(QUALITY, self.samples)]])
            self.recorder.measured(now.step, found)

    def measure(self, step: int) -> dict[str, float]:
        """Measures of samples that are drawn for this step, by tag. Infinite quality for values that are not finite."""
        condition = self.run.game.condition_of(self.held_out)
        reseed(self.run.settings["seed"], "metrics", step=step)
        images = list(drawn(self.run.game, self.samples, condition))
        found = {QUALITY: float("inf")}
        if all(bool(some.isfinite().all()) for some in images):
            features, given = joined(map(spaces, images)), condition.each(lambda rows: _rows(rows, 0, self.samples))
            found = self.comparison.measure(features, given.labels)
            found |= {COPIES: self.memorised.share(features[PIXELS])} if PIXELS in features else {}
            found |= self._gap(Batch(torch.cat(images), given)) if scores(self.run.game) else {}
            found |= self.seen.measure(torch.cat(images)) if self.published else {}
            found |= self.requested.measure(torch.cat(images), given.labels)
            further = self.translating.measure() if self.translating is not None else {}
            return {tag(name, self.samples): value for name, value in found.items()} | further
        return {tag(name, self.samples): value for name, value in found.items()}

    def _gap(self, fakes: Batch) -> dict[str, float]:
        """D's generalisation gap, of equally many of each kind; nothing while D scores all alike."""
        held_out = self.held_out[self.run.game.target]
        trained, pair = _target(self.run).examples(len(held_out.images)), target_pair(self.run.game)
        least = min(len(held_out.images), len(fakes.images))
        gap = generalisation_gap(pair, *(_first(one, least) for one in (trained, held_out, fakes)))
        return {} if gap is None else {GAP: gap}

    def summary(self) -> dict[str, Any] | None:
        """How good the samples were, when they were best, and what the last quarter gained; None without a measurement.

        `gained` is by how much the best quality of the last quarter of the steps is below the best before it. `floor`
        has the measures of published networks, and requested ones, of reals in the samples' place.
        """
        if not self.history or not self.acts:
            return None
        (final, last), (step, best) = self.history[-1], min(self.history, key=lambda one: one[1])
        early, late = ([value for at, value in self.history if (at > 0.75 * final) is part] for part in (False, True))
        gained = min(early) - min(late) if early and math.isfinite(min(early) - min(late)) else None
        return {
            "metric": self.quality, "last": last if math.isfinite(last) else None,
            "best": best if math.isfinite(best) else None, "best_step": int(step),
            "reals": self.reals, "gained": gained, **({"floor": self.floor} if self.floor else {}),
        }  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Every measurement's quality so far."""
        return {"history": [list(one) for one in self.history]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.history = [list(one) for one in state.get("history", [])]


def measured_tags(run: Run) -> list[str]:
    """The tags of all that a run measures of its samples; none where it measures nothing."""
    if not measures(run):
        return []
    samples = sample_count(run)
    comparison = _comparison(run, held_out_images(run, samples))
    names = [*comparison.measure(comparison.reals, comparison.labels)]
    names += [COPIES] if PIXELS in comparison.reals else []
    names += [GAP] if scores(run.game) else []
    names += [name for network in published(run) for name in network.names()]
    names += _requested(run, held_out_images(run, samples)).names(labelled=bool(run.game.classes))
    translating = _translating(run)
    return [*(tag(name, samples) for name in names), *([] if translating is None else translating.names())]


def published(run: Run) -> list[Published]:
    """The published networks whose weights a run that measures is given.

    Raises ConfigError as `networks` does, and where there are weights and nothing held out to compare with.
    """
    files = {kind: (run.settings["metrics"].get(kind) or {}).get("weights") for kind in KINDS}
    given = [kind for kind, file in files.items() if file is not None]
    if not given or not run.settings["metrics"]["every"]:
        return []
    if not measures(run):
        where = f"metrics.{given[0]}.weights"
        raise ConfigError(where, "no images are held out to compare with", "some", "dataset.held_out=0.1")
    data = _target(run).dataset
    return networks(files, "metrics.{}.weights", channels=data.channels, resolution=data.resolution)


def target_pair(game: Game) -> Pair:
    """The pair whose generator makes the samples that are measured."""
    return next(iter(game.named_pairs().values()))


def scores(game: Game) -> bool:
    """Whether D's scores of single images can be compared: it scores them without a bound, and takes them as drawn."""
    traits: Traits = getattr(target_pair(game).discriminator, "traits", Traits())
    has_score = Fact.SCORE in traits.provides and Fact.SCORE not in traits.invalidates
    return has_score and Fact.SINGLE_SCALE in game.traits.provides


def drawn(game: Game, count: int, condition: Condition, chunk: int = CHUNK) -> Iterator[Tensor]:
    """New samples from torch's generator, in chunks on the device of the game. [N, C, H, W] in [-1, 1] each

    The condition's rows [M, ...] are repeated as often as needed; without any, samples are as in training.
    """
    for start in range(0, count, chunk):
        size = min(chunk, count - start)
        yield game.draw(size, condition.each(partial(_rows, start=start, size=size)))


def measures(run: Run) -> bool:
    """Whether a run measures its samples: it is set so, and every stream has held-out images."""
    held_out = all(source.dataset.test is not None for source in run.data.sources.values())
    return bool(run.settings["metrics"]["every"]) and held_out


def sample_count(run: Run) -> int:
    """How many samples a run measures: as many as it is set to, and of translations no image twice."""
    count: int = run.settings["metrics"]["samples"]
    if not isinstance(run.game, FromImages) or not measures(run):
        return count
    origin = run.game.origins[next(iter(run.game.plans))]
    return min(count, len(run.data.sources[origin].dataset.test or ()))


def held_out_images(run: Run, most: int) -> dict[str, Batch]:
    """At most this many held-out images of each stream, [N, C, H, W]; of a run that measures."""
    found = {name: source.held_out(most) for name, source in run.data.sources.items()}
    return {name: batch for name, batch in found.items() if batch is not None}


def _translating(run: Run) -> Translating | None:
    if not isinstance(run.game, FromImages):
        return None
    streams = {name: source.dataset for name, source in run.data.sources.items()}
    return Translating(run.game, streams, run.device)


def _rows(tensor: Tensor, start: int, size: int) -> Tensor:
    return tensor[torch.arange(start, start + size, device=tensor.device) % len(tensor)]


def _first(batch: Batch, count: int) -> Batch:
    """The first images of a batch, with their conditions. [N, C, H, W]"""
    return Batch(batch.images[:count], batch.condition.each(lambda given: given[:count]))


def _target(run: Run) -> Source:
    """Of the reals that samples are to look like."""
    return run.data.sources[run.game.target]


def _asked(run: Run, name: str) -> bool:
    return bool(run.settings["metrics"].get(name, False))


def _requested(run: Run, held_out: Mapping[str, Batch]) -> Requested:
    return Requested(held_out[run.game.target].images, swd=_asked(run, "swd"), ms_ssim=_asked(run, "ms_ssim"))


def _comparison(run: Run, held_out: Mapping[str, Batch]) -> Comparison:
    data, reals = _target(run).dataset, held_out[run.game.target]
    modes = getattr(data, "modes", None)
    return Comparison(
        joined(map(spaces, reals.images.split(CHUNK))),
        labels=reals.labels if run.game.classes else None,
        mixture=None if modes is None else (modes, data.sigma),  # type: ignore[attr-defined]
    )
