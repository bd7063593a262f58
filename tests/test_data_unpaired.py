"""Data sets of two streams: unpaired domains, negatives, and the halves of the digits."""

import pickle
from pathlib import Path

import pytest
import torch
from data_formats import write_image
from omegaconf import OmegaConf
from test_data_sets import refusal

from ganrun.config.build import open_data
from ganrun.config.instantiate import Maker
from ganrun.core.errors import ConfigError
from ganrun.core.seeding import generator
from ganrun.data.datasets.base import Dataset, InMemory
from ganrun.data.datasets.bundled import Digits
from ganrun.data.datasets.held_out import hold_out
from ganrun.data.datasets.negative import Negative
from ganrun.data.datasets.toys import Ring
from ganrun.data.datasets.unpaired import Unpaired

CONF = Path(__file__).parents[1] / "conf" / "dataset"


def noise(count: int = 6, *, channels: int = 1, side: int = 4, floats: bool = False, seed: int = 0) -> InMemory:
    """Random images with labels."""
    random = generator(seed, "test")
    shape = (count, channels, side, side)
    bytes_ = torch.randint(256, shape, generator=random).to(torch.uint8)
    images = torch.rand(shape, generator=random) - 0.3 if floats else bytes_
    return InMemory(images=images, labels=torch.arange(count) % 2, names=["even", "odd"], classes=None)


def folders(tmp_path: Path, *, a: str = "RGB", b: str = "RGB", size: tuple[int, int] = (8, 8)) -> dict[str, Path]:
    """Two folders of images of these modes."""
    for i in range(3):
        write_image(tmp_path / "a" / f"{i}.png", size=(8, 8), mode=a, seed=i)
        write_image(tmp_path / "b" / f"{i}.png", size=size, mode=b, seed=10 + i)
    return {name: tmp_path / name for name in "ab"}


def unpaired_folders(paths: dict[str, Path], **settings: int) -> Unpaired:
    node = OmegaConf.merge(
        OmegaConf.load(CONF / "unpaired.yaml"),
        {name: {"path": str(path)} for name, path in paths.items()} | settings,
    )
    return Maker()(OmegaConf.to_container(node, resolve=True), "dataset")


# ---- unpaired


def test_unpaired_is_two_streams_without_labels_of_their_own():
    a, b = noise(), noise(9, seed=1)
    both = Unpaired(a=a, b=b)
    assert dict(both.streams) == {"a": a, "b": b} and (both.channels, both.resolution) == (1, 4)
    assert both.labels is None and both.classes == ()
    assert both.fingerprint() == f"{a.fingerprint()}-{b.fingerprint()}" != Unpaired(a=b, b=a).fingerprint()
    assert pickle.loads(pickle.dumps(both)).fingerprint() == both.fingerprint()


@pytest.mark.parametrize(
    ("a", "b", "line"),
    [
        (
            {"channels": 3},
            {},
            ".channels: 3 in a (InMemory) and 1 in b (InMemory), expected the same. Try: .channels=1",
        ),
        (
            {},
            {"side": 8},
            ".resolution: 4 in a (InMemory) and 8 in b (InMemory), expected the same. Try: .resolution=4",
        ),
    ],
)
def test_different_shapes_are_refused_by_name(a, b, line):
    with pytest.raises(ConfigError) as caught:
        Unpaired(a=noise(**a), b=noise(**b))
    assert str(caught.value) == line


def test_set_channels_and_resolution_must_be_those_of_the_data():
    """They are measured, written into the configuration, and given again when the run resumes."""
    assert Unpaired(a=noise(), b=noise(), channels=1, resolution=4).resolution == 4
    for key, found in (("channels", 1), ("resolution", 4)):
        with pytest.raises(ConfigError, match=rf"^\.{key}: 32, but the data have {found}, expected {found}, or null"):
            Unpaired(a=noise(), b=noise(), **{key: 32})


def test_two_folders(tmp_path):
    both = unpaired_folders(folders(tmp_path))
    assert (both.channels, both.resolution, len(both.a), len(both.b)) == (3, 8, 3, 3)
    assert both.a.fingerprint() != both.b.fingerprint()


def test_channels_and_resolution_are_set_once_for_both_folders(tmp_path):
    paths = folders(tmp_path, b="L", size=(16, 12))
    with pytest.raises(
        ConfigError, match=r"^dataset.b.resolution: images of 3 of 16x12 pixels.*dataset.b.resolution=16$"
    ):
        unpaired_folders(paths)
    with pytest.raises(ConfigError, match=r"^dataset.channels: 3 in a \(Folder\) and 1 in b \(Folder\)"):
        unpaired_folders(paths, resolution=8)
    both = unpaired_folders(paths, resolution=8, channels=1)
    assert both.a.image(0).shape == both.b.image(0).shape == (1, 8, 8)


