"""Labels in files beside the images, ZIP archives, files of one array each, and HDF5."""

import io
import json
import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from data_formats import images
from PIL import Image
from support import built
from test_data_array import build as build_array
from test_data_array import refusal as refusal_of_array
from test_data_folder import build, refusal, some

from ganrun.core.context import BatchShape
from ganrun.core.errors import ConfigError
from ganrun.data.sources.open import open_source


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(images(1, 16, 16, 3, seed=seed)[0]).save(file, "PNG")
    return file.getvalue()


def archive(path: Path, members: dict[str, bytes], packed: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", packed) as file:
        for name, raw in members.items():
            file.writestr(name, raw)
    return path


# ---- files of labels


def test_labels_of_stylegans_tools(tmp_path):
    some(tmp_path / "00000", 4, size=(16, 16))
    labels = [[f"00000/{i}.png", [6, 2, 6, 10][i]] for i in range(4)]
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    folder = build(tmp_path)
    assert folder.classes == ("2", "6", "10") and folder.labels.tolist() == [1, 0, 1, 2]
    assert folder.notes[1:] == ["labels from dataset.json"]
    assert build(tmp_path, labels=False).classes == ()
    (tmp_path / "dataset.json").write_text('{"labels": null}')
    folder = build(tmp_path)  # its folders are parts of one set, no classes
    assert folder.classes == () and folder.notes[1:] == ["dataset.json says that there are no labels"]
    assert "true, but dataset.json says that there are no labels" in refusal(tmp_path, labels=True)


@pytest.mark.parametrize("model", ["cgan", "projection"])
def test_one_class_is_nothing_to_condition_on(model, tmp_path):
    some(tmp_path / "00000", 4, size=(16, 16), mode="L")
    with pytest.raises(ConfigError, match=r"\.classes: 1, as all images are of the class 00000, expected 2 or more"):
        built("dataset=folder", f"dataset.path={tmp_path}", "dataset.resolution=16", model=model)


@pytest.mark.parametrize(
    "text, found",
    [
        ('{"labels": [["0.png", 1]]}', "2 of 3 images have no label in"),
        ('{"labels": [["0.png", [0.1, 2]], ["1.png", [1, 2]], ["2.png", [1, 2]]]}', "a label [0.1, 2] in"),
        ('{"labels": [["0.png", 1], ["0.png", 2]]}', "names 0.png twice"),
        ('{"labels": [["0.p', "cannot be read (JSONDecodeError"),
        ('{"labels": [[["a"], 1]]}', "cannot be read (TypeError"),
        ('{"labels": 5}', "cannot be read (TypeError"),
        ("[1, 2]", "cannot be read (TypeError"),
        ("[" * 100_000, "cannot be read (RecursionError"),
        ("\udce9", "is no text in UTF-8"),
    ],
)
def test_what_is_no_file_of_labels(text, found, tmp_path):
    some(tmp_path, size=(16, 16))
    (tmp_path / "dataset.json").write_text(text, errors="surrogateescape")
    line = refusal(tmp_path)
    assert line.startswith("dataset.labels: ") and found in line and "or dataset.labels=false" in line
    assert len(build(tmp_path, labels=False)) == 3


@pytest.mark.parametrize(
    "text, classes",
    [
        ("0.png,cat\n1.png,dog\n2.png,cat\n", ("cat", "dog")),
        ("\ufefffile,label\n0.png,10\n1.png,9\n2.png,10\n", ("9", "10")),
        ("label;other;filename\ncat;1;0.png\ndog;2;1.png\ncat;3;2.png\n", ("cat", "dog")),
        ("id\tbreed\n0\tcat\n1\tdog\n2\tcat\n", ("cat", "dog")),
    ],
)
def test_tables_of_labels(text, classes, tmp_path):
    some(tmp_path, size=(16, 16))
    (tmp_path / "labels.csv").write_text(text)
    folder = build(tmp_path)
    assert folder.classes == classes and len(folder.labels.unique()) == 2
    assert folder.labels[0] == folder.labels[2] != folder.labels[1]
    (tmp_path / "labels.csv").rename(tmp_path / "mine.csv")
    assert build(tmp_path).classes == () and build(tmp_path, labels="mine.csv").classes == classes


@pytest.mark.parametrize(
    "text, found",
    [
        ("0.png,1\n1.png,2\n", "1 of 3 images have no label in"),
        ("0.png,1\n0.png,2\n1.png,1\n2.png,1\n", "has two labels for 0.png"),
        ("0.png,1\n1.png\n", "has no label, expected a name and a label"),
        ("a,b,c\n0.png,1,2\n", "has the columns a, b, c, expected the titles"),
        ('"0.png,1\n', "cannot be read (unexpected end of data)"),
        ("", "has the columns none"),
    ],
)
def test_tables_that_are_none(text, found, tmp_path):
    some(tmp_path, size=(16, 16))
    (tmp_path / "labels.csv").write_text(text)
    assert found in refusal(tmp_path) and "or dataset.labels=false" in refusal(tmp_path)


# ---- archives


def test_an_archive_is_read_as_the_folder_that_it_holds(tmp_path):
    """As dataset_tool.py writes it; streamed through forked workers too, which must not share a position."""
    members = {f"00000/img{i:08d}.png": png(i) for i in range(8)}
    labels = {"labels": [[name, i % 2] for i, name in enumerate(members)]}
    data = build(archive(tmp_path / "x.zip", members | {"dataset.json": json.dumps(labels).encode()}))
    assert data.labels.tolist() == [0, 1] * 4 and pickle.loads(pickle.dumps(data)).fingerprint() == data.fingerprint()
    assert torch.equal(data.image(3), torch.from_numpy(images(1, 16, 16, 3, seed=3)[0]).permute(2, 0, 1))
    cpu = torch.device("cpu")
    first, second = (open_source(data, seed=0, device=cpu, workers=2, memory=m) for m in (1.0, 0.0))
    for _ in range(4):
        a, b = first.draw(BatchShape(4, 16)), second.draw(BatchShape(4, 16))
        assert torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)
    second.close()


