"""scripts/judge_captions.py: the retrieval of captions by hand, and encoders of real pairs, in the real formats."""

import json
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from data_formats import write_emoji
from torch import Tensor

import ganrun
from ganrun.core.context import Condition
from ganrun.core.seeding import generator
from ganrun.data.datasets.base import Dataset
from ganrun.run.evaluation import opened

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from judge_captions import evaluate, judged, retrieved

torch.set_num_threads(1)


def points(seed: int, rows: int) -> Tensor:
    return F.normalize(torch.randn(rows, 16, generator=generator(seed, "points")))


def test_retrieval_is_1_of_exact_features_and_chance_of_unrelated_ones() -> None:
    captions = points(0, 300)
    right = torch.arange(300)
    assert retrieved(captions, right, captions).tolist() == [1.0] * 300
    unrelated = torch.cat([retrieved(points(seed, 300), right, captions) for seed in range(1, 21)])
    assert unrelated.mean().item() == pytest.approx(0.01, abs=0.004)  # 6,000 of 1 in 100: 0.0013 of deviation
    assert retrieved(captions[:50].flip(0), right[:50], captions[:50]).sum() == 0  # all 50 are candidates


def test_one_of_several_equally_near_captions_counts_as_its_share() -> None:
    captions = torch.eye(4)[[0, 0, 0, 1]]
    found = retrieved(torch.eye(4)[[0, 1, 2]], torch.tensor([1, 3, 0]), captions)
    assert found.tolist() == pytest.approx([1 / 3, 1, 1 / 4])


def nothing(data: Dataset) -> object:
    """A generator that knows nothing of its captions: noise."""
    shape = (data.channels, data.resolution, data.resolution)
    return lambda condition, count: torch.rand(count, *shape, generator=generator(0, "noise")) * 2 - 1


@pytest.mark.slow
def test_encoders_of_shapes_find_captions_of_new_images_and_of_copies_alone() -> None:
    """A generator that draws the held-out images themselves reaches their ceiling, noise does not leave chance."""
    words = ["dataset=shapes", "dataset.text=words", "dataset.size=1200", "dataset.held_out=200"]
    data = opened([*words, "dataset.resolution=16"])
    assert isinstance(data, Dataset) and data.test is not None
    images = data.test.bulk()[0] / 127.5 - 1
    asked = data.test.text

    def copies(condition: Condition, count: int) -> Tensor:
        """The held-out images for their own captions; for those of training one of them, again and again."""
        assert condition.text is not None and asked is not None and len(condition.text) == count
        return images[:count] if torch.equal(condition.text, asked[:count]) else images[[0] * count]

    found = judged(data, copies, samples=200, seed=0, steps=120, kind="bag")
    assert found["candidates"] == 100 and found["retrieval_by_chance"] == 0.01
    assert found["retrieval"] == pytest.approx(found["retrieval_of_reals"], abs=0.02) and found["retrieval"] > 0.08
    assert found["retrieval_of_reals_of_training_captions"] > 0.08 > 0.03 > found["retrieval_of_training_captions"]


def test_names_of_emoji_are_read_from_their_archive(tmp_path: Path) -> None:
    """Two pictures under 60 names: whoever tells the two apart finds a name among half as many."""
    entries = [
        {"name": f"{kind} NUMBER {n}", "category": kind, "image": f"{file}.png", "has_img_google": True}
        for n in range(30) for kind, file in (("HAND", "a"), ("PIZZA", "b"))
    ]  # fmt: skip
    path = write_emoji(tmp_path / "emoji.tgz", emoji=json.dumps(entries).encode())
    words = ["dataset=emoji", f"dataset.path={path}", "dataset.resolution=16", "dataset.text=words"]
    data = opened([*words, "dataset.held_out=20"])
    assert isinstance(data, Dataset) and data.captions[0].endswith(tuple("0123456789"))
    found = judged(data, nothing(data), samples=20, seed=0, steps=60, kind="bag")  # type: ignore[arg-type]
    assert found["candidates"] == 20 and found["retrieval_by_chance"] == 0.05
    reals, chance = (found[f"retrieval_{one}_of_training_captions"] for one in ("of_reals", "by_chance"))
    assert chance == 0.025 and reals > 1.5 * chance  # type: ignore[operator]


@pytest.mark.slow
def test_a_run_that_has_learnt_nothing_is_at_chance(tmp_path: Path) -> None:
    words = ("experiment=stackgan_stage1", "dataset.resolution=16", "dataset.size=600", "steps=2", "engine.device=cpu")
    run = ganrun.train(ganrun.compose([*words, "metrics=none"]), tmp_path / "run")
    found = evaluate(run, samples=200, seed=0, steps=400, kind="gru")
    assert found["step"] == 2 and found["samples"] == 200
    assert found["retrieval"] < 0.1 and found["retrieval_of_reals"] > 0.05  # type: ignore[operator]
