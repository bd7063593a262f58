"""The two rules on traits: every need is provided and not invalidated, and what only one part may set is set once."""

from typing import Any

import pytest
from support import (
    MODELS,
    LinearDiscriminator,
    ScaleGenerator,
    built,
    composed,
    family,
    host,
    host_of_loss,
    pair_in,
    pair_of,
)

from ganrun.config.build import Momentum, build
from ganrun.config.combination import REMEDIES, contradictions, diagnostics, provider
from ganrun.config.compatibility import BaseConfiguration, settings_of
from ganrun.config.instantiate import Maker
from ganrun.config.rules import RULES, check_force
from ganrun.core.context import BatchShape
from ganrun.core.errors import ConfigError, ConfigErrors, nearest
from ganrun.core.facts import Fact
from ganrun.core.traits import Level, Traits, facts, keys
from ganrun.core.trick import Trick
from ganrun.games.latent import LatentGame


class Part:
    def __init__(self, **traits: Any):
        self.traits = Traits(**traits)


GIVES = Part(provides=facts(Fact.TARGETS))
NEEDS = Part(needs=facts(Fact.TARGETS))
INVALIDATES = Part(invalidates=facts(Fact.TARGETS))


def test_a_need_that_is_provided_is_no_reason() -> None:
    assert contradictions({"loss": GIVES, "tricks.one": NEEDS}) == []


def test_a_need_that_nothing_provides_is_refused_with_a_remedy() -> None:
    (reason,) = contradictions({"tricks.one": NEEDS, "tricks.two": Part()})
    why = "no selected component provides it"
    assert reason == f"tricks.one: needs {Fact.TARGETS.sentence}; {why}. Try: {REMEDIES[Fact.TARGETS]}"


def test_a_refusal_names_the_part_that_could_provide_the_fact() -> None:
    (reason,) = contradictions({"loss": Part(), "tricks.one": NEEDS})
    assert "; loss (Part) is not one. Try: " in reason


def test_a_refusal_names_the_parts_that_invalidate_the_fact() -> None:
    (reason,) = contradictions(
        {"loss": GIVES, "tricks.one": NEEDS, "tricks.two": INVALIDATES, "tricks.three": INVALIDATES}
    )
    assert reason.startswith("tricks.one: needs") and "tricks.two and tricks.three takes that away" in reason


def test_what_is_preferred_warns_and_does_not_refuse() -> None:
    parts = {"loss": Part(), "tricks.one": Part(prefers=facts(Fact.PROBABILITY))}
    (diagnostic,) = diagnostics(parts)
    assert (diagnostic.id, diagnostic.level) == (
        Fact.PROBABILITY.id,
        Level.WARNING,
    ) and "prefers" in diagnostic.sentence
    assert not contradictions(parts) and not diagnostics(parts | {"loss": Part(provides=facts(Fact.PROBABILITY))})


def test_errors_have_the_rule_that_they_follow_from() -> None:
    parts = {"loss": Part(), "tricks.one": NEEDS, "tricks.two": Part(sets=keys("x"))}
    found = diagnostics(parts | {"tricks.three": Part(sets=keys("x"))})
    assert [(f.id, f.level) for f in found] == [(Fact.TARGETS.id, Level.ERROR), ("C8", Level.ERROR)]


@pytest.mark.parametrize(
    "tricks",
    [["minibatch_stddev", "minibatch_discrimination"], ["equalized_lr", "weight_norm"], ["head_start", "wgan_warmup"]],
)
def test_two_parts_that_set_the_same_are_reported_as_that(tricks: list[str]) -> None:
    """Even where the settings of both together could not be built."""
    with pytest.raises(ConfigErrors) as refusal:
        built("loss=nonsaturating", tricks=tricks)
    assert all("each sets" in line and "(rule C8)" in line for line in refusal.value.lines), refusal.value.lines


def test_two_parts_that_set_the_same_cannot_be_forced() -> None:
    with pytest.raises(ConfigError, match="C8 cannot be forced"):
        check_force(["C8"])
    with pytest.raises(ConfigError, match="C8 cannot be forced"):
        built("force=[C8]", tricks=["equalized_lr", "weight_norm"])


def test_what_no_part_needs_may_be_invalidated() -> None:
    assert contradictions({"loss": GIVES, "tricks.two": INVALIDATES}) == []


