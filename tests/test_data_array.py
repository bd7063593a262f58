"""Arrays: value ranges, layouts, labels, and files whose headers are wrong."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from data_formats import images

from ganrun.config.instantiate import Maker
from ganrun.core.context import BatchShape
from ganrun.core.errors import ConfigError
from ganrun.data.datasets.array import Array
from ganrun.data.sources.open import open_source
from ganrun.data.transforms.value_range import to_units

KEYS = ("images", "labels", "layout", "range", "channels", "resolution", "classes")
PIXELS = images(6, 3, 16, 16)
UNITS = PIXELS.astype(np.float32) / 127.5 - 1


NODE = {"_target_": "ganrun.data.datasets.array.Array"}


def build(path: Path | None, **settings) -> Array:
    return Maker()({**NODE, **dict.fromkeys(KEYS), "fit": "crop", "path": path and str(path), **settings}, "dataset")


def saved(tmp_path: Path, values: np.ndarray) -> Path:
    np.save(tmp_path / "x.npy", values)
    return tmp_path / "x.npy"


def refusal(path: Path | None, **settings) -> str:
    with pytest.raises(ConfigError) as caught:
        build(path, **settings)
    line = str(caught.value)
    assert "\n" not in line and ": " in line
    return line


def units(dataset: Array) -> np.ndarray:
    source = open_source(dataset, seed=0, device=torch.device("cpu"), workers=0, memory=1.0)
    return to_units(source._fetch(torch.arange(len(dataset)))[0]).numpy()


# ---- shapes


@pytest.mark.parametrize("shape", ["NCHW", "NHWC", "NHW"])
@pytest.mark.parametrize("fortran", [False, True])
def test_layouts_are_found(shape, fortran, tmp_path):
    values = {"NCHW": PIXELS, "NHWC": PIXELS.transpose(0, 2, 3, 1), "NHW": PIXELS[:, 0]}[shape]
    dataset = build(saved(tmp_path, np.asfortranarray(values) if fortran else np.ascontiguousarray(values)))
    expected = PIXELS[:, :1] if shape == "NHW" else PIXELS
    assert np.array_equal(dataset.bulk()[0].numpy(), expected) and dataset.image(0).dtype == torch.uint8
    assert (dataset.channels, dataset.resolution, dataset.classes) == (expected.shape[1], 16, ())


def test_an_ambiguous_layout_is_refused(tmp_path):
    path = saved(tmp_path, images(5, 3, 16, 3))
    assert "dataset.layout: not set, and (5, 3, 16, 3) may be either" in refusal(path)
    assert build(path, layout="NCHW", resolution=3).channels == 3
    assert "dataset.layout: 'HWC'" in refusal(path, layout="HWC")
    grey = saved(tmp_path, images(5, 1, 3, 3))
    assert "may be either" in refusal(grey)
    assert build(grey, channels=1).image(0).shape == (1, 3, 3)


def test_nhwc_given_as_nchw(tmp_path):
    line = refusal(saved(tmp_path, images(5, 16, 16, 3)), layout="NCHW")
    assert line == (
        "dataset.layout: NCHW, so 16 channels in (5, 16, 16, 3), expected 1 or 3 channels. Try: dataset.layout=NHWC"
    )


@pytest.mark.parametrize("shape", [(10,), (10, 2), (2, 3, 3, 16, 16), (0, 3, 16, 16)])
def test_wrong_ranks_and_nothing(shape, tmp_path):
    assert f"an array of shape {shape}, expected images" in refusal(saved(tmp_path, np.ones(shape, np.uint8)))


def test_four_channels(tmp_path):
    assert "neither 16 nor 4 of which are colours" in refusal(saved(tmp_path, images(5, 16, 16, 4)))


def test_oblong_images_need_a_resolution(tmp_path):
    path = saved(tmp_path, images(5, 20, 16, 3))
    assert "images of 20x16 pixels" in refusal(path) and "dataset.resolution=16" in refusal(path)
    dataset = build(path, resolution=8, channels=1)
    assert dataset.image(0).shape == (1, 8, 8) and torch.equal(dataset.bulk()[0][3], dataset.image(3))


# ---- numbers


@pytest.mark.parametrize(
    "values, range",
    [
        (UNITS, None),
        (UNITS.astype(np.float64), None),
        (UNITS.astype(">f4"), None),
        (PIXELS.astype(np.uint16) * 257, None),
        ((PIXELS.astype(np.uint16) * 257).astype(">u2"), None),
        (PIXELS.astype(np.float32), [0, 255]),
        (PIXELS / 255.0, [0, 1]),
        (PIXELS.astype(np.int64), [0, 255]),
        (PIXELS.astype(np.int16) - 128, [-128, 127]),
    ],
)
def test_all_kinds_of_numbers_become_the_same_units(values, range, tmp_path):
    assert np.abs(units(build(saved(tmp_path, values), range=range)) - UNITS).max() < 1e-4


def test_8_bits_stay_8_bits(tmp_path):
    dataset = build(saved(tmp_path, PIXELS))
    assert dataset.bulk()[0].dtype == torch.uint8 and np.abs(units(dataset) - UNITS).max() < 1e-6


@pytest.mark.parametrize(
    "values, likely",
    [
        (PIXELS / 255.0, "[0,1]"),
        (PIXELS.astype(np.float32), "[0,255]"),
        (PIXELS.astype(np.float32) * 10, "[0,4095]"),
        (PIXELS / 50.0 - 2.5, f"[{PIXELS.min() / 50 - 2.5:.6g},{PIXELS.max() / 50 - 2.5:.6g}]"),
        (PIXELS.astype(np.int32), "[0,255]"),
        (PIXELS.astype(np.uint16), "[0,255]"),
        (PIXELS.astype(np.int16) - 128, "[-128,127]"),
        (PIXELS // 128, "[0,1]"),
        (PIXELS // 10, "[0,25]"),
        (PIXELS.astype(np.int16) * 16 - 1024, "[-1024,3056]"),
        (PIXELS > 128, "[0,1]"),
    ],
)
def test_numbers_that_could_mean_two_things_are_refused_with_the_likelier(values, likely, tmp_path):
    line = refusal(saved(tmp_path, values))
    assert line.startswith(f"dataset.range: not set, and the data are {values.dtype} values from ")
    assert f"{values.min():.6g} to {values.max():.6g} (mean {values.mean(dtype=float):.4g})" in line
    assert line.endswith(f"Try: 'dataset.range={likely}'")
    assert build(tmp_path / "x.npy", range=eval(likely)).value_range().high <= 1


def test_one_value_outside_is_noticed(tmp_path):
    values = UNITS.copy()
    values[4, 1, 7, 7] = 1.5
    assert "values from -1 to 1.5" in refusal(saved(tmp_path, values))
    assert "[-1,1], but the data have values from -1 to 1.5" in refusal(tmp_path / "x.npy", range=[-1, 1])


@pytest.mark.parametrize("wanted", [[1, 0], [0], [0, 1, 2]])
def test_ranges_that_are_none(wanted, tmp_path):
    line = refusal(saved(tmp_path, PIXELS), range=wanted)
    assert "expected a low and a high value" in line and line.endswith("'dataset.range=[0,255]'")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite(value, tmp_path):
    values = UNITS.copy()
    values[4, 0, 0, 0] = value
    assert "not finite (image 4 is the first, 1 values" in refusal(saved(tmp_path, values))


def test_constant_complex_text_and_dates(tmp_path):
    assert "every value is 7" in refusal(saved(tmp_path, np.full((4, 3, 8, 8), 7, np.uint8)))
    assert "values of type complex64" in refusal(saved(tmp_path, UNITS.astype(np.complex64)))
    assert "values of type <U1" in refusal(saved(tmp_path, np.full((4, 8, 8), "a")))


# ---- labels


def pack(tmp_path: Path, **arrays: np.ndarray) -> Path:
    np.savez(tmp_path / "x.npz", **arrays)
    return tmp_path / "x.npz"


@pytest.mark.parametrize("compress", [np.savez, np.savez_compressed])
def test_labels_of_an_npz(compress, tmp_path):
    compress(tmp_path / "x.npz", images=PIXELS, labels=np.array([7, 3, 3, 7, 9, 9])[:, None])
    dataset = build(tmp_path / "x.npz")
    assert dataset.classes == ("3", "7", "9") and dataset.labels.tolist() == [1, 0, 0, 1, 2, 2]
    some = build(tmp_path / "x.npz", classes=[9, 3])
    assert some.labels.tolist() == [1, 1, 0, 0] and np.array_equal(some.bulk()[0].numpy(), PIXELS[[1, 2, 4, 5]])


def test_labels_beside_an_npy(tmp_path):
    np.save(tmp_path / "y.npy", np.array(["cat", "dog"] * 3))
    dataset = build(saved(tmp_path, PIXELS), labels=str(tmp_path / "y.npy"))
    assert dataset.classes == ("cat", "dog") and dataset.labels.tolist() == [0, 1] * 3


def test_names_inside_an_npz(tmp_path):
    path = pack(tmp_path, pictures=PIXELS, kinds=np.arange(6))
    assert "dataset.images: " in refusal(path) and "holds pictures, kinds, expected the name of one of them" in refusal(
        path
    )
    assert len(build(path, images="pictures", labels="kinds").classes) == 6
    assert build(path, images="pictures").classes == ()
    assert refusal(path, images="picture").endswith("Try: dataset.images=pictures")
    assert "no array 'labels'" in refusal(path, images="pictures", labels="labels")
    assert build(pack(tmp_path, whatever=PIXELS)).resolution == 16


@pytest.mark.parametrize(
    "labels, found",
    [
        (np.arange(5), "labels of shape (5,) for 6 images"),
        (np.zeros((6, 10)), "labels of shape (6, 10) for 6 images"),
        (np.array(3), "labels of shape () for 6 images"),
        (np.array([0, 1, -1, 0, 1, 1]), "the label -1 of image 2"),
        (np.array([0, 1, 0.5, 0, 1, 1]), "labels of type float64"),
        (np.array([0, 1, np.nan, 0, 1, 1]), "labels of type float64"),
    ],
)
def test_wrong_labels(labels, found, tmp_path):
    assert refusal(pack(tmp_path, images=PIXELS, labels=labels)).startswith(f"dataset.labels: {found}")


# ---- files


def test_no_file(tmp_path):
    saved(tmp_path, PIXELS)
    assert refusal(None).startswith("dataset.path: not set")
    assert refusal(tmp_path / "xx.npy").endswith(f"Try: dataset.path={tmp_path / 'x.npy'}")
    assert "is a folder" in refusal(tmp_path) and "Try: dataset=folder" in refusal(tmp_path)
    assert "dataset.labels: nothing is at" in refusal(tmp_path / "x.npy", labels=str(tmp_path / "gone.npy"))
    assert "x.npy is not an NPZ file" in refusal(tmp_path / "x.npy", images="x")


def test_cut_empty_and_renamed(tmp_path):
    path = saved(tmp_path, PIXELS)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert "the header says uint8 (6, 3, 16, 16), 4,608 bytes, and 4,508 follow" in refusal(path)
    path.write_bytes(whole[:40])
    assert "a damaged header" in refusal(path)
    path.write_bytes(b"")
    assert "x.npy: is empty" in refusal(path)
    path.write_text("1,2,3\n4,5,6\n")
    assert "begins with '1,2,3\\n', expected an array that numpy.save wrote" in refusal(path)


def header(shape: tuple, descr: str = "|u1") -> bytes:
    """The 128 bytes that begin an .npy file."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", 118) + text.ljust(117) + b"\n"


