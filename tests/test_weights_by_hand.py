"""What tricks on weights compute, against the formulas by hand: on every model, in every form that weights can have."""

import math
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support import built, family, pair_in, pair_of
from torch import Tensor, nn

from ganrun.core.context import Role
from ganrun.core.errors import ConfigError
from ganrun.core.pair import Pair
from ganrun.core.trick import Trick
from ganrun.models import base, layers
from ganrun.models.layers import fan_in
from ganrun.tricks.regularisers import Orthogonal, WeightDecay, filters
from ganrun.tricks.reparametrisation import EqualizedLr, SpectralNorm, WeightNorm

SEVERAL_HEADS = ("acgan", "projection")  # what makes the score is not the last of their layers
FEW = (*SEVERAL_HEADS, "dcgan", "mlp", "r3gan", "stylegan2", "translation")  # the others are like one of these
MODELS = [model if model in FEW else pytest.param(model, marks=pytest.mark.slow) for model in family("model")]
FORMS: dict[str, Any] = {  # of weights, by the trick that gives them
    "plain": dict,
    "weight_norm": lambda: {"form": WeightNorm(role="both")},
    "equalized_lr": lambda: {"form": EqualizedLr(gain=math.sqrt(2), last_gain=1.0)},
    "spectral_norm": lambda: {"form": SpectralNorm(role="both", iterations=1, warm_up=5, eps=1e-12)},
}
ROLES: tuple[Role, Role] = ("generator", "discriminator")
LAST = {  # the layer that makes the image, and the one that makes the score, where they have other names
    "began": ("to_image.conv", "decoder.3.conv"),
    "biggan": ("to_image.conv", "head.score.psi"),
    "cgan": ("to_image.dense", "head.score"),
    "ebgan": ("to_image.conv", "decoder.0.conv"),
    "mlp": ("to_image.dense", "head.score"),
    "progan": ("to_image.2.conv", "head.score"),
    "msggan": ("to_image.2", "head.score"),
    "projection": ("to_image.conv", "head.score.psi"),
    "stackgan_v2": ("to_image.1", "head.1.score"),
    "stylegan2": ("synthesis.scales.2.to_image", "head.score"),
}
OWN_GAINS = {"progan": {"to_image.0.conv": 1.0, "to_image.1.conv": 1.0}}  # they make the smaller images
# Forms that a model refuses: it has its own, or begins with weights of 0, which have no length to divide by.
REFUSED = {
    "msggan": {"equalized_lr", "weight_norm"},
    "r3gan": {"spectral_norm", "weight_norm"},
    "stylegan2": {"equalized_lr", "weight_norm"},
}


@cache
def networks(model: str) -> dict[Role, nn.Module]:
    pair = pair_in(built(model=model))
    return {role: getattr(pair, role) for role in ROLES}


def paired(model: str, **tricks: Trick) -> Pair:
    """Copies of a model's networks with these tricks."""
    nets = deepcopy(networks(model))
    return pair_of(nets["discriminator"], generator=nets["generator"], **tricks)


def in_each_form(model: str) -> Iterator[tuple[str, Pair, Any, Any]]:
    """The networks in every form that they can have, with both tricks of this page."""
    for name, form in FORMS.items():
        if name in REFUSED.get(model, ()):
            with pytest.raises(ConfigError, match=r"tricks\.form"):
                paired(model, **form())
            continue
        tricks = Orthogonal(weight=1.0, of="both"), WeightDecay(weight=0.5, of="both", layers="last")
        yield name, paired(model, **form(), orthogonal=tricks[0], margin=tricks[1]), *tricks


def last(model: str, role: Role) -> str:
    return LAST.get(model, ("to_image.conv", "head.score"))[ROLES.index(role)]


def forms(layer: nn.Module) -> nn.ModuleDict:
    return getattr(layer, "parametrizations", nn.ModuleDict())


def learnt(layer: nn.Module) -> list[Tensor]:
    """What a layer's weight is made of: itself, or the originals of its form."""
    return list(forms(layer)["weight"].parameters()) if "weight" in forms(layer) else [layer.weight]  # type: ignore[list-item]


def scale(layer: nn.Module) -> float:
    """The constant by which what is learnt is multiplied; 1 where there is none."""
    every: Any = [form for several in forms(layer).values() for form in several]  # type: ignore[attr-defined]
    return next((form.scale for form in every if hasattr(form, "scale")), 1.0)


def effective(layer: nn.Module, form: str) -> Tensor:
    """The weight that a layer computes with, by each form's own formula; the raw one under spectral norm."""
    if form == "weight_norm":
        length, direction = (value.detach() for value in learnt(layer))
        outputs = isinstance(layer, nn.ConvTranspose2d)
        each = [axis for axis in range(direction.ndim) if axis != outputs]
        return length * direction / direction.square().sum(each, keepdim=True).sqrt()
    (raw,) = learnt(layer)
    return raw.detach() * scale(layer)


def overlap(layer: nn.Module, weight: Tensor) -> float:
    """Equation 3: the squared products of each filter with every other."""
    each = weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weight
    rows = torch.stack([one.flatten() for one in each]).double()
    return sum((rows[i + 1 :] @ one).square().sum().item() for i, one in enumerate(rows)) * 2


