"""Data sets that are read: STL-10 and LSUN in their real formats, and folders of very many images."""

import hashlib
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from data_formats import images, write_image, write_lsun, write_stl10
from test_data_sets import build, refusal

from ganrun.config.groups import Choices
from ganrun.core.context import BatchShape
from ganrun.core.errors import ConfigError
from ganrun.data.readers.compact_paths import CompactPaths
from ganrun.data.sources.open import open_source

CPU = torch.device("cpu")


# ---- STL-10


@pytest.mark.parametrize("split, count", [("train", 20), ("test", 20), ("unlabeled", 10), ("train+unlabeled", 30)])
def test_stl10_is_read_as_torchvision_reads_it(split, count, tmp_path, monkeypatch):
    from torchvision.datasets import STL10

    pixels, labels, names = write_stl10(tmp_path)
    monkeypatch.setattr(STL10, "_check_integrity", lambda self: True)  # ours has other contents
    theirs, ours = STL10(tmp_path, split=split), build("stl10", root=str(tmp_path), split=split, resolution=96)
    found, marks = ours.bulk()
    assert len(ours) == count and np.array_equal(found.numpy(), theirs.data)
    assert np.array_equal(found[:10].numpy(), pixels[:10])  # rows are rows again
    if "unlabeled" in split:
        assert marks is None and ours.classes == () and set(theirs.labels[-10:]) == {-1}
    else:
        assert ours.classes == tuple(names) and marks.tolist() == theirs.labels.tolist() == (labels - 1).tolist()


def test_stl10_is_fitted_and_keeps_classes(tmp_path):
    write_stl10(tmp_path)
    full, some = build("stl10", root=str(tmp_path)), build("stl10", root=str(tmp_path), classes=["truck", 2])
    assert full.image(0).shape == (3, 48, 48) and some.classes == ("truck", "car")
    assert torch.equal(some.image(1), full.image(9)) and some.labels.tolist() == [1, 0, 1, 0]
    assert all(torch.equal(full.bulk()[0][index], full.image(index)) for index in (0, 11, 19))
    assert build("stl10", root=str(tmp_path), channels=1, resolution=32).image(0).shape == (1, 32, 32)
    assert "these data have no labels" in refusal("stl10", root=str(tmp_path), split="unlabeled", classes=["car"])
    assert refusal("stl10", root=str(tmp_path), split="unlabelled").endswith("Try: dataset.split=unlabeled")


def test_damaged_stl10_is_refused(tmp_path):
    write_stl10(tmp_path)
    folder = tmp_path / "stl10_binary"
    os.truncate(folder / "test_X.bin", 27_648 * 3 + 5)
    line = refusal("stl10", root=str(tmp_path), split="test")
    assert "test_X.bin: 82,949 bytes, expected images of 27,648 bytes each: it is cut" in line
    os.truncate(folder / "test_X.bin", 0)
    assert "test_X.bin: 0 bytes" in refusal("stl10", root=str(tmp_path), split="test")
    (folder / "train_y.bin").write_bytes(bytes(19))
    line = refusal("stl10", root=str(tmp_path))
    assert "train_y.bin: 19 labels for 20 images and 10 classes, expected 20, from 1 to 10" in line
    for wrong in (0, 11):
        (folder / "train_y.bin").write_bytes(bytes([wrong] * 20))
        assert "train_y.bin: 20 labels for" in refusal("stl10", root=str(tmp_path))
    (folder / "unlabeled_X.bin").unlink()
    assert "unlabeled_X.bin is missing" in refusal("stl10", root=str(tmp_path), split="unlabeled")


# ---- LSUN


@pytest.fixture
def lsun(tmp_path):
    pytest.importorskip("lmdb")
    return write_lsun(tmp_path, "church_outdoor_train", "bedroom_train", "tower_val", "test")


def test_lsun_images_are_those_of_the_databases(lsun, tmp_path):
    both = build("lsun", root=str(tmp_path), resolution=32)
    assert both.classes == ("bedroom", "church_outdoor") and both.labels.tolist() == [0] * 6 + [1] * 6
    for index in range(12):
        stem = f"{both.classes[both.label(index)]}_train"
        pixels = lsun[stem][sorted(lsun[stem])[index % 6]]  # a database keeps its keys in order
        assert np.array_equal(both.image(index).permute(1, 2, 0).numpy(), pixels[:, 4:36])  # the centre square
    assert build("lsun", root=str(tmp_path)).image(0).shape == (3, 64, 64)


