"""What a run would have without some of what was typed."""

import pytest

from ganrun.config.compose import compose
from ganrun.config.overrides import replacing
from ganrun.config.recipe import recipe
from ganrun.config.validate import resolve
from ganrun.diagnosis.rules.balance import DiscriminatorWins
from ganrun.diagnosis.rules.course import Healthy
from ganrun.diagnosis.rules.samples import Checkerboard
from ganrun.diagnosis.watch import Change
from ganrun.run.diagnosing import finding_of

TYPED = ["experiment=wgan_gp", "batch=3", "optim.generator.lr=1", "tricks.gp.weight=1e5", "steps=9"]


@pytest.mark.parametrize("keys", [["batch"], ["batch", "optim.generator.lr"], ["tricks.gp.weight"], ["optim"]])
def test_what_was_typed_for_these_keys_is_left_out(keys: list[str]) -> None:
    others = [word for word in TYPED if not any(word.startswith(key) for key in keys)]
    assert len(others) == len(TYPED) - len(keys)
    assert recipe(TYPED, keys) == resolve(compose(others))


@pytest.mark.parametrize("keys", [[], ["optim.discriminator.lr"], ["model.generator.width"], ["bat"], ["steps.more"]])
def test_nothing_was_typed_for_these(keys: list[str]) -> None:
    assert recipe(TYPED, keys) == {}


def test_a_choice_above_a_key_stays() -> None:
    typed = ["model=dcgan", "model.generator.width=1"]
    assert recipe(typed, ["model.generator.width"]) == resolve(compose(["model=dcgan"]))
    assert recipe(["model=dcgan"], ["model.generator.width"]) == {}


def test_what_cannot_be_composed_has_no_recipe() -> None:
    assert recipe(["experiment=of_a_folder_that_is_gone", "batch=3"], ["batch"]) == {}
    assert recipe(["what is this", "batch=3"], ["batch"]) == {}


def test_a_finding_goes_back_to_what_was_before_the_words_that_were_typed() -> None:
    typed = ["experiment=modern", "optim.discriminator.lr=2e-2", "updates.generator=15", "steps=700"]
    settings = resolve(compose(typed))
    change = Change(step=300, rule=DiscriminatorWins(), pair="", found=True, evidence={})
    rate = "optim.discriminator.lr={_target_:ganrun.core.schedule.Cosine,start:0.004,end:0.0,steps:700}"
    assert finding_of(change, settings, typed).remedies[:2] == (rate, "updates.generator=1")
    assert finding_of(change, settings, []).remedies[0] == "optim.generator.lr=0.0002 optim.discriminator.lr=0.0002"
    assert finding_of(change._replace(found=False), settings, typed).remedies == ()
    assert finding_of(change._replace(rule=Healthy()), settings, typed).remedies == ()
    patterned = change._replace(rule=Checkerboard())
    assert finding_of(patterned, settings, typed).remedies[:2] == (rate, "updates.generator=1")
    mended = resolve(compose(replacing(typed, [rate, "updates.generator=1"])))
    assert mended == resolve(compose(["experiment=modern", "steps=700"]))
