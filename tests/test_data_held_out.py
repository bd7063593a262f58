"""Held-out images: of every data set, never trained on, the same in every run."""

import pickle
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from data_formats import write_image
from support import composed
from test_data_sets import NODES, build, known

from ganrun.config.build import open_data
from ganrun.config.instantiate import Maker
from ganrun.core.context import BatchShape
from ganrun.core.errors import ConfigError
from ganrun.data.datasets.base import Dataset, InMemory
from ganrun.data.datasets.held_out import hold_out
from ganrun.data.sources.open import open_source

FEW = {
    name: {"size": 100}
    for name in ("photos", "ring", "grid", "swiss_roll", "shapes", "stacked_digits", "stacked_mnist")
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> dict[str, dict]:
    """What finds small files of every data set."""
    found = known(tmp_path_factory.mktemp("data"))
    return {name: found[name] | FEW.get(name, {}) for name in NODES if name != "lsun" or find_spec("lmdb")}


def contents(data: Dataset) -> Counter:
    """Each image with its label, counted; two sets may both have one twice."""
    images, labels = data.bulk()
    return Counter((image.numpy().tobytes(), labels is not None and int(labels[i])) for i, image in enumerate(images))


@pytest.mark.parametrize("name", NODES)
def test_a_part_of_every_set_is_held_out(name, settings):
    if name not in settings:
        pytest.importorskip("lmdb")
    whole = build(name, **settings[name])
    kept, again = hold_out(whole, 0.3), hold_out(build(name, **settings[name]), 0.3)
    assert hold_out(whole, 0) is whole
    assert len(kept.test) == round(0.3 * len(whole)) and kept.test.test is None
    assert contents(kept) + contents(kept.test) == contents(whole)
    for part, other in ((kept, again), (kept.test, again.test), (pickle.loads(pickle.dumps(kept)), again)):
        assert part.fingerprint() == other.fingerprint() != whole.fingerprint()
        assert part.classes == whole.classes and part.kind == whole.kind
        last = len(part) - 1
        assert torch.equal(part.bulk()[0][last], part.image(last)) and part.value_range() is not None
    assert "images are held out" in kept.notes[-1] and "images are held out" not in " ".join(whole.notes)


def test_factors_captions_and_modes_are_those_of_the_images(settings):
    for name in ("shapes", "emoji"):
        whole = build(name, **settings[name])
        captions = {whole.image(i).numpy().tobytes(): caption for i, caption in enumerate(whole.captions)}
        for part in (kept := hold_out(whole, 0.5), kept.test):
            assert part.captions == [captions[image.numpy().tobytes()] for image in part.bulk()[0]]
    ring = build("ring", **settings["ring"])
    assert torch.equal(hold_out(ring, 10).modes, ring.modes)


def test_a_run_never_draws_them(settings):
    kept = hold_out(build("mnist", **settings["mnist"]), 8)
    for memory in (1.0, 0.0):  # resident, streamed
        source = open_source(kept, seed=3, device=torch.device("cpu"), workers=0, memory=memory)
        drawn = [image for _ in range(8) for image in source.draw(BatchShape(11, 32)).images]
        found = {((image + 1) * 127.5).round().byte().contiguous().numpy().tobytes() for image in drawn}
        assert found == {image for image, _ in contents(kept)}  # 88 images, four times all of them
        held = (source.held_out().images + 1) * 127.5
        assert torch.equal(held.round().byte(), kept.test.bulk()[0])
        source.close()


def test_files_are_held_out_by_their_names(tmp_path):
    """One that is gone changes nothing for the others, and is named among the files in use."""
    for i in range(20):
        write_image(tmp_path / f"{i}.png", size=(8, 8), seed=i)
    before = hold_out(build("folder", path=str(tmp_path)), 5)
    held = before.test.file_names()
    assert sorted(before.file_names()) == sorted(f"{i}.png" for i in range(20)) and len(held) == 5
    (tmp_path / held[2]).unlink()
    after = hold_out(build("folder", path=str(tmp_path)), 4)
    assert after.test.file_names() == held[:2] + held[3:] and len(after) == 15


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (
            "1797",
            "dataset.held_out: 1797 of 1797 images, expected a part below 1, or a number of images from 0 to 1796",
        ),
        ("2.5", "dataset.held_out: 2.5 of 1797 images"),
        ("-1", "dataset.held_out: -1, expected a number from 0 up"),
        ("many", "dataset.held_out: 'many', expected a number from 0 up"),
    ],
)
def test_what_cannot_be_held_out_is_refused(value, words):
    with pytest.raises(ConfigError) as caught:
        open_data(composed("dataset=digits", f"dataset.held_out={value}"), Maker())
    assert str(caught.value).startswith(words), caught.value


def test_very_few_images_stay_whole():
    few = InMemory(images=torch.zeros(4, 1, 8, 8), labels=None, names=[], classes=None)
    data = hold_out(few, 0.1)
    assert len(data) == 4 and data.test is None
    assert data.notes == ["4 images are too few to hold some out: there is nothing to compare with"]


def test_the_setting_is_of_every_data_set(tmp_path: Path):
    cfg = composed("dataset=ring", "dataset.size=80", "dataset.held_out=0.25")
    assert (len(open_data(cfg, Maker())), len(open_data(cfg, Maker()).test)) == (60, 20)
    both = open_data(composed("dataset=digits_to_negatives", "dataset.held_out=0.1"), Maker())
    assert [len(data.test) for data in both.streams.values()] == [90, 90]
