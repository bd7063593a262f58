"""The callback that records statistics of the images and scores of a step at each log, for findings."""

from __future__ import annotations

from collections.abc import Sequence

from ganrun.config.build import Run
from ganrun.core.callbacks import Callback
from ganrun.core.context import Metrics, Observed, Progress, UpdateResult
from ganrun.core.game import Game
from ganrun.diagnosis.statistics import of_average, on_host, statistics
from ganrun.record.recorder import Recorder
from ganrun.run.about import decides

GROUP = "diagnosis"  # of the tags


class Statistics(Callback):
    """Records what `ganrun.diagnosis.statistics` says of the last update of D at each log: one step of a window.

    It keeps no state, so that a resumed run records what it would have recorded.
    """

    name = "statistics"
    form: dict[str, object] = {}  # noqa: RUF012

    def __init__(self, run: Run, recorder: Recorder):
        self.run, self.recorder = run, recorder
        self.acts = run.settings["diagnosis"]["during"] and run.rank.writes

    def after_step(self, now: Progress, results: Sequence[UpdateResult], *, last: bool) -> None:
        if self.acts and (self.recorder.due(now.step) or now.step == self.run.settings["steps"]):
            found = statistics_of(self.run.game, results)
            if found:
                self.recorder.measured(now.step, on_host(found))


def statistics_of(game: Game, results: Sequence[UpdateResult]) -> Metrics:
    """The statistics of the last update of each discriminator among these, [] each, by tag; none without such."""
    first = next(iter(game.named_pairs()))
    seen = {name or first: one for result in results for name, one in result.observed.items()
            if result.update.role == "discriminator"}  # fmt: skip
    return game.qualified({name: _of(game, name, one, name == first) for name, one in seen.items()}) if seen else {}


def _of(game: Game, name: str, seen: Observed, first: bool) -> Metrics:
    pair = game.named_pairs()[name]
    found = statistics(pair, seen, decides=decides(pair))
    if first and seen.real is not None:
        found |= of_average(game.sample(), seen.real, game.rows)
    return {f"{GROUP}/{key}": value for key, value in found.items()}
