"""Rules on histories made by hand: each finds its failure, and none of the cases that look like it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import composed, family

from ganrun.config.validate import resolve
from ganrun.diagnosis.history import History
from ganrun.diagnosis.remedy import UNUSUAL, Remedy, unusual, unusual_in
from ganrun.diagnosis.rule import EARLY, About
from ganrun.diagnosis.rules.all import RULES
from ganrun.diagnosis.rules.balance import compared
from ganrun.diagnosis.rules.course import smoothed
from ganrun.diagnosis.rules.samples import _pairs
from ganrun.diagnosis.watch import Watch

STEPS, EVERY = 3000, 50
LN4 = math.log(4)
Course = float | Callable[[float], float]  # a value, or its course over the run, from 0 to 1
WELL: dict[str, Course] = {  # a run as it should be
    "diagnosis/distance": lambda at: 1.2 - at if at < 0.95 else 0.25,
    "diagnosis/average_distance": lambda at: 1.2 - at if at < 0.95 else 0.2,
    "diagnosis/spread": 0.9,
    "diagnosis/checkerboard": 2.0,
    "diagnosis/contrast": lambda at: min(0.95, 4 * at),
    "diagnosis/accuracy_real": 0.7,
    "diagnosis/accuracy_fake": 0.75,
    "loss/discriminator/adversarial": 1.1,
    "loss/generator/adversarial": 1.0,
    "probability/fake": 0.4,
    "weight_gradient/generator/00_first": 1.0,
    "weight_gradient/generator/01_last": 2.0,
    "weight_gradient/discriminator/00_first": 1.0,
}


def history(changed: Mapping[str, Course], steps: int = STEPS, **more: Any) -> Watch:
    """A watch that was fed a run of this course."""
    about = About(steps=STEPS, chance=LN4, quality="metrics/quality_500", slopes=(("tricks/gp/slope", 1.0),))
    watch = Watch(RULES, [replace(about, **more)])
    for step in range(EVERY, steps + 1, EVERY):
        watch.feed(step, row({**WELL, **changed}, step))
    return watch


def row(courses: Mapping[str, Course], step: int) -> dict[str, float]:
    """What is logged at this step of these courses."""
    return {tag: course(step / STEPS) if callable(course) else course for tag, course in courses.items()}


def names(changed: Mapping[str, Course], **more: Any) -> list[str]:
    """What is found at the end of such a run."""
    return [change.rule.name for change in history(changed, **more).found]


UNUSUAL_BATCH = (("batch", 2.0),)
FAR: dict[str, Course] = {"diagnosis/distance": 1.4, "diagnosis/average_distance": 1.4}
LOSES: dict[str, Course] = {"metrics/recall_500": lambda at: 1 - at / 2}
RIGHT: dict[str, Course] = {"diagnosis/accuracy_real": 0.99, "diagnosis/accuracy_fake": 0.98}
FAILURES: dict[str, dict[str, Course]] = {
    "discriminator_wins": {**FAR, **RIGHT, "loss/discriminator/adversarial": 0.01},
    "discriminator_idle": {**FAR, "loss/discriminator/adversarial": LN4, "diagnosis/accuracy_real": 0.5,
                           "diagnosis/accuracy_fake": 0.5},
    "generator_starves": {**FAR, "weight_gradient/generator/00_first": 1e-5},
    "gradient_explodes": {"weight_gradient/generator/00_first": lambda at: 1.0 if at < 0.7 else 1e4},
    "unusual_settings": {"metrics/precision_500": 0.5, "metrics/coverage_500": 0.4},
    "penalty_off_target": {"diagnosis/distance": 0.5, "tricks/gp/slope": 4.0},
    "k_saturated": {"loss/k": 1.0},
    "mode_collapse": {"diagnosis/spread": lambda at: 0.9 if at < 0.6 else 0.05},
    "mode_collapse_partial": {"metrics/precision_500": 0.9, "metrics/coverage_500": 0.1},
    "copies": {"metrics/memorised_500": 0.5},
    "critic_overfits": {**LOSES, "metrics/generalisation_gap_500": lambda at: at},
    "labels_ignored": {"diagnosis/label_effect": 0.01},
    "oscillation": {"probability/fake": lambda at: 0.5 + 0.4 * math.sin(at * 60)},
    "peaked": {"metrics/quality_500": lambda at: 20.0 + 200 * abs(at - 0.3)},
    "average_lags": {"diagnosis/distance": 0.3, "diagnosis/average_distance": 1.2},
    "low_contrast": {"diagnosis/contrast": lambda at: min(0.7, 4 * at)},
    "checkerboard": {"diagnosis/checkerboard": 200.0, "diagnosis/distance": 0.3},
    "not_finite": {"loss/generator/adversarial": lambda at: 1.0 if at < 1 else math.nan},
    "slow_start": {"diagnosis/distance": lambda at: 2.0 - 1.2 * at, "diagnosis/average_distance": 0.9},
    "healthy": {},
}  # fmt: skip
SIMILAR: dict[str, tuple[str, dict[str, Course]]] = {  # what looks like a failure and is none
    "D's loss alone at 0, as of a relativistic hinge": ("discriminator_wins", {"loss/discriminator/adversarial": 0.0}),
    "D right about all, and samples come nearer": ("discriminator_wins", {**RIGHT}),
    "D right about all, and samples near": ("discriminator_wins", {**RIGHT, "diagnosis/distance": 0.3}),
    "both at chance, and samples near, as in R3GAN": ("discriminator_idle", {
        "diagnosis/distance": 0.2, "loss/discriminator/adversarial": LN4, "diagnosis/accuracy_real": 0.5,
        "diagnosis/accuracy_fake": 0.5}),
    "small gradients at the bottom, and samples near": ("generator_starves", {
        "diagnosis/distance": 0.2, "weight_gradient/generator/00_first": 1e-5}),
    "large gradients throughout": ("gradient_explodes", {"weight_gradient/generator/00_first": 500.0}),
    "a Wasserstein loss of some size": ("gradient_explodes", {"loss/discriminator/adversarial": -300.0}),
    "samples that come apart": ("mode_collapse", {"diagnosis/spread": lambda at: 0.02 + at / 5}),
    "samples alike as D has won": ("mode_collapse", {**FAR, **RIGHT, "diagnosis/spread": 0.1}),
    "BEGAN's k at 0 at first": ("k_saturated", {"loss/k": lambda at: 0.0 if at < 0.15 else 0.3}),
    "noise in the scores": ("oscillation", {"probability/fake": lambda at: 0.5 + 0.3 * math.sin(at * 6e6)}),
    "a swing that fades": ("oscillation", {
        "probability/fake": lambda at: 0.5 + 0.4 * math.sin(at * 60) * math.exp(-4 * at)}),
    "a gap that is small": ("critic_overfits", {**LOSES, "metrics/generalisation_gap_500": lambda at: at / 2.1}),
    "a gap that comes and goes": ("critic_overfits", {
        **LOSES, "metrics/generalisation_gap_500": lambda at: round(at * STEPS / EVERY) % 2}),
    "a gap, and samples that reach as many reals as before": ("critic_overfits", {
        "metrics/generalisation_gap_500": 0.9, "metrics/recall_500": lambda at: 0.9 - at / 3}),
    "a gap, and samples that never reached any": ("critic_overfits", {
        "metrics/generalisation_gap_500": 0.9, "metrics/recall_500": 0.0}),
    "quality that wavers": ("peaked", {"metrics/quality_500": lambda at: 20.0 + 3 * math.sin(at * 30)}),
    "a distance that wavers near 0": ("peaked", {"diagnosis/distance": lambda at: 0.02 if 0.2 < at < 0.4 else 0.2}),
    "a slope off its target, and samples near": ("penalty_off_target", {
        "diagnosis/distance": 0.2, "tricks/gp/slope": 4.0}),
    "grey samples that become clear": ("low_contrast", {"diagnosis/contrast": lambda at: 0.2 + 0.5 * at}),
    "D at chance, and samples of the average near": ("discriminator_idle", {
        "diagnosis/distance": 0.45, "diagnosis/average_distance": 0.2, "loss/discriminator/adversarial": LN4,
        "diagnosis/accuracy_real": 0.5, "diagnosis/accuracy_fake": 0.5}),
    "labels without effect on samples that are far from all reals": ("labels_ignored", {
        **FAR, "diagnosis/label_effect": 0.01}),
    "an average that is nearer, and samples that come nearer too": ("oscillation", {
        "diagnosis/distance": lambda at: 1.5 - 0.9 * at, "diagnosis/average_distance": 0.2}),
    "an average that is as far as G's own samples": ("oscillation", {
        "diagnosis/distance": 0.5, "diagnosis/average_distance": 0.4}),
    "an average that is nearer, and both near": ("oscillation", {
        "diagnosis/distance": 0.35, "diagnosis/average_distance": 0.1}),
    "an average behind samples that come nearer": ("average_lags", {
        "diagnosis/distance": lambda at: 1.2 - at, "diagnosis/average_distance": 1.2}),
    "a young average": ("average_lags", {"diagnosis/average_distance": lambda at: 1.2 if at < 0.06 else 0.2}),
}  # fmt: skip


def test_little_order_at_the_start_is_no_failure_as_in_began() -> None:
    """Its balance takes care that D is not ahead: samples come nearer all the same."""
    watch = Watch(RULES, [About(steps=STEPS, chance=None)])
    courses: dict[str, Course] = {tag: course for tag, course in WELL.items() if "accuracy" not in tag}
    nearer: Course = lambda at: max(0.2, 1.6 - 12 * at)  # noqa: E731
    courses |= {"diagnosis/order": 0.2, "diagnosis/distance": nearer, "diagnosis/average_distance": nearer}
    found = [change for step in range(25, STEPS + 1, 25) for change in watch.feed(step, row(courses, step))]
    assert [change.rule.name for change in found if change.rule.failure] == []


def test_a_failure_from_the_first_step_on_is_found_after_275() -> None:
    """100 steps in which nothing is found, the next log, and 150 steps for which it holds."""
    watch = Watch(RULES, [About(steps=STEPS, chance=LN4)])
    courses = WELL | FAILURES["discriminator_wins"]
    found = [change for step in range(25, 301, 25) for change in watch.feed(step, row(courses, step))]
    assert [(change.rule.name, change.step) for change in found] == [("discriminator_wins", 275)]


@pytest.mark.parametrize(("step", "averaged"), [(125, 100), (450, 150), (900, 300), (3000, 300)])
def test_a_young_run_averages_over_a_third_of_its_steps(step: int, averaged: int) -> None:
    log = History()
    for at in range(25, step + 1, 25):
        log.add(at, {"x": 1.0 if at > step - averaged else 3.0})
    assert compared(log, "x") == (1.0, 3.0)


def test_players_that_circle_each_other_are_told_by_an_average_that_is_nearer() -> None:
    assert names({"diagnosis/distance": 0.5, "diagnosis/average_distance": 0.2})[:1] == ["oscillation"]


@pytest.mark.parametrize(("share", "loss", "named"), [(0.3, 1.02, True), (0.3, 0.9, False), (0.45, 1.02, False)])
def test_a_d_that_is_wrong_for_long_is_behind_g_however_near_samples_are(
    share: float, loss: float, named: bool
) -> None:
    course = {"diagnosis/accuracy_real": share, "diagnosis/accuracy_fake": share, "diagnosis/distance": 0.1,
              "loss/discriminator/adversarial": loss * LN4}  # fmt: skip
    assert ("discriminator_idle" in names(course)) == named


@pytest.mark.parametrize(("order", "distance", "found"), [
    (0.99, 1.4, ["discriminator_wins"]),
    (0.55, 1.4, ["discriminator_idle"]),
    (0.78, 1.4, ["discriminator_wins"]),  # between the two, for long
    (0.72, 1.4, ["discriminator_idle"]),
    (0.99, lambda at: 1.4 - at, ["slow_start"]),
    (0.99, 0.3, []),  # a critic that orders well beside good samples
    (0.5, 0.45, ["discriminator_idle"]),  # D has guessed for long, and samples are apart from reals
    (0.7, 0.45, []),
    (0.5, 0.35, []),  # samples are near: this is what both players are after, as in BEGAN
])  # fmt: skip
def test_scores_without_a_boundary_are_judged_by_their_order(order: float, distance: Course, found: list[str]) -> None:
    """Those of Wasserstein and relativistic losses."""
    watch = Watch(RULES, [About(steps=STEPS, chance=None)])
    courses = {tag: course for tag, course in WELL.items() if "accuracy" not in tag}
    courses |= {"diagnosis/order": order, "diagnosis/distance": distance, "diagnosis/average_distance": distance}
    for step in range(EVERY, STEPS + 1, EVERY):
        watch.feed(step, row(courses, step))
    assert [one.rule.name for one in watch.found if one.rule.name != "healthy"] == found


@pytest.mark.parametrize(("distance", "loss", "right", "found"), [
    (0.45, LN4, 0.5, ["discriminator_idle"]),
    (0.45, 1.02 * LN4, 0.3, ["discriminator_idle"]),
    (0.38, LN4, 0.5, []),  # samples are near: this is what both players are after
    (0.45, 0.98 * LN4, 0.5, []),  # D knows little, but something
    (0.45, LN4, 0.65, []),  # it is right more often than by chance
])  # fmt: skip
def test_a_guessing_d_is_found_beside_samples_that_come_nearer(
    distance: float, loss: float, right: float, found: list[str]
) -> None:
    changed: dict[str, Course] = {
        "diagnosis/distance": lambda at: max(distance, 1 - at),
        "diagnosis/average_distance": lambda at: max(distance, 1 - at),
        "loss/discriminator/adversarial": loss,
        "diagnosis/accuracy_real": right,
        "diagnosis/accuracy_fake": right,
    }
    at_the_end = [change.rule for change in history(changed).found]
    assert [rule.name for rule in at_the_end if rule.failure] == found
    assert not found or "healthy" not in [rule.name for rule in at_the_end]


def test_every_rule_has_its_row_in_the_docs() -> None:
    page = (Path(__file__).parents[1] / "docs" / "diagnosis.md").read_text()
    assert [rule.name for rule in RULES if f"| `{rule.name}` |" not in page] == []


def test_every_rule_has_a_failure_here() -> None:
    assert {rule.name for rule in RULES} == set(FAILURES) and len(RULES) >= 16


@pytest.mark.parametrize("name", FAILURES)
def test_the_failure_is_found_first(name: str) -> None:
    assert names(FAILURES[name], unusual=UNUSUAL_BATCH)[:1] == [name]


def test_a_sound_run_is_healthy_and_nothing_else() -> None:
    assert names({}) == ["healthy"]


@pytest.mark.parametrize("case", SIMILAR)
def test_what_looks_like_a_failure_is_not_found(case: str) -> None:
    name, changed = SIMILAR[case]
    assert name not in names(changed)


@pytest.mark.parametrize(("good", "modes", "found"), [(0.9, 4, True), (0.9, 7, False), (0.3, 4, False)])
def test_missing_modes_of_a_toy_are_found_where_samples_are_good(good: float, modes: int, found: bool) -> None:
    """Equally many samples in each of some of the eight modes of `ring`."""
    course = {
        "metrics/good_500": good,
        "metrics/modes_500": float(modes),
        "metrics/reverse_kl_500": math.log(8 / modes),
    }
    assert ("mode_collapse_partial" in names(course)) is found
    if found:
        (change,) = (change for change in history(course).found if change.rule.name == "mode_collapse_partial")
        assert change.evidence == {"good samples": 0.9, "modes": 4.0, "reverse KL of the modes": math.log(2)}


@pytest.mark.parametrize(("pairs", "precision", "recall", "distance", "found"), [
    (1250, 0.9, 0.3, 0.3, True),  # one in a hundred of the 124,750 pairs of 500 samples, and a little more
    (1250, 0.3, 0.3, 0.3, True),  # samples repeat each other, good or not
    (1240, 0.9, 0.3, 0.3, False),
    (1250, 0.9, 0.3, 0.7, False),  # another failure is the cause
    (1250, 0.9, 0.34, 0.3, False),  # conditional samples of the same class may be that near, where reals are reached
])  # fmt: skip
def test_samples_that_repeat_each_other_are_found(
    pairs: int, precision: float, recall: float, distance: float, found: bool
) -> None:
    measured = {"duplicates": float(pairs), "precision": precision, "recall": recall, "coverage": 0.5}
    course = {f"metrics/{name}_500": value for name, value in measured.items()} | {"diagnosis/distance": distance}
    assert ("mode_collapse_partial" in names(course)) is found


def test_samples_that_repeat_each_other_and_move_away_remain_found() -> None:
    """Until a measurement shows otherwise: a distance about its bound does not make the finding come and go."""
    measured = {"duplicates": 2000.0, "precision": 0.3, "recall": 0.1, "coverage": 0.4}
    course: dict[str, Course] = {f"metrics/{name}_500": value for name, value in measured.items()}
    course["diagnosis/distance"] = lambda at: 0.3 if at < 0.6 else 0.9
    assert "mode_collapse_partial" in names(course)


@pytest.mark.parametrize(("coverage", "found"), [
    (lambda at: 0.55 * at, True),
    (lambda at: 0.8 * at, False),  # of a sound run
    (lambda at: min(0.5, 2 * at), False),  # no more than before
    (lambda at: 0.5 + 0.04 * at, False),
])  # fmt: skip
def test_images_that_cover_few_reals_and_ever_more_have_a_slow_start(coverage: Course, found: bool) -> None:
    """Though by distance they are near: a run of which this is so is not done, and not healthy."""
    assert ("slow_start" in names({"metrics/coverage_500": coverage})) is found
    assert ("healthy" in names({"metrics/coverage_500": coverage})) is not found
    points = {"metrics/coverage_500": coverage, "metrics/good_500": 0.3}
    assert "slow_start" not in names(points), "of points a tenth may be enough"


@pytest.mark.parametrize(("best", "last", "found"), [(0.5, 0.2, True), (0.5, 0.3, False), (0.09, 0.0, False)])
def test_images_of_which_ever_fewer_are_among_the_reals_have_peaked(best: float, last: float, found: bool) -> None:
    """Whatever quality says, which weighs all that differs."""
    course: dict[str, Course] = {"metrics/precision_500": lambda at: best if at < 0.6 else last}
    assert ("peaked" in names(course)) is found
    assert "peaked" not in names({**course, "metrics/good_500": 0.3}), "points have few neighbours"


def test_what_is_measured_of_images_says_nothing_of_a_second_pair() -> None:
    """A grid, and so precision and coverage, shows the first pair's samples."""
    courses: dict[str, Course] = {**WELL, "metrics/coverage_500": lambda at: 0.55 * at}
    courses["metrics/precision_500"] = lambda at: 0.5 if at < 0.6 else 0.2
    for first in (True, False):
        watch = Watch(RULES, [About(steps=STEPS, chance=LN4, quality="metrics/quality_500", first=first)])
        for step in range(EVERY, STEPS + 1, EVERY):
            watch.feed(step, row(courses, step))
        found = {change.rule.name for change in watch.found}
        assert found == ({"slow_start", "peaked"} if first else {"healthy"})


