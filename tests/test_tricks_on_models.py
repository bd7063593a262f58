"""Every trick on every model trains, or is refused in one line: parts of different families are combined here."""

import random
from itertools import product

import pytest
import torch
from support import EAGER, MATES, built, family, play

from ganrun.config.unknown import flat
from ganrun.core.errors import ConfigError
from ganrun.record.grid import grid

MODELS, TRICKS = family("model"), family("tricks")
ALL = list(product(MODELS, TRICKS))
EMPTY = [("r3gan", "spectral_norm"), ("r3gan", "weight_norm")]  # layers that start at 0: nothing to divide by
# Combinations that once ended in a traceback. Then a few by a fixed seed.
KNOWN = [
    ("acgan", "info_codes"),
    ("projection", "info_codes"),
    ("deep_conv", "minibatch_discrimination"),
    ("stackgan_stage2", "self_attention"),
]
SAMPLE = [*KNOWN, *EMPTY, *random.Random(4).sample([one for one in ALL if one not in KNOWN + EMPTY], 12)]
LOSSES = ("nonsaturating", "wasserstein")


def outcome(model: str, trick: str) -> str:
    """`trained` two steps to finite pictures with a loss that both accept, or `refused` with each."""
    losses = [f"loss={loss}" for loss in LOSSES] if model not in MATES else list(MATES[model])
    there = flat(built_settings(model))
    eager = [override for override in EAGER.get(trick, ()) if override.split("=")[0] in there or "tricks." in override]
    for loss in losses:
        try:
            run = built(f"tricks=[{trick}]", loss, *eager, model=model)
        except ConfigError as refusal:
            assert all(refusal.lines) and not any("\n" in line for line in refusal.lines)
            continue
        play(run, 0, 2)
        pictures = [run.game.sample(), run.game.draw(3), *(p.flatten(0, 1) for p in run.game.pictures().values())]
        assert all(bool(torch.isfinite(images).all()) for images in pictures)
        assert grid(pictures[0], run.game.rows).ndim == 3
        return "trained"
    return "refused"


def built_settings(model: str) -> dict[str, object]:
    return dict(built("tricks=[]", *MATES.get(model, ()), model=model).settings)


def test_the_families_are_not_empty() -> None:
    assert len(MODELS) >= 16 and len(TRICKS) >= 60 and len(ALL) == len(MODELS) * len(TRICKS)


@pytest.mark.parametrize(("model", "trick"), SAMPLE, ids=["-".join(one) for one in SAMPLE])
def test_a_trick_on_a_model_trains_or_is_refused(model: str, trick: str) -> None:
    found = outcome(model, trick)
    expected = ["trained"] * ((model, trick) not in EMPTY) + ["refused"] * ((model, trick) not in KNOWN)
    assert found in expected


@pytest.mark.slow
def test_every_trick_on_every_model_trains_or_is_refused() -> None:
    """A few minutes."""
    wrong, tally = {}, {"trained": 0, "refused": 0}
    for model, trick in ALL:
        try:
            tally[outcome(model, trick)] += 1
        except Exception as error:  # report all of them
            wrong[model, trick] = f"{type(error).__name__}: {error}"
    assert not wrong, "\n".join(f"{one}: {what}" for one, what in wrong.items())
    assert tally["trained"] > 800 and tally["refused"] > 0, tally
