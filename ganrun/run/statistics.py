"""The callback that records statistics of the images and scores of a step at each log, for findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import GenericAlias
from typing import Any

from torch import Tensor

from ganrun.config.build import Run
from ganrun.core.callbacks import Callback
from ganrun.core.context import Metrics, Observed, Progress, UpdateResult
from ganrun.core.game import Game
from ganrun.diagnosis.statistics import Images, Moments, of_average, on_host, statistics
from ganrun.record.recorder import Recorder
from ganrun.run.about import decides

GROUP = "diagnosis"  # of the tags
ENOUGH = 16  # images of a batch whose mean and deviation need no others
NONE: Mapping[str, Images] = {}
MOMENTS = {"size": int, "mean": Tensor, "squares": Tensor}
FORM = {"fake": MOMENTS, "real": MOMENTS}  # of what the state of a run has of a pair


class Statistics(Callback):
    """Records what `ganrun.diagnosis.statistics` says of the last update of D at each log: one step of a window.

    A batch of fewer than `ENOUGH` images is joined by those before it, back to the last log.
    """

    name = "statistics"
    form = GenericAlias(dict, (str, FORM))

    def __init__(self, run: Run, recorder: Recorder):
        self.run, self.recorder = run, recorder
        self.acts = run.settings["diagnosis"]["during"] and run.rank.writes
        self.images: dict[str, Images] = {}  # by pair

    def after_step(self, now: Progress, results: Sequence[UpdateResult], *, last: bool) -> None:
        if not self.acts:
            return
        due = self.recorder.due(now.step) or now.step == self.run.settings["steps"]
        game = self.run.game
        if due or game.shape.images < ENOUGH:
            self.images = images_of(game, results, self.images)
        if due:
            found, self.images = statistics_of(game, results, self.images), {}
            if found:
                self.recorder.measured(now.step, on_host(found))

    def state_dict(self) -> dict[str, Any]:
        return {
            pair: {name: moments._asdict() for name, moments in images._asdict().items()}
            for pair, images in self.images.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for pair, images in state.items():
            self.images[pair] = Images(**{name: Moments(**one).to(self.run.device) for name, one in images.items()})


def images_of(game: Game, results: Sequence[UpdateResult], before: Mapping[str, Images] = NONE) -> dict[str, Images]:
    """The images of each discriminator among these updates, by pair: of small batches all, with those from before."""
    found = dict(before)
    for pair, seen in _seen(game, results):
        if (images := Images.of(seen)) is not None:
            small = pair in found and images.fewest < ENOUGH
            found[pair] = found[pair].joined(images) if small else images
    return found


def statistics_of(game: Game, results: Sequence[UpdateResult], images: Mapping[str, Images]) -> Metrics:
    """The statistics of the last update of each discriminator among these, [] each, by tag; none without such.

    `images` are those that `images_of` has of the same updates.
    """
    seen = {pair: one for pair, one in _seen(game, results) if pair in images}
    return game.qualified({pair: _of(game, pair, one, images[pair]) for pair, one in seen.items()}) if seen else {}


def _seen(game: Game, results: Sequence[UpdateResult]) -> Iterator[tuple[str, Observed]]:
    """What each update of a discriminator saw, with the name of its pair."""
    first = next(iter(game.named_pairs()))
    for result in results:
        if result.update.role == "discriminator":
            yield from ((name or first, one) for name, one in result.observed.items())


def _of(game: Game, name: str, seen: Observed, images: Images) -> Metrics:
    pairs = game.named_pairs()
    found = statistics(pairs[name], seen, images, decides=decides(pairs[name]))
    if name == next(iter(pairs)):
        found |= of_average(game.sample(), images.real, game.rows)
    return {f"{GROUP}/{key}": value for key, value in found.items()}
