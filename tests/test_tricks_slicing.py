"""SAN: values that stay, gradients by hand, and which networks have a direction."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support import LinearDiscriminator, built, drawn, pair_in, pair_of, play, update_of
from torch import Tensor, nn

from ganrun.core.context import BatchShape, DiscriminatorOutput, Update
from ganrun.core.errors import ConfigError
from ganrun.core.loss import Loss
from ganrun.core.pair import Pair
from ganrun.losses.margins import Hinge
from ganrun.losses.targets import NonSaturating
from ganrun.models.layers import as_output
from ganrun.tricks.labels import Flip
from ganrun.tricks.slicing import DIRECTION, San, Sliced

REAL, FAKE = torch.randn(4, 1, 2, 2), torch.randn(4, 1, 2, 2)


class TwoLayers(nn.Module):
    """D(x) = w . tanh(A x) + b."""

    channels, resolution = 1, 2
    traits = LinearDiscriminator.traits

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 3), as_output(nn.Linear(3, 1))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        return DiscriminatorOutput(self.last(torch.tanh(self.first(images.flatten(1)))).squeeze(1))


def sliced(loss: Loss | None = None, weight: float = 1.0, **tricks: Any) -> tuple[Pair, TwoLayers]:
    """A pair with SAN, and a copy of its discriminator as it was."""
    net = TwoLayers()
    plain = deepcopy(net)
    return pair_of(net, loss, san=San(weight=weight), **tricks), plain


def terms(pair: Pair) -> dict[str, Tensor]:
    update = Update(player="discriminator", role="discriminator", shape=BatchShape(4, 2))
    return pair.discriminator_outcome(update, REAL, FAKE).terms


def last_of(pair: Pair) -> nn.Linear:
    (layer,) = (one for one in pair.discriminator.modules() if isinstance(one, Sliced))
    assert isinstance(layer.layer, nn.Linear)
    return layer.layer


def test_scores_and_their_slopes_stay_what_they_are() -> None:
    pair, plain = sliced()
    shown, again = REAL.clone().requires_grad_(), REAL.clone().requires_grad_()
    found, expected = pair.judge(shown), plain(again)
    torch.testing.assert_close(found.score, expected.score)
    torch.testing.assert_close(found.heads[DIRECTION] + plain.last.bias, expected.score)
    found.score.sum().backward()
    expected.score.sum().backward()
    torch.testing.assert_close(shown.grad, again.grad)


@pytest.mark.parametrize("loss", [Hinge(), NonSaturating()])
def test_the_gradients_are_those_of_two_losses(loss: Loss) -> None:
    """h, the bias and the norm of w by the loss itself; w's direction by the Wasserstein loss of held features."""
    pair, plain = sliced(loss, weight=0.5)
    torch.stack([*terms(pair).values()]).sum().backward()

    on_real, on_fake = plain(REAL).score, plain(FAKE).score
    if isinstance(loss, Hinge):
        usual = (F.relu(1 - on_real) + F.relu(1 + on_fake)).mean()
    else:
        usual = (F.softplus(-on_real) + F.softplus(on_fake)).mean()
    usual.backward()
    torch.testing.assert_close(pair.discriminator.first.weight.grad, plain.first.weight.grad)  # type: ignore[union-attr]
    torch.testing.assert_close(last_of(pair).bias.grad, plain.last.bias.grad)

    weight = plain.last.weight.detach()[0]
    unit = weight / weight.norm()
    hidden = [torch.tanh(plain.first(images.flatten(1))).detach() for images in (REAL, FAKE)]
    apart = 0.5 * (hidden[1] - hidden[0]).mean(0)  # the slope of the Wasserstein loss by w, were it all of it
    usual_slope = plain.last.weight.grad[0]  # type: ignore[index]
    along_unit = (usual_slope @ unit) * unit  # of the norm alone
    across = apart - (apart @ unit) * unit  # of the direction alone
    torch.testing.assert_close(last_of(pair).weight.grad[0], along_unit + across)  # type: ignore[index]


def test_the_direction_turns_round_where_0_stands_for_real() -> None:
    pair, _ = sliced()
    flipped, _ = sliced(flip=Flip())
    flipped.discriminator.load_state_dict(pair.discriminator.state_dict())
    assert terms(pair)["san"].item() == pytest.approx(-terms(flipped)["san"].item()) != 0


def test_the_direction_learns_what_tells_reals_from_fakes() -> None:
    """Features that are held: u goes to the difference of their means, the best direction of all."""
    torch.manual_seed(0)
    pair, _ = sliced(weight=1.0)
    pair.discriminator.first.requires_grad_(False)  # type: ignore[union-attr]
    optimizer = torch.optim.SGD([last_of(pair).weight], lr=0.1)
    for _ in range(500):
        optimizer.zero_grad()
        terms(pair)["san"].backward()
        optimizer.step()
    means = [torch.tanh(pair.discriminator.first(images.flatten(1))).mean(0) for images in (REAL, FAKE)]  # type: ignore[operator]
    best = means[0] - means[1]
    assert F.cosine_similarity(last_of(pair).weight[0], best, 0).item() == pytest.approx(1, abs=1e-3)


def test_a_convolution_of_patches_is_sliced_too() -> None:
    run = built(model="translation", tricks=["san"])
    for pair in run.game.named_pairs().values():
        made = pair.judge(torch.randn(2, pair.discriminator.channels, 16, 16))  # type: ignore[arg-type]
        assert made.heads[DIRECTION].shape == made.score.shape and made.score.dim() == 4


def test_nothing_of_an_update_is_kept() -> None:
    run = built(tricks=["san"])
    update = update_of(run, "discriminator")
    run.engine.run(update, drawn(run, update))
    (layer,) = (one for one in pair_in(run).discriminator.modules() if isinstance(one, Sliced))
    assert layer.along is None


@pytest.mark.parametrize(
    ("model", "more"),
    [("projection", ()), ("biggan", ()), ("stackgan_v2", ()), ("improved", ("model.discriminator.classes=10",))],
)
def test_scores_that_are_more_than_a_layer_gives_are_refused(model: str, more: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"tricks\.san: the score of .* is more than its last layer gives"):
        built(*more, model=model, tricks=["san"])


@pytest.mark.parametrize("others", [["san", "spectral_norm"], ["spectral_norm", "san"], ["equalized_lr", "san"]])
def test_it_goes_with_forms_of_weights(others: list[str]) -> None:
    assert play(built("model.discriminator.norm=none", tricks=others), 0, 2).rows


def test_a_last_layer_of_zeros_has_no_direction() -> None:
    net = TwoLayers()
    nn.init.zeros_(net.last.weight)
    with pytest.raises(ConfigError, match="has no direction"):
        San(weight=1.0).modify(net, "discriminator")
