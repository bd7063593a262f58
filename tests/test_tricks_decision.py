"""What every loss declares of itself is measured, and a trick that needs it is refused without it, by its rule."""

from copy import deepcopy

import pytest
import torch
from support import composed, family, host_of_loss

from ganrun.config.build import build
from ganrun.config.rules import RULES
from ganrun.core.decision import constant_losses
from ganrun.core.errors import ConfigError, ConfigErrors
from ganrun.core.facts import Fact
from ganrun.core.pair import Pair

LOSSES = family("loss")
NEEDS = {"ada": Fact.UNDECIDED, "throttle": Fact.UNDECIDED, "top_k": Fact.FAKES_ALONE}
CPU = torch.device("cpu")


def pair_with(loss: str) -> Pair:
    pair = build(composed(*host_of_loss(loss))).game.pairs["main"]
    assert isinstance(pair, Pair)
    return pair


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_declares_what_probing_shows(name: str) -> None:
    """Scores that are all alike say whether some score means undecided, as `Fact.UNDECIDED` declares it."""
    pair = pair_with(name)
    provided = pair.loss.traits.provides
    losses = constant_losses(deepcopy(pair), CPU)  # of one with a state, the first is not the last
    differ = bool((losses - losses[0]).abs().max() > 1e-6)
    assert (Fact.UNDECIDED in provided) == (differ and Fact.READS_ENERGY not in provided)  # energies have no middle
    assert (Fact.FAKES_ALONE in provided) == (not pair.loss.paired)


def test_each_fact_holds_for_some_losses_and_not_for_all() -> None:
    for fact in set(NEEDS.values()):
        having = [name for name in LOSSES if fact in pair_with(name).loss.traits.provides]
        assert 0 < len(having) < len(LOSSES), fact


@pytest.mark.parametrize("trick", NEEDS)
def test_a_trick_that_reads_the_loss_is_refused_by_rule_without_it(trick: str) -> None:
    without = [name for name in LOSSES if NEEDS[trick] not in pair_with(name).loss.traits.provides]
    assert without
    for loss in without:
        host = host_of_loss(loss)
        chosen = [override[8:-1] for override in host if override.startswith("tricks=[") and override != "tricks=[]"]
        others = [override for override in host if not override.startswith("tricks=[")]
        with pytest.raises((ConfigErrors, ConfigError)) as refusal:
            build(composed(*others, f"tricks=[{','.join([*chosen, trick])}]"))
        assert f"rule {NEEDS[trick].id}" in str(refusal.value) and f"tricks.{trick}" in str(refusal.value)
    assert NEEDS[trick].id in RULES