def test_a_folder_around_all_of_an_archive_is_no_class(tmp_path):
    members = {f"pets/{name}/{i}.png": png(i) for i in range(2) for name in ("cat", "dog")}
    members |= {"__MACOSX/pets/._0.png": b"x", "pets/more.zip": b"PK\3\4", "../../up.png": png(9)}
    data = build(archive(tmp_path / "x.zip", members, zipfile.ZIP_DEFLATED))
    assert data.classes == ("cat", "dog") and len(data) == 4
    assert set(data.notes[1:]) == {
        "left out, no images by their names: 1 (1 of .zip)",
        "left out, hidden files and folders: 2",
    }
    assert build(archive(tmp_path / "y.zip", {f"one/{i}.png": png(i) for i in range(2)})).classes == ()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_that_are_damaged_or_worse(tmp_path):
    path = archive(tmp_path / "x.zip", {"a.png": png(0), "b.png": png(1)})
    whole = path.read_bytes()
    directory = whole.find(b"PK\1\2")
    for position, value, found in (
        (300, whole[300] ^ 1, "Bad CRC-32"),
        (directory + 8, 1, "x.zip[a.png] is encrypted"),
        (directory + 10, 97, "compression method is not supported"),
    ):
        path.write_bytes(whole[:position] + bytes([value]) + whole[position + 1 :])
        assert found in refusal(path) and len(build(path, skip_bad=True)) == 1
    path.write_bytes(whole[:-30])
    assert "x.zip cannot be read (File is not a zip file), expected a whole ZIP or tar archive" in refusal(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as file:
        file.writestr("a.png", png(0)), file.writestr("z.png", bytes(20_000_000))
    assert "x.zip[z.png] says 20,000,000 bytes for " in refusal(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.png", png(0)), file.writestr("a.png", png(1)), file.writestr("b.png", png(2))
    assert "left out, files of a name that comes again: 1" in build(path).notes


# ---- arrays


@pytest.mark.parametrize(
    "value",
    [
        images(1, 16, 16)[0],
        images(1, 16, 16, 3)[0],
        np.asfortranarray(images(1, 1, 3, 16, 16)[0]),
        (images(1, 3, 16, 16)[0] / 127.5 - 1).astype(">f4"),
        images(1, 16, 16, 1)[0].astype(">u2") * np.uint16(257),
    ],
)
def test_a_folder_of_arrays_of_one_image_each(value, tmp_path):
    np.save(tmp_path / "a.npy", value)
    pixels = torch.from_numpy(images(1, *value.shape)[0].squeeze())
    expected = pixels.permute(2, 0, 1) if pixels.shape[-1] == 3 else pixels.reshape(-1, 16, 16)
    assert torch.equal(build(tmp_path).image(0), expected) and build(tmp_path).channels == len(expected)


def test_files_of_arrays_that_are_no_images(tmp_path):
    some(tmp_path, 2, size=(16, 16))
    for value, found in (
        (images(5, 3, 16, 16), "which is no single image"),
        (images(1, 3, 16, 3)[0], "may have its colours first or last"),
        (np.array(3), "which is no single image"),
        (np.array([{}]), "an array of objects, which could run code"),
        (np.zeros((16, 16), [("a", "u1")]), "values of type [('a', 'u1')]"),
        (np.zeros((16, 16), complex), "values of type complex128"),
        (np.zeros((16, 16), np.float32), "has float32 values, unlike the others"),
    ):
        np.save(tmp_path / "z.npy", value, allow_pickle=True)
        assert found in refusal(tmp_path), found
        assert len(build(tmp_path, skip_bad=True)) == 2


def test_which_labels_belong_to_which_images(tmp_path):
    path = tmp_path / "x.npz"
    pixels = images(6, 16, 16)
    np.savez(path, x_train=pixels, y_train=np.arange(6) % 2, x_test=pixels, y_test=np.arange(6) % 3)
    data = build_array(path)
    assert data.labels.tolist() == [0, 1] * 3
    assert data.notes == ["images from x_train, labels from y_train; left out: x_test, y_test"]
    assert build_array(path, images="x_test").labels.tolist() == [0, 1, 2] * 2
    assert build_array(path, labels=False).labels is None and build_array(path, labels=True).labels is not None
    np.savez(path, x_train=pixels)
    assert "no labels of x_train in " in refusal_of_array(path, labels=True)


def test_one_hot_labels_are_classes_and_others_say_what_to_do(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, images=images(6, 16, 16), labels=np.eye(10)[[3, 1, 3, 9, 1, 3]])
    data = build_array(path)
    assert data.classes == ("1", "3", "9") and data.labels.tolist() == [1, 0, 1, 2, 0, 1]
    assert data.notes == ["one-hot labels of 10 numbers are read as classes"]
    np.savez(path, images=images(6, 16, 16), labels=np.random.default_rng(0).random((6, 10)))
    assert "numpy.argmax(labels, axis=1)" in refusal_of_array(path)


def test_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "x.h5"
    pixels = images(6, 16, 16, 3)
    with h5py.File(path, "w") as file:
        file["train/images"], file["train/labels"] = pixels, ["cat", "dog"] * 3
        file["test/images"] = pixels
    assert "holds test/images, train/images, train/labels" in refusal_of_array(path)
    data = build_array(path, images="train/images")
    assert data.classes == ("cat", "dog") and np.array_equal(data.bulk()[0].numpy(), pixels.transpose(0, 3, 1, 2))
    assert "Try: dataset=array dataset.path=" in refusal(path)
    (tmp_path / "raw").write_bytes(bytes(8192))
    for settings, found in (
        ({"shape": (10**9, 64, 64, 3), "dtype": "u1", "chunks": (1, 64, 64, 3)}, "and 0 are stored"),
        ({"shape": (8, 32, 32), "dtype": "u1", "external": [(str(tmp_path / "raw"), 0, 8192)]}, "in other files"),
        ({"data": np.zeros((8, 4, 4), [("a", "u1")])}, "values of type [('a', 'u1')]"),
    ):
        with h5py.File(path, "w") as file:
            file.create_dataset("images", **settings)
        assert found in refusal_of_array(path)
    path.write_bytes(path.read_bytes()[:900])
    assert "x.h5: cannot be read (" in refusal_of_array(path)


def test_hdf5_without_h5py_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)  # importing it fails, as where it is not installed
    (tmp_path / "x.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert refusal_of_array(tmp_path / "x.h5").endswith(
        "is not installed, expected the package h5py. Try: pip install h5py"
    )