@pytest.mark.parametrize(("precision", "coverage", "found"), [
    (0.5, 0.4, True),
    (0.5, 0.55, False),
    (lambda at: 0.2 if at < 0.4 else 0.9, 0.2, False),  # poor in its first half alone
    (lambda at: 0.6 * at, 0.1, True),  # it improves, and is poor at the end
    (lambda at: 0.9 if at < 1 else 0.1, 0.5, True),  # nothing is measured after the last step
])  # fmt: skip
def test_poor_samples_beside_an_unusual_setting_are_found(precision: Course, coverage: Course, found: bool) -> None:
    course: dict[str, Course] = {"metrics/precision_500": precision, "metrics/coverage_500": coverage}
    assert ("unusual_settings" in names(course, unusual=UNUSUAL_BATCH)) is found
    assert "unusual_settings" not in names(course), "samples may be poor for other reasons"
    assert "unusual_settings" not in names({**course, "metrics/good_500": 0.3}, unusual=UNUSUAL_BATCH)
    assert "unusual_settings" not in names(course, unusual=UNUSUAL_BATCH, first=False), "they are another pair's"


@pytest.mark.parametrize(("rises", "step"), [(1.3, 2850), (1.05, 1650)])
def test_poor_samples_that_improve_are_found_in_the_last_tenth(rises: float, step: int) -> None:
    """Those that do not, 150 steps after half of the run."""
    watch = Watch(RULES, [About(steps=STEPS, quality="metrics/quality_500", unusual=UNUSUAL_BATCH)])
    began = {}
    for now in range(EVERY, STEPS + 1, EVERY):
        share = 0.3 * rises ** math.log2(now / STEPS)  # by this factor whenever the steps double
        measured = {"metrics/precision_500": share, "metrics/coverage_500": share}
        began |= {change.rule.name: now for change in watch.feed(now, row(WELL, now) | measured)}
    (evidence,) = (change.evidence for change in watch.found if change.rule.name == "unusual_settings")
    assert evidence == {"batch": 2, "precision and coverage together, of 2": pytest.approx(0.6)}
    assert began["unusual_settings"] == step


