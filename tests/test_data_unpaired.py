"""Data sets of two streams: unpaired domains, negatives, and the halves of the digits."""

import pickle
from pathlib import Path

import pytest
import torch
from data_formats import write_image
from omegaconf import OmegaConf
from support import composed

from ganrun.config.build import open_data
from ganrun.config.instantiate import Maker
from ganrun.core.errors import ConfigError
from ganrun.core.seeding import generator
from ganrun.data.datasets.base import Dataset, InMemory
from ganrun.data.datasets.bundled import Digits
from ganrun.data.datasets.held_out import hold_out
from ganrun.data.datasets.mapped import Grey, Negative, Tinted
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
    cfg = composed("dataset=unpaired", "dataset.held_out=0")
    cfg.dataset = OmegaConf.merge(cfg.dataset, {name: {"path": str(path)} for name, path in paths.items()} | settings)
    return open_data(cfg, Maker())


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
            ".channels: 3 in a (InMemory) and 1 in b (InMemory), expected the same. Try: .channels=3",
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
        "dataset.a.path: not set, expected a folder of images, or ZIP or tar archives of them. Try: dataset.a.path="
    )


def refusal_of_files() -> str:
    with pytest.raises(ConfigError) as caught:
        unpaired_folders({})
    return str(caught.value)


def test_opening_records_the_shape_and_opens_again_from_the_record(tmp_path):
    cfg = composed("dataset=unpaired", "dataset.held_out=0")
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


@pytest.mark.parametrize("floats", [False, True])
def test_tints_and_greys(floats):
    data = noise(channels=3, floats=floats)
    tinted, grey = Tinted(dataset=data, colour=[255, 102, 0]), Grey(dataset=data)
    before = data.images if floats else data.images.float()
    black = -1 if floats else 0
    expected = (before - black) * torch.tensor([1.0, 0.4, 0.0]).view(3, 1, 1) + black
    assert (tinted.bulk()[0].float() - expected).abs().max() <= (1e-6 if floats else 0.5)
    luma = 0.299 * before[:, 0] + 0.587 * before[:, 1] + 0.114 * before[:, 2]
    for channel in grey.bulk()[0].unbind(1):
        assert (channel.float() - luma).abs().max() <= (1e-5 if floats else 0.5001)
    assert torch.equal(grey.image(2), grey.bulk()[0][2]) and grey.image(2).dtype == data.images.dtype
    assert torch.equal(Tinted(dataset=noise(), colour=[0, 0, 255]).image(0), (noise().images[0] / 3).round().byte())
    with pytest.raises(ConfigError, match=r"^\.colour: \[1, 2\], expected red, green and blue"):
        Tinted(dataset=data, colour=[1, 2])


# ---- digits and their negatives


def test_halves_are_all_images_once_each_with_what_it_is_in_the_other_domain():
    one, other = noise(9), noise(9, seed=1)
    both = Unpaired(a=one, b=other, halves=True)
    assert torch.equal(both.a.bulk()[0], one.images[:5]) and torch.equal(both.b.bulk()[0], other.images[5:])
    assert torch.equal(both.a.truth.bulk()[0], other.images[:5])
    assert torch.equal(both.b.truth.bulk()[0], one.images[5:])
    kept = hold_out(both, 2)
    for data, own, true in ((kept.a, one, other), (kept.b, other, one)):
        for part in (data, data.test):
            for i in range(len(part)):
                (row,) = [n for n in range(9) if torch.equal(part.image(i), own.images[n])]
                assert torch.equal(part.truth.image(i), true.images[row]) and part.label(i) == row % 2
    with pytest.raises(ConfigError, match=r"^\.: 8 images \(InMemory\) for 9 \(InMemory\), expected as many of both"):
        Unpaired(a=one, b=noise(8), halves=True)
    assert all(data.truth is None for data in Unpaired(a=one, b=other).streams.values())


def test_images_of_both_domains_are_held_out():
    both = hold_out(build_pair(), 98)
    assert [(len(one), len(one.test)) for one in (both.a, both.b)] == [(801, 98), (800, 98)]
    assert [note[:3] for note in both.notes] == ["a: ", "b: "] and "98 of 899 images are held out" in both.notes[0]
    assert both.fingerprint() != build_pair().fingerprint()


def test_digits_and_negatives_have_no_image_in_common():
    both = build_pair()
    a, b = both.a.bulk()[0], 255 - both.b.bulk()[0]
    assert a.shape == (899, 3, 16, 16) and b.shape == (898, 3, 16, 16) and both.labels is None
    assert torch.equal(both.a.truth.bulk()[0], 255 - a) and torch.bincount(both.a.labels).min() > 80
    pixels = {image.numpy().tobytes() for image in a}
    assert len([image for image in b if image.numpy().tobytes() in pixels]) < 5  # two writers' digits may be equal
    assert build_pair(resolution=32).b.image(0).shape == (3, 32, 32)
    assert build_pair(channels=1).channels == 1


def build_pair(**settings: int) -> Unpaired:
    node = OmegaConf.merge(OmegaConf.load(CONF / "digits_to_negatives.yaml"), settings)
    return Maker()(OmegaConf.to_container(node, resolve=True), "dataset")
