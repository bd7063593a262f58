"""How a run goes on the whole: in circles, slowly, badly, worse than it went, or well."""

from __future__ import annotations

import numpy as np

from ganrun.diagnosis.history import History
from ganrun.diagnosis.remedy import D_RATE, G_RATE, LITTLE_NOISE, Remedy
from ganrun.diagnosis.rule import About, Evidence, Rule
from ganrun.diagnosis.rules.balance import (
    FAR,
    NEAR,
    PROGRESS,
    WINDOW,
    approaches,
    compared,
    guesses,
    progress,
    right,
    right_about_all,
)
from ganrun.diagnosis.rules.samples import measured, of_images, reached

HIGH = 2e-3  # a learning rate under which quality may worsen again: ten times the usual one
COVERED = 0.6  # of reals: those of a sound run cover 0.8 and more
EARLIER = 0.75  # of the steps so far
MORE = 1.1  # times as many as then
POOR = 1.0  # of precision and coverage together: none of 111 sound runs with usual settings had less in its last 40 %


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


def poor(history: History, about: About) -> bool:
    """Whether few samples are among the reals, and few reals among the samples, by what was measured last of images."""
    _, values = reached(history, about)
    return len(values) > 0 and bool(values[-1] < POOR)


class SlowStart(Rule):
    """Samples are far from reals still, all told from them, poor, or cover few of them, and come nearer."""

    name = "slow_start"
    meaning = "Samples come nearer to the reals and have a way to go: wait, whatever the losses say."
    failure = False
    lasting = 125  # a remark asks for less than a failure

    def evidence(self, history: History, about: About) -> Evidence | None:
        now, before = progress(history, about)
        behind = now >= FAR or (now > NEAR and right_about_all(history, about)) or poor(history, about)
        if behind and now < PROGRESS * before:
            return {"distance": now, "distance before": before}
        return covers_more(history, about)


class UnusualSettings(Rule):
    """Few samples look real and few reals are covered, late in a run with a setting that no published recipe is near.

    `ganrun check` names such a setting before the first step, when nobody knows yet whether it does harm.
    """

    name = "unusual_settings"
    meaning = "Samples are poor, and a setting is far from what published recipes have: the first to change."
    remedies = (LITTLE_NOISE,)
    measured = True
    begins = 0.5  # of the run, at which samples are measured
    some = 0.05  # at least: from 0 anything is many times as much
    late = 0.9  # of the run, after which samples that still improve are poor too

    def evidence(self, history: History, about: About) -> Evidence | None:
        steps, values = reached(history, about)
        if not about.unusual or not poor(history, about) or steps[-1] < self.begins * about.steps:
            return None
        earlier = values[steps <= EARLIER * steps[-1]]
        rises = len(earlier) > 0 and values[-1] > max(MORE * earlier[-1], earlier[-1] + self.some)
        if rises and history.steps[-1] < self.late * about.steps:
            return None
        return {**dict(about.unusual), "precision and coverage together, of 2": float(values[-1])}


class Peaked(Rule):
    """Quality was best long ago, and has worsened since."""

    name = "peaked"
    meaning = "Samples were best some time ago and have worsened since: an earlier checkpoint is better than the last."
    remedies = (
        Remedy(sets={G_RATE: "0.0002", D_RATE: "0.0002"}, outside={G_RATE: (0.0, HIGH), D_RATE: (0.0, HIGH)}),
        Remedy(tricks=("lr_decay",)),
        Remedy(scales={G_RATE: 0.5, D_RATE: 0.5}),
    )
    times = 1.5  # the best quality
    more = 10.0  # than the best, at least: quality is a multiple of what chance gives
    farther = 0.1  # likewise, of `distance`
    ago = 0.25  # of the steps so far
    some = 0.1  # of samples, by precision: fewer among the reals are chance

    def evidence(self, history: History, about: About) -> Evidence | None:
        return (
            self._of_quality(history, about) or self._of_precision(history, about) or self._of_distance(history, about)
        )

    def _of_precision(self, history: History, about: About) -> Evidence | None:
        steps, values = of_images(history, about, "precision")
        if len(values) < 4:
            return None
        best, latest = int(np.argmax(values)), values[-2:]
        worse = latest.max() < values[best] / 2 and values[best] > self.some
        if worse and steps[-1] - steps[best] >= self.ago * steps[-1]:
            return {"precision": float(values[-1]), "best": float(values[best]), "at step": float(steps[best])}
        return None

    def _of_distance(self, history: History, about: About) -> Evidence | None:
        now, _ = compared(history, about.tag("diagnosis/distance"))
        steps, values = history.points(about.tag("diagnosis/distance"))
        smooth = smoothed(values, max(1, int((steps > steps[-1] - WINDOW).sum()))) if len(values) else values
        if len(smooth) < 2:
            return None
        best = int(np.argmin(smooth))
        worse = now > NEAR and now > self.times * smooth[best] and now > smooth[best] + self.farther
        if worse and steps[-1] - steps[best] >= self.ago * steps[-1]:
            return {"distance": now, "nearest": float(smooth[best]), "at step": float(steps[best])}
        return None

    def _of_quality(self, history: History, about: About) -> Evidence | None:
        steps, values = history.points(about.quality or "")
        if not about.first or len(values) < 4:
            return None
        best, latest = int(np.argmin(values)), values[-2:]
        worse = latest.min() > self.times * values[best] and latest.min() > values[best] + self.more
        if worse and steps[-1] - steps[best] >= self.ago * steps[-1]:
            return {"quality": float(values[-1]), "best": float(values[best]), "at step": float(steps[best])}
        return None


def smoothed(values: np.ndarray, width: int) -> np.ndarray:
    """The mean of each value and those before it, `width` in all; of the first ones, of fewer. [R] -> [R]"""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - width, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


class Healthy(Rule):
    """Samples are near the reals and as different from each other.

    Mean and spread of points, which `distance` compares, may be those of the reals before a point is near a mode.
    """

    name = "healthy"
    meaning = "Samples are near the reals and as different from each other, and both players learn."
    failure = False
    alone = True
    tries = ()
    right = 0.95  # share of reals, and of fakes, that D is not to be right about
    lasting = 300
    spread = (0.7, 1.4)
    good = 0.5  # of points, near a mode

    def evidence(self, history: History, about: About) -> Evidence | None:
        near = history.mean(about.tag("diagnosis/distance"), WINDOW)
        spread = history.mean(about.tag("diagnosis/spread"), WINDOW)
        similar = self.spread[0] <= spread <= self.spread[1]
        balanced = not min(right(history, about)) >= self.right and not guesses(history, about)
        done = covers_more(history, about) is None and not poor(history, about) and not self._off_modes(history, about)
        return {"distance": near, "spread": spread} if near <= NEAR and similar and balanced and done else None

    def _off_modes(self, history: History, about: About) -> bool:
        _, good = measured(history, about, "good")
        return about.first and len(good) > 0 and bool(good[-1] < self.good)
