"""Sampling that differentiates twice where torch's own does not: the same values, slopes and slopes of slopes."""

import pytest
import torch
from torch import Tensor

from ganrun.tricks import warp as warping


def given() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    return images, torch.rand(2, 4, 4, 2, dtype=torch.float64) * 2.4 - 1.2  # some of it beyond the border


def slopes(sample: object) -> tuple[Tensor, Tensor, Tensor]:
    """Values, their gradient, and that of a penalty on the gradient, as R1 is."""
    images, grid = given()
    values = sample(images, grid)  # type: ignore[operator]
    (slope,) = torch.autograd.grad(values.pow(3).sum(), images, create_graph=True)
    (penalty,) = torch.autograd.grad(slope.square().sum(), images)
    return values, slope, penalty


@pytest.mark.skipif(not warping.differentiates_twice(), reason="this PyTorch lacks what ours is compared with")
def test_our_own_is_torchs() -> None:
    for mine, theirs in zip(slopes(warping._Sample.apply), slopes(warping.sample), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_it_is_taken_where_torch_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (warping.sampler() is warping.sample) == warping.differentiates_twice()
    monkeypatch.setattr(warping, "differentiates_twice", lambda: False)
    sample = warping.sampler()
    images, grid = given()
    assert "_Sample" in type(sample(images, grid).grad_fn).__name__
    assert torch.autograd.gradgradcheck(lambda given: sample(given, grid) ** 2, images)