def test_a_missing_folder_is_named_with_its_place():
    assert refusal_of_files().startswith(
        "dataset.a.path: not set, expected a folder or a ZIP archive of images. Try: dataset.a.path="
    )


def refusal_of_files() -> str:
    with pytest.raises(ConfigError) as caught:
        unpaired_folders({})
    return str(caught.value)


def test_opening_records_the_shape_and_opens_again_from_the_record(tmp_path):
    cfg = OmegaConf.create({"dataset": OmegaConf.load(CONF / "unpaired.yaml")})
    OmegaConf.set_struct(cfg, True)
    for name, path in folders(tmp_path).items():
        cfg.dataset[name].path = str(path)
    both = open_data(cfg, Maker())
    assert (cfg.dataset.channels, cfg.dataset.resolution, cfg.dataset.class_count) == (3, 8, 0)
    assert open_data(cfg, Maker()).fingerprint() == both.fingerprint()


# ---- negatives


@pytest.mark.parametrize("floats", [False, True])
def test_a_negative_mirrors_the_value_range(floats):
    data = noise(channels=3, floats=floats)
    negative = Negative(dataset=data)
    for index in range(len(data)):
        total = negative.image(index) + data.image(index)
        assert (total == (0 if floats else 255)).all() and negative.image(index).dtype == data.image(index).dtype
    assert torch.equal(negative.bulk()[0], torch.stack([negative.image(i) for i in range(len(data))]))
    found = Dataset.value_range(negative)  # measured from the images
    assert negative.value_range() == pytest.approx(found, abs=1e-6)
    assert torch.equal(negative.labels, data.labels) and negative.classes == data.classes
    assert negative.fingerprint() != data.fingerprint() == Negative(dataset=negative).fingerprint()
    assert negative.test is None


def test_held_out_images_are_negated_too():
    data = Digits(channels=1, resolution=8, classes=None)
    positives, negatives = hold_out(data, 7), hold_out(Negative(dataset=data), 7)
    assert torch.equal(negatives.test.bulk()[0], 255 - positives.test.images)
    assert torch.equal(Negative(dataset=positives).test.bulk()[0], 255 - positives.test.images)


def test_negatives_of_points_are_points_on_the_other_side():
    ring = Ring(size=16, seed=0, gaussians=8, radius=2, sigma=0.02, divide=1, channels=2, resolution=1, classes=None)
    assert torch.equal(Negative(dataset=ring).image(3), -ring.image(3))


# ---- digits and their negatives


def test_the_halves_of_the_digits_are_all_of_them_once():
    whole, first, second = (Digits(channels=1, resolution=8, classes=None, half=h) for h in (None, "first", "second"))
    assert (len(first), len(second)) == (899, 898)
    assert torch.equal(torch.cat([first.images, second.images]), whole.images)
    assert torch.equal(torch.cat([first.labels, second.labels]), whole.labels)
    for half in (first, second):
        assert torch.bincount(half.labels).min() > 80  # every digit, about evenly
    assert "dataset.half: 'third', expected first, second or null. Try: dataset.half=first" in refusal(
        "digits", half="third"
    )


def test_images_of_both_domains_are_held_out():
    both = hold_out(build_pair(), 98)
    assert [(len(one), len(one.test)) for one in (both.a, both.b)] == [(801, 98), (800, 98)]
    assert [note[:3] for note in both.notes] == ["a: ", "b: "] and "98 of 899 images are held out" in both.notes[0]
    assert both.fingerprint() != build_pair().fingerprint()


def test_digits_and_negatives_have_no_image_in_common():
    both = build_pair()
    a, b = both.a.bulk()[0], 255 - both.b.bulk()[0]
    assert a.shape == (899, 1, 16, 16) and b.shape == (898, 1, 16, 16) and both.labels is None
    pixels = {image.numpy().tobytes() for image in a}
    assert len([image for image in b if image.numpy().tobytes() in pixels]) < 5  # two writers' digits may be equal
    assert build_pair(resolution=32).b.image(0).shape == (1, 32, 32)
    assert build_pair(channels=3).channels == 3


def build_pair(**settings: int) -> Unpaired:
    node = OmegaConf.merge(OmegaConf.load(CONF / "digits_to_negatives.yaml"), settings)
    return Maker()(OmegaConf.to_container(node, resolve=True), "dataset")
