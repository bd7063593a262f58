"""How much of a failure the log shows at all: classifiers that learn from it, beside the rules.

    python scripts/limits_of_diagnosis.py tests/courses.jsonl.xz

Of each run that `calibrate_diagnosis.py` has kept, everything that is measured of images, scores and losses is averaged
over the last 300 and 900 steps, with the last values of what is measured of samples, how they changed, and how many
settings are far from usual. Classifiers learn to tell broken runs from sound ones on all bases but one, and are asked
about that one, each base in turn. Each may call as many sound runs broken as the rules do. What none of them finds is
hardly in these numbers; it is evidence and no proof, and the rules were set with some of these bases in view. Runs
whose data are out of range are left out, as these are found before the first step. A remark counts as shown.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from calibrate_diagnosis import SLOW, Course, broken_runs, interval, kept, left, outcome, sound_runs
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ganrun.diagnosis.history import History

OF_A_LOG = ("distance", "average_distance", "spread", "contrast", "checkerboard", "order", "accuracy_real",
            "accuracy_fake")  # fmt: skip
MEASURED = ("coverage", "precision", "recall", "density", "quality", "spread", "mmd_convolutions", "mmd_pixels",
            "mmd_spectrum", "generalisation_gap", "duplicates")  # fmt: skip
MILD = 0.5  # of a count of sound runs: a broken run that has as much left is hurt mildly
CLASSIFIERS = {
    "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=3000)),
    "extra trees": ExtraTreesClassifier(600, min_samples_leaf=2, class_weight="balanced", random_state=0),
    "boosted trees": HistGradientBoostingClassifier(max_depth=3, max_iter=150, random_state=0),
}


def features(one: Course) -> np.ndarray:
    """What is known of a run at its end, on a logarithmic scale; 0 where something is not measured. [F]"""
    history = History()
    for step, row in one.rows:
        history.add(step, row)
    return np.nan_to_num(np.array([*_features(history, one)]), nan=0.0, posinf=50.0, neginf=-50.0)


def _features(history: History, one: Course) -> Iterator[float]:
    for name in OF_A_LOG:
        yield from (_scaled(history.mean(f"diagnosis/{name}", steps)) for steps in (300, 900))
    chance = one.abouts[0].chance
    yield history.mean("loss/discriminator/adversarial", 300) / chance if chance else 0.0
    yield float(chance is None)
    yield float(len(one.abouts[0].unusual))
    for name in MEASURED:
        _, values = history.points(f"metrics/{name}_150")
        yield from (_scaled(values[-1]), values[-2:].mean(), values[-1] - values[-2]) if len(values) > 1 else (0,) * 3


def _scaled(value: float) -> float:
    return float(np.sign(value) * np.log1p(abs(value)))


def scores(name: str, courses: Sequence[Course], broken: np.ndarray) -> np.ndarray:
    """The probability that each run [N] is broken, by a classifier that has not seen its base. [N]"""
    known = np.stack([features(one) for one in courses])
    bases = np.array([one.trial.base for one in courses])
    found = np.zeros(len(courses))
    for base in sorted(set(bases)):
        here = bases == base
        found[here] = CLASSIFIERS[name].fit(known[~here], broken[~here]).predict_proba(known[here])[:, 1]
    return found


def at_most(probability: np.ndarray, broken: np.ndarray, alarms: int) -> np.ndarray:
    """Which runs [N] are called broken, at the bound at which that number of sound ones are. [N] bool"""
    return probability > np.sort(probability[~broken])[::-1][alarms]


def shares_shown(shown: np.ndarray, broken: np.ndarray, mild: np.ndarray) -> str:
    """The shares of broken runs, and of mildly broken ones, that are shown."""
    return f"{interval(int(shown[broken].sum()), int(broken.sum()))}; mild: {shown[mild].sum()} of {mild.sum()}"


def main(path: Path) -> None:
    """Print what the rules and each classifier show."""
    everything = kept(path)
    courses = [one for one in everything if one.rows and one.trial.fault != "wrong_range"]
    outcomes = {one.trial.name: outcome(one) for one in everything}
    sound = sound_runs([*outcomes.values()])
    names = {one.trial.name for one in broken_runs([*outcomes.values()])}
    mine = [outcomes[one.trial.name] for one in courses]
    broken = np.array([one.trial.name in names for one in mine])
    mild = broken & np.array([left(one, sound[one.trial.base]) >= MILD for one in mine])
    alarms = sum(bool(set(one.found) - {SLOW}) for one in mine if one.trial.name not in names)
    print(f"{len(courses)} runs, {alarms} false alarms of {(~broken).sum()}")
    print(f"{'the rules':<20} {shares_shown(np.array([bool(one.found) for one in mine]), broken, mild)}")
    for name in CLASSIFIERS:
        shown = at_most(scores(name, courses, broken), broken, alarms)
        print(f"{name:<20} {shares_shown(shown, broken, mild)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