@pytest.mark.slow
def test_torchvision_reads_the_databases_that_we_write(lsun, tmp_path, monkeypatch):
    """In its order; in a process of its own, as a database is opened once."""
    monkeypatch.chdir(tmp_path)  # it leaves a file of keys where it runs
    code = (
        "import hashlib, numpy as np; from torchvision.datasets import LSUN\n"
        f"s = LSUN({str(tmp_path)!r}, classes=['bedroom_train', 'church_outdoor_train'])\n"
        "print([hashlib.md5(np.asarray(s[i][0])[:, 4:36].tobytes()).hexdigest() for i in range(len(s))])"
    )
    theirs = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    ours = build("lsun", root=str(tmp_path), resolution=32).bulk()[0].permute(0, 2, 3, 1).contiguous().numpy()
    assert theirs.stdout.strip() == str([hashlib.md5(image.tobytes()).hexdigest() for image in ours]), theirs.stderr


def test_lsun_keeps_classes_and_splits(lsun, tmp_path):
    root = str(tmp_path)
    full, churches = build("lsun", root=root), build("lsun", root=root, classes="church_outdoor")
    assert churches.classes == ("church_outdoor",) and churches.labels.tolist() == [0] * 6
    assert torch.equal(churches.image(2), full.image(8))
    turned = build("lsun", root=root, classes=["church_outdoor", "bedroom"])
    assert turned.labels.tolist() == [0] * 6 + [1] * 6 and torch.equal(turned.image(7), full.image(1))
    assert build("lsun", root=root, split="val").classes == ("tower",)
    assert build("lsun", root=root, split="test").labels is None and len(build("lsun", root=root, split="test")) == 6
    assert "these data have no labels" in refusal("lsun", root=root, split="test", classes=["tower"])
    assert refusal("lsun", root=root, classes=["church"]).endswith("Try: 'dataset.classes=[church_outdoor]'")
    assert "kitchen_train_lmdb" in refusal("lsun", root=root, classes=["kitchen"])
    assert "expected train, val, test" in refusal("lsun", root=root, split="training")


def test_lsun_streams_through_workers(lsun, tmp_path):
    dataset = build("lsun", root=str(tmp_path), resolution=16)
    dataset.fingerprint()  # the database is open before the workers start
    first, second = (open_source(dataset, seed=0, device=CPU, workers=w, memory=m) for w, m in ((0, 1.0), (2, 0.0)))
    for _ in range(5):
        a, b = first.draw(BatchShape(5, 16)), second.draw(BatchShape(5, 16))
        assert torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)
    second.close()
    assert torch.equal(pickle.loads(pickle.dumps(dataset)).image(11), dataset.image(11))


def test_damaged_lsun_is_refused(tmp_path):
    lmdb = pytest.importorskip("lmdb")
    write_lsun(tmp_path / "cut", "tower_train", count=40)
    data = tmp_path / "cut" / "tower_train_lmdb" / "data.mdb"
    os.truncate(data, data.stat().st_size // 2)
    assert "it is cut. Try: unpacking the archive again" in refusal("lsun", root=str(tmp_path / "cut"))
    for name, content in (("junk", images(1, 9000).tobytes()), ("short", b"x"), ("nothing", b"")):
        folder = tmp_path / name / "tower_train_lmdb"
        folder.mkdir(parents=True)
        (folder / "data.mdb").write_bytes(content)
        line = refusal("lsun", root=str(tmp_path / name))
        assert line.startswith("dataset.root: ") and str(folder) in line and "expected an LMDB database" in line
    (tmp_path / "without" / "tower_train_lmdb").mkdir(parents=True)
    assert "No such file" in refusal("lsun", root=str(tmp_path / "without"))
    (tmp_path / "empty" / "tower_train_lmdb").mkdir(parents=True)
    with lmdb.open(str(tmp_path / "empty" / "tower_train_lmdb")) as database, database.begin(write=True):
        pass
    assert "no images" in refusal("lsun", root=str(tmp_path / "empty"))


def test_a_damaged_image_in_lsun_is_named(tmp_path):
    lmdb = pytest.importorskip("lmdb")
    (tmp_path / "tower_train_lmdb").mkdir()
    with lmdb.open(str(tmp_path / "tower_train_lmdb")) as database, database.begin(write=True) as writing:
        writing.put(b"00ff", b"<html>not an image</html>")
        writing.put(b"01ff", write_image(tmp_path / "a.png").read_bytes()[:500])
    dataset = build("lsun", root=str(tmp_path))
    for index, found in enumerate(("00ff is no image (it begins with '<html>not an')", "01ff is cut or damaged")):
        with pytest.raises(ValueError, match="tower_train_lmdb: the image") as caught:
            dataset.image(index)
        assert found in str(caught.value) and "\n" not in str(caught.value)


def test_lsun_without_lmdb_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)  # importing it fails, as where it is not installed
    (tmp_path / "tower_train_lmdb").mkdir()
    line = refusal("lsun", root=str(tmp_path))
    assert line.startswith("dataset: the package lmdb, ") and line.endswith("Try: pip install lmdb")