def test_a_little_more_than_nothing_is_no_rise() -> None:
    course: dict[str, Course] = {"metrics/precision_500": lambda at: 0.04 * at**3, "metrics/coverage_500": 0.0}
    assert "unusual_settings" in [one.rule.name for one in history(course, steps=2000, unusual=UNUSUAL_BATCH).found]


def test_what_was_measured_last_ends_a_finding_at_once() -> None:
    """It is measured seldom, often for the last time at the end of a run."""
    poor = {**FAILURES["unusual_settings"], **FAILURES["copies"], **FAILURES["critic_overfits"]}
    watch = Watch(RULES, [About(steps=STEPS, quality="metrics/quality_500", unusual=UNUSUAL_BATCH)])
    for step in range(EVERY, STEPS + 1, EVERY):
        good = {"metrics/precision_500": 0.9, "metrics/memorised_500": 0.0, "metrics/generalisation_gap_500": 0.1}
        told = watch.feed(step, row({**WELL, **poor}, step) | (good if step == STEPS else {}))
    over = {change.rule.name for change in told if not change.found}
    assert over == {"unusual_settings", "copies", "critic_overfits"}


@pytest.mark.parametrize("name", ["unusual_settings", "mode_collapse_partial"])
def test_a_failure_that_is_measured_at_the_last_step_alone_is_found(name: str) -> None:
    """Nothing comes after it, for which to wait; a short run is measured at its end and nowhere else."""
    watch = Watch(RULES, [About(steps=STEPS, quality="metrics/quality_500", unusual=UNUSUAL_BATCH)])
    logged = {tag: course for tag, course in FAILURES[name].items() if not tag.startswith("metrics/")}
    for step in range(EVERY, STEPS, EVERY):
        watch.feed(step, row({**WELL, **logged}, step))
        assert name not in {change.rule.name for change in watch.found}
    assert name in {change.rule.name for change in watch.feed(STEPS, row({**WELL, **FAILURES[name]}, STEPS))}


