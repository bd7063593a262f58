"""How a run goes on the whole: in circles, slowly, or well."""

from __future__ import annotations

import numpy as np

from ganrun.diagnosis.history import History
from ganrun.diagnosis.remedy import Remedy
from ganrun.diagnosis.rule import About, Evidence, Rule
from ganrun.diagnosis.rules.balance import (
    FAR,
    NEAR,
    PROGRESS,
    WINDOW,
    approaches,
    guesses,
    progress,
    right,
    right_about_all,
)
from ganrun.diagnosis.rules.samples import of_images

COVERED = 0.6  # of reals: those of a sound run cover 0.8 and more
EARLIER = 0.75  # of the steps so far
MORE = 1.1  # times as many as then


class Oscillation(Rule):
    """D's scores of fakes swing with one period that does not fade, or G's weights move round where their average is.

    Of players that circle each other the average comes nearer to where they should be than any of their steps
    (Yazici et al. 2019, arXiv 1806.04498).
    """

    name = "oscillation"
    meaning = "The players go round in circles: scores swing, or G is far from the reals where its average is near."
    remedies = (
        Remedy(tricks=("r1",), sets={"model.discriminator.norm": "none"}),
        Remedy(tricks=("ema",)),
        Remedy(scales={"optim.generator.lr": 0.5, "optim.discriminator.lr": 0.5}),
        Remedy(tricks=("historical_averaging",)),
    )
    rows_looked_at = 40
    share = 0.6  # of the variance that is in the strongest frequency and its two neighbours
    fades = 0.7  # amplitude of the second half over that of the first
    swing = 0.15  # deviation of the probability of fakes, at least
    nearer = 0.5  # of the distance of G's own samples: samples of its average that are at most so far

    def evidence(self, history: History, about: About) -> Evidence | None:
        return self._of_scores(history, about) or self._of_average(history, about)

    def _of_average(self, history: History, about: About) -> Evidence | None:
        own, averaged = (
            history.mean(about.tag(f"diagnosis/{name}"), WINDOW) for name in ("distance", "average_distance")
        )
        circles = about.averaged and not approaches(history, about)
        if circles and own >= NEAR and averaged <= self.nearer * own:
            return {"distance of G's own samples": own, "of averaged ones": averaged}
        return None

    def _of_scores(self, history: History, about: About) -> Evidence | None:
        values = history.column(about.tag("probability/fake"))[-self.rows_looked_at :]
        if len(values) < self.rows_looked_at or np.isnan(values).any():
            return None
        time = np.arange(len(values))
        values = values - np.polyval(np.polyfit(time, values, 1), time)
        power = np.abs(np.fft.rfft(values)) ** 2
        peak = int(power[2:-2].argmax()) + 2  # at least two periods, and not from log to log
        share = power[peak - 1 : peak + 2].sum() / max(power.sum(), 1e-30)
        half = len(values) // 2
        lasts = values[half:].std() >= self.fades * values[:half].std()
        if share >= self.share and lasts and values.std() >= self.swing:
            return {"period in logs": len(values) / peak, "swing of D(G(z))": float(values.std())}
        return None


def covers_more(history: History, about: About) -> Evidence | None:
    """The share of reals that images cover now, and did before, where it is small and grows."""
    steps, values = of_images(history, about, "coverage")
    earlier = values[steps <= EARLIER * steps[-1]] if len(values) else values
    if not len(earlier) or values[-1] >= COVERED or values[-1] <= MORE * earlier[-1]:
        return None
    return {"coverage": float(values[-1]), "coverage before": float(earlier[-1])}


class SlowStart(Rule):
    """Samples are far from reals still, all told from them, or cover few of them, and come nearer."""

    name = "slow_start"
    meaning = "Samples come nearer to the reals and have a way to go: wait, whatever the losses say."
    failure = False
    lasting = 125  # a remark asks for less than a failure

    def evidence(self, history: History, about: About) -> Evidence | None:
        now, before = progress(history, about)
        behind = now >= FAR or (now > NEAR and right_about_all(history, about))
        if behind and now < PROGRESS * before:
            return {"distance": now, "distance before": before}
        return covers_more(history, about)


class Healthy(Rule):
    """Samples are near the reals and as different from each other."""

    name = "healthy"
    meaning = "Samples are near the reals and as different from each other, and both players learn."
    failure = False
    tries = ()
    right = 0.95  # share of reals, and of fakes, that D is not to be right about
    lasting = 300
    spread = (0.7, 1.4)

    def evidence(self, history: History, about: About) -> Evidence | None:
        near = history.mean(about.tag("diagnosis/distance"), WINDOW)
        spread = history.mean(about.tag("diagnosis/spread"), WINDOW)
        similar = self.spread[0] <= spread <= self.spread[1]
        balanced = not min(right(history, about)) >= self.right and not guesses(history, about)
        done = covers_more(history, about) is None
        return {"distance": near, "spread": spread} if near <= NEAR and similar and balanced and done else None
