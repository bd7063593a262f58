"""The callback that records statistics of the images and scores of a step at each log, for findings."""

from __future__ import annotations

from collections.abc import Sequence

from ganrun.config.build import Run
from ganrun.core.callbacks import Callback
from ganrun.core.context import Metrics, Observed, Progress, UpdateResult
from ganrun.core.facts import Fact
from ganrun.core.pair import Pair
from ganrun.diagnosis.statistics import of_average, on_host, statistics
from ganrun.record.recorder import Recorder

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
        self.pairs = run.game.named_pairs()
        self.first = next(iter(self.pairs))

    def after_step(self, now: Progress, results: Sequence[UpdateResult], *, last: bool) -> None:
        if not self.acts or not (self.recorder.due(now.step) or now.step == self.run.settings["steps"]):
            return
        seen = {name or self.first: one for result in results for name, one in result.observed.items()
                if result.update.role == "discriminator"}  # fmt: skip
        found = {name: self._of(name, one) for name, one in seen.items()}
        self.recorder.measured(now.step, on_host(self.run.game.qualified(found) if found else {}))

    def _of(self, name: str, seen: Observed) -> Metrics:
        pair = self.pairs[name]
        found = statistics(pair, seen, decides=decides(pair))
        if name == self.first and seen.real is not None:
            found |= of_average(self.run.game.sample(), seen.real, self.run.game.rows)
        return {f"{GROUP}/{key}": value for key, value in found.items()}


def decides(pair: Pair) -> bool:
    """Whether some score of this pair's discriminator means undecided."""
    return Fact.UNDECIDED in pair.loss.traits.provides
