"""One update of everything on torch's `meta` device, which has no values: as strict about devices as a GPU.

What mixes devices or reads a value inside an update fails here as it would on CUDA, except for arithmetic in bf16.
"""

import pytest
import torch
from properties import META, check_elsewhere
from support import built, composed, family, tiny, trick_of
from test_families import EXPERIMENTS, PARTS, hosted, trial, with_trick

# Parts with constants, draws, labels or state of their own: every kind of thing that could be left behind.
FEW = {"tricks-ada", "tricks-info_codes", "tricks-replay", "tricks-semi_supervised", "tricks-virtual_batch_norm",
       "loss-relativistic_average", "model-progan", "model-projection", "model-translation",
       "experiment-gan"}  # fmt: skip
EVERYTHING = [*PARTS, *(("experiment", name) for name in EXPERIMENTS)]


def overrides_of(kind: str, name: str) -> tuple[str, ...]:
    return (*trial(name), "batch=8") if kind == "experiment" else hosted(kind, name)


def cases() -> list:
    every = ((f"{kind}-{name}", (kind, name)) for kind, name in EVERYTHING)
    return [pytest.param(*one, id=key, marks=[] if key in FEW else pytest.mark.slow) for key, one in every]


def test_everything_is_here() -> None:
    """Every model, loss, trick and experiment, and with them every game."""
    assert len(EVERYTHING) == sum(len(family(group)) for group in ("tricks", "loss", "model", "experiment")) > 100
    assert {"-".join(one) for one in EVERYTHING} >= FEW
    models = {name for kind, name in EVERYTHING if kind == "model"} & {
        "dcgan",
        "msggan",
        "pix2pix",
        "progan",
        "stackgan",
        "stackgan_v2",
        "translation",
    }
    assert len({composed(*tiny(model=name)).game._target_ for name in models}) == len(family("game"))


@pytest.mark.parametrize(("kind", "name"), cases())
def test_an_update_runs_wherever_the_game_was_moved(kind: str, name: str) -> None:
    check_elsewhere(overrides_of(kind, name))


@pytest.mark.parametrize("target", ["KeepsAConstantOnTheHost", "DrawsOnTheHost", "AsksTheHost"])
def test_a_trick_that_needs_the_host_fails_here(target: str) -> None:
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        check_elsewhere(with_trick(target))


def test_a_trick_that_does_not_passes() -> None:
    check_elsewhere(with_trick("LeCamLike"))


def test_labelled_images_move_with_the_game() -> None:
    """Those that are kept out of training too; they are no state, so no checkpoint holds them."""
    run = built("model.discriminator.classes=10", "loss=minimax", "dataset.held_out=50", model="improved",
                tricks=["semi_supervised"])  # fmt: skip
    trick = trick_of(run, "semi_supervised")
    run.game.to(META)
    assert {trick.images.device, trick.labels.device, trick.test.images.device, trick.test.labels.device} == {META}
    assert not [key for key in run.game.state_dict() if key.endswith((".images", ".labels"))]
    assert trick.labels.dtype == torch.int64