def test_a_key_is_set_by_one_part() -> None:
    mine, other = Part(sets=keys("the targets of reals")), Part(sets=keys("the targets of fakes"))
    assert contradictions({"tricks.one": mine, "tricks.two": other}) == []
    (reason,) = contradictions({"tricks.one": mine, "tricks.two": other, "tricks.three": mine})
    assert reason == ("tricks.one and tricks.three: each sets the targets of reals. Try: keeping one of them")


def test_all_reasons_are_reported_at_once() -> None:
    claimed = Part(needs=facts(Fact.TARGETS, Fact.LIPSCHITZ), sets=keys("x"))
    reasons = contradictions({"tricks.one": claimed, "tricks.two": claimed})
    assert len(reasons) == 2 * 2 + 1


def test_any_two_of_three_exclusive_parts_are_refused() -> None:
    """Multiplying three flags, as others do, lets any two pass."""
    parts = {f"tricks.{name}": Part(sets=keys("the slope")) for name in ("gp", "dragan", "maxgp")}
    names = list(parts)
    for left_out in names:
        assert contradictions({name: parts[name] for name in names if name != left_out})


def test_a_contradiction_is_a_refusal_of_several_lines() -> None:
    error = ConfigErrors(["one", "two"])
    assert isinstance(error, ConfigError) and error.lines == ["one", "two"] and str(error) == "one; two"
    assert ConfigError("here", "this", "that", "other").lines == ["here: this, expected that. Try: other"]
    assert ConfigError("here", "this", "that").lines == ["here: this, expected that"]


@pytest.mark.parametrize("fact", Fact)
def test_every_fact_has_a_sentence_and_a_remedy(fact: Fact) -> None:
    assert fact == fact.value and len(fact.sentence) > 10 and len(REMEDIES[fact]) > 4
    assert provider(fact) or fact in (Fact.LIPSCHITZ,), "several parts can bound a slope; all else has one provider"
    assert fact.id in RULES, "a rule that `force` and docs/compatibility.md know"


def test_a_misspelt_fact_cannot_be_written() -> None:
    """A string would be silently unique; a member of an enumeration is not there at all."""
    with pytest.raises(AttributeError):
        _ = Fact.TARGTS  # type: ignore[attr-defined]


def test_the_networks_of_a_pair_are_parts_by_the_name_a_user_knows() -> None:
    pair = pair_of()
    game = LatentGame(pairs={"main": pair}, shape=BatchShape(4, 2), prior="normal", grid=4)
    assert list(game.parts(pair)) == ["model.generator", "model.discriminator", "loss", "game"]


def test_networks_take_part_in_the_check() -> None:
    generator = ScaleGenerator(1.0)
    generator.traits = Traits(needs=facts(Fact.PER_SAMPLE))  # type: ignore[attr-defined]
    coupled = LinearDiscriminator([0.0] * 4)
    coupled.traits = Traits(invalidates=facts(Fact.PER_SAMPLE), provides=facts(Fact.SCORE, Fact.PER_SAMPLE))  # type: ignore[misc]
    pair = pair_of(coupled, generator=generator)
    game = LatentGame(pairs={"main": pair}, shape=BatchShape(4, 2), prior="normal", grid=4)
    (reason,) = contradictions(game.parts(pair))
    assert reason.startswith("model.generator (") and "model.discriminator (" in reason


def alone(name: str) -> Trick:
    """This trick, made without a run."""
    settings = settings_of("nonsaturating", (name,), BaseConfiguration("dcgan", 16, "none", ()))
    return Maker().a(Trick, settings["tricks"][name], f"tricks.{name}")


@pytest.mark.slow
def test_every_fact_is_provided_by_a_bundled_part() -> None:
    """A fact that no part provides would refuse every combination."""
    provided = {fact for name in family("tricks") for fact in alone(name).traits.provides}
    for overrides in [*map(host_of_loss, family("loss")), *map(host, MODELS)]:
        run = build(composed(*overrides))
        provided |= {fact for part in run.game.parts(pair_in(run)).values() for fact in part.traits.provides}
    optimiser = Momentum(built("optim=rmsprop").settings["optim"]["discriminator"])
    assert provided | optimiser.traits.provides == set(Fact)


@pytest.mark.parametrize(("name", "close"), [("soft_label", "soft_labels"), ("flop", "flip"), ("zzzz", "")])
def test_the_nearest_name(name: str, close: str) -> None:
    assert nearest(name, ["soft_labels", "flip", "ema"]) == close