def test_a_run_in_which_a_failure_is_found_is_healthy_no_more() -> None:
    """Whatever had lasted until then: samples that are measured at the last step may be poor."""
    poor = {"metrics/precision_500": 0.2, "metrics/coverage_500": 0.1}
    watch = Watch(RULES, [About(steps=STEPS, quality="metrics/quality_500", unusual=UNUSUAL_BATCH)])
    for step in range(EVERY, STEPS, EVERY):
        watch.feed(step, row({**WELL, "diagnosis/distance": 0.3}, step))
    assert [change.rule.name for change in watch.found] == ["healthy"]
    told = watch.feed(STEPS, row({**WELL, **poor}, STEPS))
    assert [(change.rule.name, change.found) for change in told] == [("unusual_settings", True), ("healthy", False)]


def test_a_figure_of_one_log_is_not_found_at_the_last_step_either() -> None:
    """But for what is measured: any log may have one batch that is out of line."""
    exploded: dict[str, Course] = {"weight_gradient/generator/00_first": lambda at: 1e4 if at == 1 else 1.0}
    assert "gradient_explodes" not in names(exploded)


@pytest.mark.parametrize(("precision", "found"), [(0.4, "slow_start"), (0.7, "healthy")])
def test_poor_samples_that_come_nearer_are_slow_and_not_healthy(precision: float, found: str) -> None:
    assert names({"metrics/precision_500": precision, "metrics/coverage_500": 0.5}) == [found]


