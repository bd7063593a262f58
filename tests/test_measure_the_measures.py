"""Damage to real images: it is what it says, and the measures see it and weigh more of it more."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from ganrun.core.seeding import generator
from ganrun.data.datasets.bundled import Digits
from ganrun.data.transforms.value_range import to_units
from ganrun.metrics.features import features
from ganrun.metrics.mmd import TwoSample
from ganrun.metrics.quality import compare

ROOT = Path(__file__).parents[1]
COUNT = 100


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("measures_script", ROOT / "scripts" / "measure_the_measures.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def digits() -> Tensor:
    images = to_units(Digits(channels=1, resolution=32, classes=None).bulk()[0])
    return images[torch.randperm(len(images), generator=generator(0, "test"))]


def test_every_damage_grows_with_its_dose_and_reals_are_quiet(digits: Tensor) -> None:
    """The kinds of damage of the script, on 100 against 100 digits; docs/measures.md has 500 of three data sets."""
    measuring = script()
    reals, held = features(digits[:COUNT]), digits[COUNT : 2 * COUNT]
    assert max(test.z for test in compare(reals, features(held)).values()) < 4
    for kind, (damage, doses, _) in measuring.DAMAGE.items():
        if damage is measuring.hue:
            continue
        tests = [compare(reals, features(damage(held, dose, 0))) for dose in doses]
        assert any(4 < tests[0][space].z < tests[1][space].z for space in reals), kind


def test_seen_is_20_at_both_doses_and_more_at_the_larger() -> None:
    measuring = script()
    z = {"grows": (20.0, 30.0), "falls": (40.0, 30.0), "begins below": (19.0, 90.0), "grows too": (25.0, 26.0)}
    doses = [{name: TwoSample(both[dose], 1.5, 0.1) for name, both in z.items()} for dose in (0, 1)]
    assert measuring.seen_in(doses) == "grows, grows too"
    assert measuring.seen_in(doses[::-1]) == "falls"


def test_damage_is_what_it_says(digits: Tensor) -> None:
    measuring, one = script(), torch.zeros(2, 3, 32, 32)
    assert measuring.blur(one + 0.5, 1.0, 0).sub(0.5).abs().max() < 1e-6
    assert measuring.noise(one, 10, 0).std().item() == pytest.approx(10 / 127.5, rel=0.05)
    assert sorted(measuring.checkerboard(one, 8, 0).unique().tolist()) == pytest.approx([-8 / 127.5, 8 / 127.5])
    assert len(measuring.few(digits[:90], 10, 0).unique(dim=0)) == 10
    dark = digits[:90].flatten(1).mean(1).sort().values[45]
    assert measuring.dropped(digits[:90], 0.5, 0).flatten(1).mean(1).max() < dark
    mixed = measuring.shuffled(digits[:9], 4, 0)
    assert not torch.equal(mixed, digits[:9]) and mixed.shape == digits[:9].shape
    assert torch.equal(mixed.flatten(1).sort(1).values, digits[:9].flatten(1).sort(1).values)
    red = torch.tensor([1.0, -1.0, -1.0])[None, :, None, None].expand(1, 3, 2, 2)
    assert measuring.hue(red, 120, 0).flatten(2)[0, :, 0].tolist() == pytest.approx([-1, 1, -1], abs=1e-6)
    assert torch.allclose(measuring.warp(digits[:3], 0, 0), digits[:3], atol=1e-4)
