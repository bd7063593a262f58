"""The fair test of findings: its judge, its counts and its intervals."""

import importlib.util
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from commands import TINY, Nursery

from ganrun.data.datasets.bundled import Digits

SCRIPT = Path(__file__).parents[1] / "scripts" / "calibrate_diagnosis.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("calibrate_diagnosis", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["calibrate_diagnosis"] = module  # as dataclasses look it up
    spec.loader.exec_module(module)
    return module


def test_the_judge_sees_digits_variety_and_noise(script: ModuleType) -> None:
    torch.manual_seed(0)
    judge = script.Judge()
    digits = Digits(channels=1, resolution=16, classes=None).images.float() / 127.5 - 1
    reals = digits[torch.randperm(len(digits))[:500]]
    accepted, covered, smooth = judge.counts(reals)
    assert accepted > 0.9 * 500 and covered > 0.9 * 500 and smooth > 0.97 * 500
    accepted, covered, _ = judge.counts(reals[:1].expand(500, -1, -1, -1))
    assert accepted <= 100 and covered < 25, "one digit, again and again: twice the share of its class"
    assert judge.counts(torch.rand(500, 1, 16, 16) * 2 - 1)[2] == 0
    assert judge.counts((reals + 0.4 * torch.randn_like(reals)).clamp(-1, 1))[2] < 50
    assert judge.counts(torch.full((500, 1, 16, 16), math.nan)) == (0, 0, 0)


def test_a_run_is_broken_by_any_count(script: ModuleType) -> None:
    def run(*counts: int) -> object:
        trial = script.Trial(base="sngan", fault="", dose=0, seed=0)
        return script.Outcome(trial=trial, counts=counts, found=[], first=None)

    sound = [run(300, 250, 500), run(310, 240, 500)]
    assert not script.is_broken(run(300, 250, 500), sound)
    assert not script.is_broken(run(240, 200, 400), sound), "fewer, but not below three quarters"
    assert script.is_broken(run(200, 250, 500), sound) and script.is_broken(run(300, 150, 500), sound)
    assert script.is_broken(run(300, 250, 300), sound)
    assert not script.falls_short(2, [4]), "so few tell nothing"
    assert script.left(run(61, 245, 600), sound) == 61 / 305


def test_what_to_try_first_undoes_a_fault_or_does_not(script: ModuleType) -> None:
    def undone(fault: str, *found: str, **before: str) -> bool:
        trial = script.Trial(base="sngan", fault=fault, dose=1, seed=0)
        return script.undone(script.Outcome(trial=trial, counts=(), found=list(found), first=0.5, before=before))

    assert undone("d_rate_down", "discriminator_idle", "peaked") and undone("small_g", "slow_start")
    assert not undone("few_images", "discriminator_idle") and undone("small_g", "labels_ignored")
    assert not undone("small_g", "healthy")
    assert undone("wrong_range", "data_out_of_range", data_out_of_range="dataset.range=[0,255]")
    assert not undone("d_rate_down")


def test_intervals_are_those_of_clopper_and_pearson(script: ModuleType) -> None:
    """Of no hit in n the upper bound is 1 - (a / 2)^(1 / n)."""
    assert script.interval(0, 10) == f"0 of 10, 0.0% (0.0% to {1 - 0.025**0.1:.1%})"
    assert script.interval(10, 10) == f"10 of 10, 100.0% ({0.025**0.1:.1%} to 100.0%)"


def test_every_fault_is_tried_on_every_base(script: ModuleType) -> None:
    runs = list(script.trials(list(script.BASES), list(script.FAULTS), 3, 1))
    doses = sum(len(fault.doses) for fault in script.FAULTS.values())
    assert len(runs) == len(script.BASES) * (doses + script.SOUND) > 200
    assert len({run.name for run in runs}) == len(runs)
    assert {group for group, _ in script.BASES.values()} == set(script.GROUPS)
    assert all("mode_collapse_partial" in f.names for f in script.FAULTS.values() if "mode_collapse" in f.names)


@pytest.fixture(scope="module")
def unscaled(script: ModuleType, nursery: Nursery, tmp_path_factory) -> Any:
    """A run whose failure is found before its first step."""
    words = ("dataset.range=[0,65535]", "diagnosis.before=true", "steps=60", "hydra.run.dir=unscaled")
    tiny = [word for word in TINY if word != "diagnosis=none"]
    folder = tmp_path_factory.mktemp("calibrate")
    assert nursery.run(*tiny, *words, folder=folder).code == 0
    trial = script.Trial(base="sngan", fault="wrong_range", dose=1, seed=0)
    return script.course(trial, folder / "unscaled", lambda images: (len(images), 2, 1))


def test_what_was_found_before_the_first_step_comes_first(script: ModuleType, unscaled: Any) -> None:
    assert unscaled.counts == (script.SAMPLES, 2, 1) and [step for step, _ in unscaled.rows][-1] == 60
    assert next(iter(script.found_at_the_end(unscaled).items())) == ("data_out_of_range", 0)


def test_courses_are_kept_to_four_digits(script: ModuleType, unscaled: Any, tmp_path: Path) -> None:
    trial = script.Trial(base="modern", fault="small_d", dose=2, seed=1)
    refused = script.Course(trial=trial, counts=None)
    lost = replace(
        unscaled, rows=((25, {"loss/x": None, "diagnosis/y": 0.123456}), (50, {"loss/x": 1.0})), finite=False
    )
    script.keep([unscaled, refused, lost], tmp_path / "courses.jsonl.xz")
    again, nothing, nan = script.kept(tmp_path / "courses.jsonl.xz")
    assert nothing == refused and script.outcome(refused).refused
    assert nan == replace(lost, rows=((25, {"loss/x": None, "diagnosis/y": 0.1235}), (50, {"loss/x": 1.0})))
    assert next(iter(script.found_at_the_end(nan))) == "data_out_of_range" and "not_finite" in script.outcome(nan).found
    assert script.outcome(again) == script.outcome(unscaled)
    assert again.abouts == unscaled.abouts and len(again.rows) == len(unscaled.rows)


def test_the_page_has_what_the_rules_say_of_the_runs_that_are_kept(script: ModuleType) -> None:
    """Whoever changes a rule sees what it does to the fair test, and brings its tables up to date."""
    courses = script.kept(SCRIPT.parents[1] / "tests" / "courses.jsonl.xz")
    outcomes = [script.outcome(one) for one in courses]
    assert len(script.broken_runs(outcomes)) > 150 and {one.trial.base for one in outcomes} == set(script.BASES)
    page = (SCRIPT.parents[1] / "docs" / "diagnosis.md").read_text()
    assert [line for line in script.report(outcomes) if line not in page] == []