@pytest.mark.parametrize(("good", "healthy"), [(0.04, False), (0.9, True)])
def test_points_that_are_near_no_mode_are_not_healthy(good: float, healthy: bool) -> None:
    """Though their mean and spread are those of the reals: two Gaussians with equal moments are at a distance of 0."""
    course: dict[str, Course] = {"diagnosis/distance": 0.0, "metrics/good_500": good, "metrics/modes_500": 8.0}
    assert names(course) == ["healthy"] * healthy
    courses: dict[str, Course] = {**WELL, **course}
    second = Watch(RULES, [About(steps=STEPS, chance=LN4, quality="metrics/quality_500", first=False)])
    for step in range(EVERY, STEPS + 1, EVERY):
        second.feed(step, row(courses, step))
    assert [change.rule.name for change in second.found] == ["healthy"], "points are the first pair's"


def test_pairs_are_those_of_the_samples_that_quality_is_named_after() -> None:
    tags = ("metrics/quality_150", "metrics/quality_10k", None)
    assert [_pairs(About(steps=1, quality=tag)) for tag in tags] == [11_175, 49_995_000, 1]


@pytest.mark.parametrize(("modes", "found"), [(1, True), (2, True), (3, False)])
def test_a_toy_whose_samples_are_near_few_modes_has_collapsed(modes: int, found: bool) -> None:
    """Good or not: samples that circle from mode to mode, as under the usual loss, are near one at a time."""
    course = {"metrics/good_500": 0.01, "metrics/modes_500": 1.0, "metrics/reverse_kl_500": math.log(8 / modes)}
    assert ("mode_collapse" in names(course)) is found