@pytest.mark.parametrize("shape", [(10 * 2**50,), (2**40, 3, 64, 64), (-1, 3, 8, 8)])
def test_a_header_that_states_another_size(shape, tmp_path):
    assert len(header(shape)) == 128
    (tmp_path / "x.npy").write_bytes(header(shape))
    assert "x.npy: the header says uint8" in refusal(tmp_path / "x.npy")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("images.npy", header(shape))
    assert "x.npz[images]: the header says uint8" in refusal(tmp_path / "x.npz")


@pytest.mark.parametrize(
    "shape, descr, found",
    [
        ("(True, 8, 32, 32)", "'|u1'", "expected sides that are whole numbers"),
        ("(2, 8, 8)", "('|u1', (4,))", "values of type ('u1', (4,))"),
        ("(2, 8, 8)", "'|V0'", "values of type |V0"),
        ("(" + "1," * 40 + ")", "'|u1'", "expected sides that are whole numbers"),
        ("(2, 8", "'|u1'", "a damaged header"),
    ],
)
def test_headers_that_no_array_has(shape, descr, found, tmp_path):
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    raw = b"\x93NUMPY\1\0" + struct.pack("<H", len(text) + 1) + text + b"\n" + bytes(8192)
    (tmp_path / "x.npy").write_bytes(raw)
    assert found in refusal(tmp_path / "x.npy")