@pytest.mark.parametrize("model", MODELS)
def test_orthogonality_and_margin_are_of_effective_weights(model: str) -> None:
    """Equation 3 of every layer's filters, and of no gain, constant, embedding or kernel of an epilogue.

    The margin's gradient, of weight * |w|^2 / 2 by what is learnt: w; scale * w; for a norm, its length, and 0 for v.
    """
    for form, pair, orthogonal, margin in in_each_form(model):
        for role in ROLES:
            net = getattr(pair, role)
            by_hand = sum(overlap(layer, effective(layer, form)) for _, layer in base.weighted(net))
            found = getattr(orthogonal, f"{role}_term")(SimpleNamespace(pair=pair))
            assert found.item() == pytest.approx(by_hand, rel=1e-4), (form, role)
            pulled = pulls(margin, pair, role)
            assert pulled and all(name.startswith(f"{last(model, role)}.") for name in pulled), form
            layer = dict(base.weighted(net))[last(model, role)]
            first, *others = learnt(layer)
            assert torch.allclose(first.grad, 0.5 * scale(layer) ** 2 * first), form  # type: ignore[arg-type]
            assert all(other.grad.abs().max() < 1e-6 for other in others), form  # type: ignore[union-attr]


@torch.no_grad()
def pulls(trick: WeightDecay, pair: Pair, role: Role) -> list[str]:
    """The parameters whose gradient the trick changes by more than rounding."""
    net = getattr(pair, role)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    trick.before(pair, role)
    return [name for name, p in net.named_parameters() if p.grad.abs().max() > 1e-6]


def test_every_kind_of_filter_is_a_row() -> None:
    """Of a transposed convolution in groups too: each output's weights are those of its own group."""
    layer = nn.ConvTranspose2d(4, 6, 2, groups=2)
    rows = filters(layer)
    assert rows.shape == (6, 2 * 2 * 2)
    for output in range(6):
        group, place = divmod(output, 3)
        assert torch.equal(rows[output], layer.weight[2 * group : 2 * group + 2, place].flatten())


@pytest.mark.parametrize("model", MODELS)
def test_the_layer_that_makes_the_image_or_the_score_is_known_by_itself(model: str) -> None:
    """Not by its place: class heads and embeddings come behind it."""
    own = "equalized_lr" in REFUSED.get(model, ())
    pair = paired(model, **({} if own else FORMS["equalized_lr"]()))
    for role in ROLES:
        net = getattr(pair, role)
        assert base.output_layer(net, role) is net.get_submodule(last(model, role))
        if own:
            continue
        found = {name: scale(layer) * math.sqrt(fan_in(layer)) for name, layer in base.weighted(net)}
        usual = {name: 1 if name == last(model, role) else math.sqrt(2) for name in found}
        assert found == pytest.approx({name: OWN_GAINS.get(model, {}).get(name, usual[name]) for name in found})


def test_q_behind_the_score_is_not_the_layer_that_makes_it() -> None:
    run = built("model.generator.latent=20", model="infogan", tricks=["info_codes", "equalized_lr"])
    named = dict(base.weighted(pair_in(run).discriminator))
    for name, gain in (("recogniser.codes", 2), ("head.score", 1)):
        assert scale(named[name]) == pytest.approx(math.sqrt(gain / named[name].in_features))
    assert [*named][-1] == "recogniser.codes"


@pytest.mark.parametrize("trick", ["equalized_lr", "weight_decay", "marginal_bias"])
def test_a_network_of_which_no_layer_says_so_is_refused(trick: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "is_output", lambda layer: False)
    chosen = [f"tricks.weight_decay.{setting}" for setting in ("layers=last", "of=both")] if "decay" in trick else []
    with pytest.raises(ConfigError, match=rf"tricks.{trick}: 0 layers of model.*layers.as_output.*Try: leaving it out"):
        built(*chosen, tricks=[trick])


# The first weights of He et al.

TRANSPOSED = [(128, 64, 4, 2, 1), (64, 32, 5, 2, 1), (64, 64, 4, 2, 4), (64, 64, 3, 1, 1), (256, 16, 2, 3, 1)]


@pytest.mark.parametrize(("inputs", "outputs", "kernel", "stride", "groups"), TRANSPOSED)
def test_he_counts_the_inputs_that_an_output_of_a_transposed_convolution_sums(
    inputs: int, outputs: int, kernel: int, stride: int, groups: int
) -> None:
    """N(0, 2 / n): the mean square behind a ReLU stays. n is counted, as a mean over outputs away from borders."""
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
    with torch.no_grad():
        ones = nn.functional.conv_transpose2d(
            torch.ones(1, inputs, 12, 12), torch.ones_like(layer.weight), stride=stride, groups=groups
        )
        counted = ones[0, 0, 4 * stride : 8 * stride, 4 * stride : 8 * stride].mean().item()
        assert fan_in(layer) == pytest.approx(counted)
        layers.initialise(layer, kind="he", scale=1.0, gain_scale=0.0)
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / counted), rel=0.05)
        made = layer(torch.randn(8, inputs, 16, 16).relu())[..., 4 * stride : 12 * stride, 4 * stride : 12 * stride]
        assert made.square().mean().item() == pytest.approx(1, rel=0.2)  # 2 / n * n * E relu(x)^2


def test_he_of_other_layers_and_of_the_figure_that_was_wrong() -> None:
    assert fan_in(nn.Linear(7, 3)) == 7 and fan_in(nn.Conv2d(6, 4, 3, stride=2, groups=2)) == 27
    assert math.sqrt(2 / fan_in(nn.ConvTranspose2d(128, 64, 4, 2))) == 0.0625