@pytest.mark.parametrize(("measured", "found"), [([0.5], False), ([0.05, 0.5], False), ([0.5, 0.5], True)])
def test_copies_are_found_after_two_measurements_that_show_them(measured: list[float], found: bool) -> None:
    """Samples are measured at few logs, and what was measured stands until the next time."""
    watch = Watch(RULES, [About(steps=STEPS, chance=LN4, quality="metrics/quality_500")])
    for step in range(EVERY, STEPS + 1, EVERY):
        at = {1000 * (n + 1): {"metrics/memorised_500": share} for n, share in enumerate(measured)}
        watch.feed(step, row(WELL, step) | at.get(step, {}))
    assert ("copies" in [change.rule.name for change in watch.found]) is found


@pytest.mark.parametrize("name", ["average_lags", "oscillation"])
def test_nothing_is_said_of_an_average_where_samples_are_not_drawn_with_one(name: str) -> None:
    """They are drawn in evaluation mode all the same, and may be nearer or farther for that."""
    course = {"diagnosis/distance": 0.9, "diagnosis/average_distance": 0.1} if name == "oscillation" else FAILURES[name]
    for averaged in (True, False):
        found = [change.rule.name for change in history(course, averaged=averaged).found]
        assert (name in found) is averaged


def test_nothing_is_found_in_the_first_steps_and_in_a_head_start() -> None:
    lost = FAILURES["discriminator_wins"]
    watch = Watch(RULES, [About(steps=STEPS, chance=LN4, ready=1000)])
    for step in range(EVERY, 2001, EVERY):
        changes = watch.feed(step, row({**WELL, **lost}, step))
        assert not changes or step > 1000
    assert any(change.rule.name == "discriminator_wins" for change in watch.found)
    assert not history(lost, steps=EARLY).found


