"""Names of metrics that the run will not have are refused before training, by a rehearsal that changes nothing."""

import json
from pathlib import Path

import pytest
import torch
from support import built, composed, everything, tiny

import ganrun
from ganrun.core.errors import ConfigError
from ganrun.run.rehearsal import metric_names

RUNS = {
    "default": tiny(),
    "shared fakes, lazy penalty": tiny("updates.share_fakes=true", "model.discriminator.norm=none", "tricks.r1.every=5",
                                       tricks=["r1", "ema"]),
    "two pairs": tiny(model="translation"),
    "began": tiny("loss=began", model="began"),
}  # fmt: skip


@pytest.mark.parametrize("case", RUNS)
def test_the_names_are_those_that_the_run_records(case: str, tmp_path: Path) -> None:
    overrides = (*(word for word in RUNS[case] if not word.startswith("steps")), "steps=2", "log.every=2")
    names = metric_names(built_of(overrides))
    run = ganrun.train(composed(*overrides), tmp_path / "run")
    final = json.loads((run / "summary.json").read_text())["final"]
    assert len(final) > 5 and sorted(final) == names


def built_of(overrides: tuple[str, ...]):
    from ganrun.config.build import build

    return build(composed(*overrides))


def test_a_rehearsal_changes_nothing() -> None:
    """Neither the game nor torch's random numbers."""
    run = built(tricks=["ema", "replay", "instance_noise"])
    before = {key: value.clone() for key, value in everything(run).items()}
    state = torch.get_rng_state()
    assert metric_names(run)
    assert torch.equal(state, torch.get_rng_state())
    after = everything(run)
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("key", ["objective", "log.best"])
def test_an_unknown_metric_is_refused_before_training(key: str, tmp_path: Path) -> None:
    cfg = composed(*tiny(), f"{key}=loss/discriminator/totl")
    with pytest.raises(ConfigError, match=rf"^{key}: this run has no metric .*Try: {key}=loss/discriminator/total$"):
        ganrun.train(cfg, tmp_path / "run")
    assert not (tmp_path / "run").exists()