def test_headers_are_not_evaluated(tmp_path):
    code = f"__import__('pathlib').Path({str(tmp_path / 'it_ran')!r}).touch()"
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({code},), }}".encode()
    raw = b"\x93NUMPY\1\0" + struct.pack("<H", len(text) + 1) + text + b"\n"
    (tmp_path / "x.npy").write_bytes(raw)
    assert "a damaged header" in refusal(tmp_path / "x.npy")
    assert not (tmp_path / "it_ran").exists()


class Payload:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_arrays_of_objects_run_no_code(tmp_path):
    values = np.array([Payload(tmp_path / "it_ran")], dtype=object)
    np.save(tmp_path / "x.npy", values, allow_pickle=True)
    np.load(tmp_path / "x.npy", allow_pickle=True)  # the payload is a real one
    (tmp_path / "it_ran").unlink()
    assert "an array of objects, which could run code" in refusal(tmp_path / "x.npy")
    assert "an array of objects, which could run code" in refusal(pack(tmp_path, images=values))
    assert "an array of objects" in refusal(pack(tmp_path, images=PIXELS, labels=np.repeat(values, 6)))
    assert not (tmp_path / "it_ran").exists()


def test_damaged_archives(tmp_path):
    path = pack(tmp_path, images=PIXELS)
    whole = bytearray(path.read_bytes())
    whole[2000] ^= 1
    path.write_bytes(whole)
    assert "x.npz[images]: cannot be read (Bad CRC" in refusal(path)
    path.write_bytes(whole[:-200])
    assert "x.npz: " in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing")
    assert "holds no arrays" in refusal(path)
    file = io.BytesIO()
    np.save(file, PIXELS)
    path.write_bytes(file.getvalue())  # an .npy under the other name is an array all the same
    assert len(build(path)) == 6


def test_a_file_that_is_cut_while_it_is_read_does_not_kill_the_process(tmp_path):
    dataset = build(saved(tmp_path, images(6, 3, 64, 64)))
    with (tmp_path / "x.npy").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(ConfigError, match=r"x\.npy: cut to 100 of 73,856 bytes while it is read"):
        dataset.image(5)


def test_resident_and_streamed_arrays_agree(tmp_path):
    dataset = build(pack(tmp_path, images=UNITS, labels=np.arange(6) % 2), resolution=8)
    first, second = (open_source(dataset, seed=1, device=torch.device("cpu"), workers=1, memory=m) for m in (1.0, 0.0))
    for _ in range(3):
        a, b = first.draw(BatchShape(4, 8)), second.draw(BatchShape(4, 8))
        assert torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)
    second.close()