def test_a_failure_that_does_not_last_is_not_found_and_one_that_ends_is_over() -> None:
    short = {
        **FAILURES["gradient_explodes"],
        "weight_gradient/generator/00_first": lambda at: 1e4 if at == 0.5 else 1.0,
    }
    assert "gradient_explodes" not in names(short)
    about, told = About(steps=STEPS, chance=LN4), []
    watch = Watch(RULES, [about])
    for step in range(EVERY, STEPS + 1, EVERY):
        norm = 1e4 if 1000 <= step < 1600 else 1.0
        told += watch.feed(step, row({**WELL, "weight_gradient/generator/00_first": norm}, step))
    mine = [(change.step, change.found) for change in told if change.rule.name == "gradient_explodes"]
    assert [found for _, found in mine] == [True, False]
    assert 1000 < mine[0][0] < 1300 and 1600 < mine[1][0] < 1900


def test_a_figure_near_its_bound_does_not_come_and_go() -> None:
    """D has won, is then right about less, and the finding stays until samples come nearer."""
    course = {**FAILURES["discriminator_wins"], "diagnosis/accuracy_real": lambda at: 0.99 if at < 0.4 else 0.75}
    assert names(course)[:1] == ["discriminator_wins"]
    assert "discriminator_wins" not in names(course | {"diagnosis/distance": lambda at: 1.4 if at < 0.5 else 1.9 - at})
    assert "discriminator_wins" not in names(course | {"diagnosis/accuracy_real": 0.75})


def test_equal_logs_give_equal_findings_of_each_pair() -> None:
    abouts = [About(steps=STEPS, pair="a", chance=LN4), About(steps=STEPS, pair="b", first=False, chance=LN4)]
    rows = {}
    for pair, changed in (("a", {}), ("b", FAILURES["discriminator_wins"])):
        about = next(one for one in abouts if one.pair == pair)
        for tag, course in {**WELL, **changed}.items():
            key = f"loss/{tag.split('/')[1]}/{pair}/adversarial" if tag.startswith("loss/") else about.tag(tag)
            rows[key] = course
    told = []
    for _ in range(2):
        watch = Watch(RULES, abouts)
        for step in range(EVERY, STEPS + 1, EVERY):
            watch.feed(step, row(rows, step))
        told.append([(one.rule.name, one.pair, dict(one.evidence)) for one in watch.found])
    assert told[0] == told[1]
    assert ("discriminator_wins", "b") in [one[:2] for one in told[0]]
    assert ("discriminator_wins", "a") not in [one[:2] for one in told[0]]
    assert ("healthy", "a") in [one[:2] for one in told[0]], "a failure of the other pair is none of its own"


def test_a_history_knows_what_is_missing() -> None:
    made = History()
    made.add(10, {"a": 1.0})
    made.add(20, {"a": 3.0, "b": None})
    made.add(30, {"b": 5.0})
    np.testing.assert_equal(made.column("a"), [1.0, 3.0, np.nan])
    np.testing.assert_equal(made.column("b"), [np.nan, np.nan, 5.0])
    assert made.mean("a", 25) == 2.0 and made.mean("a", 15) == 3.0 and math.isnan(made.mean("c", 25))
    assert made.points("a")[0].tolist() == [10, 20] and made.latest == {"b": 5.0}