def test_lsun_without_databases(tmp_path):
    line = refusal("lsun", root=str(tmp_path / "nowhere"))
    assert line.startswith("dataset.root: no folder such as church_outdoor_train_lmdb in ")


# ---- folders of very many images


def test_paths_are_kept_as_they_were(tmp_path):
    names = ["a/b.png", "å/ü ñ.jpg", tmp_path / "c", os.fsdecode(b"not\xffutf8.png"), "x"]
    paths = CompactPaths(names)
    assert len(paths) == 5 and list(paths) == [str(name) for name in names] and paths[-1] == "x"
    assert list(paths.take([4, 1, 1])) == ["x", names[1], names[1]]
    assert len(pickle.dumps(CompactPaths([f"{i:012d}" for i in range(10_000)]))) < 21 * 10_000
    with pytest.raises(IndexError):
        paths[5]


def test_files_come_in_the_order_of_their_folders(tmp_path):
    """Part by part, as sorted paths: `a/z` before `a b/c`, whatever sorts before the slash."""
    names = ["a/z.png", "a/b/c.png", "a b/c.png", "a-b.png", "a.png", "B/x.png", "a/b.png", "b/a/9.png", "b/a/10.png"]
    for name in names:
        write_image(tmp_path / name, size=(8, 8))
    folder = build("folder", path=str(tmp_path), labels=False)
    assert list(folder.paths) == [str(path) for path in sorted(map(Path, names))]


@pytest.mark.parametrize("name", ["imagefolder", "image_folder", "ImageFolder"])
def test_the_name_that_torchvision_has_leads_to_folder(name):
    with pytest.raises(ConfigError, match=rf"dataset: there is no {name}, .*Try: dataset=folder$"):
        Choices(()).check("dataset", name, "dataset")


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """20,000 small JPEG files of 100 classes; no two of them alike."""
    root = tmp_path_factory.mktemp("many")
    for i in range(20_000):
        write_image(root / f"class_{i % 100:03d}" / f"{i:07d}.jpg", size=(16, 16), seed=i)
    return root


@pytest.mark.slow
def test_a_folder_of_20000_streams_through_workers(many, monkeypatch):
    """One listing and one look at each file at the start; then only what is drawn is read, at a reasonable pace."""
    start = time.process_time()
    folder = build("folder", path=str(many), resolution=16)
    assert len(folder) == 20_000 and len(folder.classes) == 100 and time.process_time() - start < 30
    assert torch.bincount(folder.labels).tolist() == [200] * 100
    assert len(pickle.dumps(folder)) < 200 * 20_000  # bytes an image, its path included

    listed = []
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path))
    source = open_source(folder, seed=0, device=CPU, workers=2, memory=0.0)
    assert type(source).__name__ == "Streamed"
    start, seen = time.monotonic(), []
    for _ in range(22):  # beyond the end of an epoch
        seen.append(source.draw(BatchShape(1000, 16)))
    pace = 22_000 / (time.monotonic() - start)
    source.close()
    assert not listed and pace > 100, f"{pace:.0f} images a second"
    epoch = torch.cat([batch.images for batch in seen[:20]]).flatten(1)
    assert torch.bincount(torch.cat([batch.labels for batch in seen[:20]])).tolist() == [200] * 100
    assert len(torch.unique(epoch, dim=0)) == 20_000  # each image once


@pytest.mark.slow
def test_a_long_scan_logs_its_progress(many, caplog, monkeypatch):
    from ganrun.data.readers import progress_bar

    monkeypatch.setattr(progress_bar, "PATIENCE", 0.05)
    with caplog.at_level("INFO"):
        build("folder", path=str(many), resolution=16)
    lines = [record.message for record in caplog.records if "looking through the images" in record.message]
    assert lines and all(line.endswith(" of 20000") for line in lines)
