"""Fact.SMOOTH: whether a discriminator says that its slope does not jump is compared with how its slope behaves."""

from typing import Any

import pytest
import torch
from support import built, composed, family, pair_in, play, tiny
from test_meta import overrides_of
from torch import Tensor, nn

from ganrun.config.build import Run, build
from ganrun.core.facts import Fact
from ganrun.core.images import Images, each_scale, scales
from ganrun.models.base import KINKED
from ganrun.models.layers import ACTIVATIONS

POINTS = 200
SMOOTH = {"elu", "silu", "gelu", "tanh"}


def shown(run: Run) -> tuple[nn.Module, Images, Tensor | None]:
    """A discriminator, and images and a condition that it is given in the first step. [B, C, H, W], [B, ...]"""
    judge, calls = pair_in(run).discriminator, []
    handle = judge.register_forward_pre_hook(lambda _, given: calls.append(given))
    play(run, 0, 1)
    handle.remove()
    images, *condition = calls[0]
    return judge, images, condition[0] if condition else None


def changes(judge: nn.Module, images: Images, condition: Tensor | None, start: float, step: float) -> Tensor:
    """How D's derivative on the way from one image to another changes from each of POINTS to the next. [POINTS - 1]"""
    way = (start + torch.arange(POINTS, dtype=torch.float64) * step).view(-1, 1, 1, 1)
    first, second = (each_scale(images, lambda image, i=i: image[i : i + 1].detach().double()) for i in (0, 1))
    points = each_scale(first, lambda one, other: (one + way * (other - one)).requires_grad_(), second)
    if condition is not None:
        condition = condition[:1].double() if condition.is_floating_point() else condition[:1]
        condition = condition.expand(POINTS, *condition.shape[1:])
    found = torch.autograd.grad(judge(points, condition).score.sum(), scales(points))
    ahead = [other - one for one, other in zip(scales(first), scales(second), strict=True)]
    return sum((slope * to).sum((1, 2, 3)) for slope, to in zip(found, ahead, strict=True)).diff().abs()


def is_smooth(*overrides: str) -> tuple[bool, bool]:
    """Whether D says that it is smooth, and whether its slope changes by less the closer one looks.

    Where it changes the most from one of POINTS to the next, as many lie between those two: a smooth slope changes by
    about 1 / POINTS as much between these, one that jumps a few times in between by much more.
    """
    judge, images, condition = shown(build(composed(*overrides)))
    judge.double().eval()
    for weight in (one for one in judge.parameters() if one.dim() > 1):
        nn.init.kaiming_normal_(weight)  # with the small weights of some models D is all but a plane
    coarse = changes(judge, images, condition, 0, 1 / POINTS)
    where = coarse.argmax().item() / POINTS
    fine = changes(judge, images, condition, where, 1 / POINTS / (POINTS - 1))
    assert coarse.max() > 0, "a D that is a plane tells nothing"
    says = Fact.SMOOTH in judge.traits.provides - judge.traits.invalidates  # type: ignore[union-attr, operator]
    return says, bool(fine.max() < 4 * coarse.max() / POINTS)


@pytest.mark.parametrize("name", family("model"))
def test_a_model_says_so_just_where_its_slope_does_not_jump(name: str) -> None:
    says, is_so = is_smooth(*overrides_of("model", name))
    assert says == is_so


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_kinked_just_where_its_slope_jumps(name: str) -> None:
    """SELU's slope jumps at 0, from 1.76 to 1.05; ELU's does not."""
    says, is_so = is_smooth(*tiny("model.discriminator.norm=none", f"model.discriminator.activation={name}"))
    assert says == is_so == (name in SMOOTH)


def test_some_are_smooth_and_some_are_not() -> None:
    assert len(family("model")) > 20
    assert set(ACTIVATIONS) > SMOOTH and len(KINKED) == len(ACTIVATIONS) - len(SMOOTH) + 1 == 4


@pytest.mark.parametrize(("trick", "kinked"), [("minibatch_discrimination", True), ("minibatch_stddev", False)])
def test_layers_that_compare_images_say_so_too(trick: str, kinked: bool) -> None:
    smooth = ("model.discriminator.norm=none", "model.discriminator.activation=silu")
    traits: Any = pair_in(built(*smooth, tricks=[trick])).discriminator.traits
    assert (Fact.SMOOTH in traits.invalidates) == kinked