def test_smoothing_is_the_mean_of_the_last_values() -> None:
    np.testing.assert_allclose(smoothed(np.array([1.0, 2.0, 6.0, 4.0]), 2), [1.0, 1.5, 4.0, 5.0])


def test_a_remedy_as_words() -> None:
    adam = {"_target_": "torch.optim.Adam", "lr": 2e-4}
    settings = {"tricks": {"ema": {}}, "loss": {"_target_": "x"}, "optim": {"discriminator": adam}, "a": 3}
    remedy = Remedy(
        tricks=("r1", "ema"), sets={"a": "3", "loss": "hinge"}, scales={"optim.discriminator.lr": 0.25, "no": 2}
    )
    assert remedy.words(settings) == "tricks=[ema,r1] loss=hinge optim.discriminator.lr=5e-05"
    assert not any(remedy.words(settings) for remedy in UNUSUAL)
    odd: dict = {"optim": {"generator": adam, "discriminator": {**adam, "lr": 0.5}}, "batch": 2}
    odd |= {"model": {"generator": {"width": 2, "init": {"kind": "normal", "scale": 2.0}}}}
    words = [remedy.words(settings | odd) for remedy in UNUSUAL]
    assert [word for word in words if word] == [
        "optim.discriminator.lr=0.0002",
        "batch=64",
        "model.generator.width=32",
        "model.generator.init.scale=0.02",
    ]
    (remark,) = unusual(settings | odd)
    assert remark.evidence == {
        "optim.discriminator.lr": 0.5, "batch": 2, "model.generator.width": 2, "model.generator.init.scale": 2.0
    }  # fmt: skip
    assert list(remark.remedies) == [word for word in words if word] and not remark.failure
    slow = {"optim": {player: {"_target_": "torch.optim.SGD", "lr": 0.1} for player in ("generator", "discriminator")}}
    assert not unusual(settings) and not unusual(settings | slow), "bounds of rates are those of Adam"
    assert Remedy(without=("ema",)).words(settings) == "tricks=[]"
    assert Remedy(tricks=("ema",)).words(settings) == ""


def test_a_setting_that_is_far_from_usual_on_purpose_is_not_named() -> None:
    """With this very value: another one may be a slip."""
    settings: dict = {"tricks": {}, "updates": {"generator": 10, "discriminator": 7}, "batch": 4}
    for intended, named in (
        ([], {"updates.generator", "updates.discriminator", "batch"}),
        (["updates.generator=10", "batch=4.0"], {"updates.discriminator"}),
        (["updates.generator=11", "batch", "batch=few"], {"updates.generator", "updates.discriminator", "batch"}),
    ):
        assert set(unusual_in(settings | {"diagnosis": {"intended": intended}}, UNUSUAL)) == named


@pytest.mark.parametrize("experiment", [name for name in family("experiment") if not name.startswith("lesson_")])
def test_no_recipe_is_far_from_usual(experiment: str) -> None:
    """Or it says so: what a paper has published cannot be far from what papers have."""
    assert not unusual_in(resolve(composed(f"experiment={experiment}")), UNUSUAL)


def test_a_remedy_goes_back_to_what_the_recipe_has() -> None:
    remedy = Remedy(sets={"a.kind": "normal", "a.scale": "0.02"}, outside={"a.scale": (0.01, 1.0)})
    settings = {"tricks": {}, "a": {"kind": "uniform", "scale": 9.0}}
    assert remedy.words(settings) == remedy.words(settings, {}) == "a.kind=normal a.scale=0.02"
    assert remedy.words(settings, {"a": {"kind": "uniform", "scale": 0.5}}) == "a.scale=0.5"
    assert remedy.words(settings, {"a": {"kind": "ones", "scale": {"_target_": "x.Cosine", "start": 0.5}}}) == (
        "a.kind=ones a.scale={_target_:x.Cosine,start:0.5}"
    )
    for lacking in ({"a": {"kind": "ones", "scale": 7.0}}, {"a": {"scale": 0.5}}):
        assert remedy.words(settings, lacking) == "a.kind=normal a.scale=0.02", "beyond the bounds itself, or not whole"
    always = Remedy(sets={"a.kind": "normal"})
    assert always.words(settings, {"a": {"kind": "ones"}}) == "a.kind=normal", "no way back, but something else"
