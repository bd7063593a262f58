"""The verdict on real images: every count by hand, and every finding both ways."""

import math

import pytest
import torch
from torch import Tensor

from ganrun.data.transforms.value_range import ValueRange
from ganrun.diagnosis import data
from ganrun.diagnosis.data import DataFacts
from ganrun.diagnosis.images import agreement, class_counts, copies, dead_channels, of_one_value

SPAN = ValueRange(-1.0, 1.0, 0.0)


def noise(count: int, *, channels: int = 1, side: int = 4, seed: int = 0) -> Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_copies_are_counted_bit_for_bit() -> None:
    images = noise(5)
    images[3] = images[0]
    images[4] = images[0] + 1e-6
    assert copies(images) == 1 and copies(images[:3]) == 0
    assert copies((images * 127).to(torch.uint8)) == 2  # as 8-bit values they are the same


def test_images_of_one_value_and_dead_channels() -> None:
    images = noise(4, channels=4)
    images[:, 3] = 1.0
    assert of_one_value(images) == 0 and dead_channels(images) == [3]
    images[1] = torch.tensor([0.1, 0.2, 0.3, 1.0])[:, None, None]  # one colour
    assert of_one_value(images) == 1 and dead_channels(images) == [3]


def test_classes_without_images_count() -> None:
    assert class_counts(torch.tensor([0, 0, 2]), 4) == [2, 0, 1, 0]


def test_neighbours_agree_where_labels_follow_the_images() -> None:
    labels = torch.arange(60) % 2
    images = noise(60) * 0.1 + labels[:, None, None, None]
    found = agreement(images, labels)
    assert found.share == 1 and found.p == 1 / 1000
    # two images drawn without replacement from 30 and 30 share a label in 29 of 59 cases
    assert found.chance == pytest.approx(29 / 59, abs=0.01)


def test_the_p_of_random_labels_is_uniform() -> None:
    """Of 40 random labellings, at most 8 have p <= 0.1: 4 are expected, and more have probability 0.01."""
    images = noise(50)
    drawn = torch.Generator().manual_seed(1)
    found = [agreement(images, torch.randint(0, 5, (50,), generator=drawn)).p for _ in range(40)]
    assert sum(p <= 0.1 for p in found) <= 8 and sum(p > 0.5 for p in found) >= 10


def test_copies_say_nothing_of_labels() -> None:
    """Pairs of equal images with equal labels would agree whatever labels mean."""
    images = noise(40).repeat(2, 1, 1, 1)
    labels = torch.randint(0, 4, (40,), generator=torch.Generator().manual_seed(0)).repeat(2)
    assert agreement(images, labels).p > 0.01
    assert agreement(images[:1], labels[:1]).p == 1


def facts(**more) -> DataFacts:
    known = {"count": 5000, "channels": 1, "resolution": 8, "span": SPAN, "looked_at": 1000, "copies": 0,
             "of_one_value": 0, "dead_channels": ()}  # fmt: skip
    return DataFacts(**(known | more))


def names(found: DataFacts, *, labels_read: bool = True, augmented: bool = False) -> list[str]:
    judged = data.findings(found, labels_read=labels_read, augmented=augmented, tricks=["ema"], ends=(0.0, 255.0))
    return [finding.name for finding in judged]


@pytest.mark.parametrize(
    ("wrong", "right", "name"),
    [
        ({"span": ValueRange(0, 255, 100)}, {"span": SPAN}, "data_out_of_range"),
        ({"span": ValueRange(0.0, 1.0, 0.5)}, {"span": ValueRange(-0.1, 1.0, 0.5)}, "data_out_of_range"),
        ({"count": 499}, {"count": 500}, "few_images"),
        ({"copies": 251}, {"copies": 250}, "copies_in_data"),
        ({"of_one_value": 11}, {"of_one_value": 10}, "images_of_one_value"),
        ({"channels": 4, "dead_channels": (3,)}, {"channels": 4}, "dead_channels"),
        (
            {"classes": ("a", "b"), "counts": (9, 100)},
            {"classes": ("a", "b"), "counts": (10, 100)},
            "classes_imbalanced",
        ),
        (
            {"agreement": data.Agreement(0.1, 0.1, 0.02)},
            {"agreement": data.Agreement(0.2, 0.1, 0.01)},
            "labels_at_chance",
        ),
    ],
)
def test_each_finding_both_ways(wrong: dict, right: dict, name: str) -> None:
    assert names(facts(**wrong)) == [name] and names(facts(**right)) == []


def test_labels_matter_where_they_are_read_and_few_images_where_none_are_augmented() -> None:
    odd = facts(count=20, classes=("a", "b"), counts=(1, 100), agreement=data.Agreement(0.1, 0.1, 0.5))
    assert names(odd) == ["few_images", "classes_imbalanced", "labels_at_chance"]
    assert names(odd, labels_read=False, augmented=True) == []


def test_points_are_no_pictures() -> None:
    """2-D points have values beyond [-1, 1], and few different numbers."""
    points = torch.zeros(600, 2, 1, 1)
    found = data.look(points, None, span=ValueRange(-3, 3, 0))
    assert names(found) == [] and data.described(found) == ["600 images of 2 x 1 x 1, values from -3 to 3, mean 0"]


@pytest.mark.parametrize(
    ("span", "ends", "remedy"),
    [
        (ValueRange(-1, -1 + 2 * 255 / 65535, -0.999), (0, 65535), "dataset.range=[0,255]"),
        (ValueRange(-1, -0.9, -0.95), (-10, 10), "dataset.range=[-10,-9]"),
    ],
)
def test_the_range_is_named_in_the_numbers_of_the_file(span: ValueRange, ends: tuple, remedy: str) -> None:
    (finding,) = data.findings(facts(span=span), labels_read=False, augmented=False, tricks=[], ends=ends)
    assert finding.remedies == (remedy, "dataset.range=null")
    assert finding.evidence == {"least": span.low, "largest": span.high, "mean": span.mean}


def test_a_finding_is_one_line() -> None:
    (finding,) = data.findings(facts(count=40), labels_read=False, augmented=False, tricks=["ema"])
    assert finding.line == (
        "few_images: D can learn so few images by heart, and then it teaches G nothing. (images 40) "
        "Try: 'tricks=[ema,diffaugment]'"
    )
    assert math.isclose(finding.evidence["images"], 40)
