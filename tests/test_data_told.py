"""What a data set tells: everything left out or changed, on screen, in run.log and in explain; and what is measured."""

import io
import os
import socket

import numpy as np
import pytest
import torch
from data_formats import images, write_image
from PIL import Image
from rich.console import Console
from support import composed, tiny
from test_data_folder import build, refusal, some

from ganrun.cli.explain import explain
from ganrun.core.context import BatchShape
from ganrun.core.errors import ConfigError, EnvironmentFailed
from ganrun.data.datasets.base import InMemory
from ganrun.data.datasets.mapped import Negative
from ganrun.data.datasets.unpaired import Unpaired
from ganrun.data.sources.open import open_source
from ganrun.run.session import Session
from ganrun.run.signals import Signals

# ---- what is told


def test_notes_reach_the_screen_run_log_and_explain_once(tmp_path, capsys):
    some(tmp_path / "data", 4, size=(16, 16))
    (tmp_path / "data" / "list.txt").write_text("x")
    cfg = composed(*tiny("dataset=folder", f"dataset.path={tmp_path / 'data'}", "steps=1"))
    screen = Console(file=io.StringIO(), width=200)
    assert Session(signals=Signals(), console=screen).start(cfg, tmp_path / "run", overrides=[]) == 0
    explain(cfg)
    page = capsys.readouterr().out
    for text in (screen.file.getvalue(), (tmp_path / "run" / "run.log").read_text(), page):
        assert text.count("4 images; sizes 4 of 16x16") == 1
        assert text.count("left out, no images by their names: 1 (1 of .txt)") == 1


def test_data_sets_made_of_others_tell_their_notes():
    one = InMemory(images=torch.zeros(4, 1, 4, 4), labels=None, names=(), classes=None)
    one.notes = ["something"]
    assert Negative(dataset=one).notes == ["something"]
    assert Unpaired(a=one, b=Negative(dataset=one)).notes == ["a: something", "b: something"]


def test_frames_pages_and_what_is_changed_are_counted(tmp_path):
    pages = [Image.fromarray(images(1, 16, 16, 3, seed=i)[0]) for i in range(4)]
    for name in ("a.gif", "a.tif", "a.webp", "a.png"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
    pages[0].convert("CMYK").save(tmp_path / "b.jfif", "JPEG")
    pages[0].convert("RGBA").crop((0, 0, 16, 12)).save(tmp_path / "c.png")
    folder = build(tmp_path, resolution=14)
    assert len(folder) == 6
    assert set(folder.notes[1:]) == {
        "left out, frames and pages after the first: 12 in 4 of 6 images",
        "converted from CMYK without a colour profile: 1 of 6 images",
        "with transparency, which shows white: 1 of 6 images",
        "not square: 1 of 6 images, their centre is used (fit=crop)",
        "smaller than 14 pixels and enlarged: 1 of 6 images",
    }


def test_skipped_files_are_told_and_damage_inside_is_found(tmp_path):
    some(tmp_path, 2, size=(16, 16))
    write_image(tmp_path / "z.png", size=(64, 64))
    raw = bytearray((tmp_path / "z.png").read_bytes())
    raw[3000] ^= 255  # header and end are as they should be
    (tmp_path / "z.png").write_bytes(raw)
    folder = build(tmp_path, skip_bad=True)
    assert len(folder) == 2 and folder.notes[-1].startswith(f"left out, damaged: 1 ({tmp_path / 'z.png'} is cut or")


def test_only_regular_files_are_opened(tmp_path):
    some(tmp_path / "data", size=(16, 16))
    os.mkfifo(tmp_path / "data" / "z.png")
    os.mkfifo(tmp_path / "data" / "dataset.json")
    (tmp_path / "data" / "zero.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(tmp_path / "data" / "s.png"))
        folder = build(tmp_path / "data")
    assert len(folder) == 3 and "left out, pipes, sockets and devices: 4" in folder.notes
    assert "z.png is a pipe" in refusal(tmp_path / "data" / "z.png")
    assert "/dev/zero is a device" in refusal("/dev/zero")
    (tmp_path / "data" / "1.png").unlink()
    os.mkfifo(tmp_path / "data" / "1.png")  # since it was listed
    with pytest.raises(ConfigError, match=r"1\.png: cannot be opened \(it is a pipe\)"):
        folder.image(1)


def test_a_file_that_vanishes_keeps_no_run_from_being_saved(tmp_path):
    folder = build(some(tmp_path, size=(16, 16)))
    before = build(tmp_path).fingerprint()
    source = open_source(folder, seed=0, device=torch.device("cpu"), workers=0, memory=0.0)
    (tmp_path / "0.png").unlink()
    with pytest.raises(EnvironmentFailed, match=r"0\.png: cannot be opened \(no such file.*skip_bad=true"):
        source.draw(BatchShape(3, 16))
    assert folder.fingerprint() == before and folder.value_range().high == 1


@pytest.mark.parametrize("path", ["x" * 5000, "a\0b", "x/" * 30 + "y"])
def test_names_that_no_file_can_have(path):
    assert refusal(path).startswith("dataset.path: ") and len(refusal(path)) < 1000


def test_a_relative_path_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert f"nothing is at pics in {tmp_path}" in refusal("pics")


def test_names_that_are_not_utf_8_or_not_printed_are_written_with_escapes(tmp_path):
    odd = tmp_path / os.fsdecode(b"caf\xe9\x1b[31m")
    some(odd, 2, size=(16, 16)), some(tmp_path / "tea", 2, size=(16, 16))
    assert build(tmp_path).classes == (r"caf\xe9\x1b[31m", "tea")
    assert len(build(tmp_path, classes=[r"caf\xe9\x1b[31m"])) == 2
    (odd / "0.png").write_bytes(b"")
    assert r"caf\xe9\x1b[31m/0.png is empty" in refusal(tmp_path)


def test_an_image_is_decoded_by_known_formats_only(tmp_path):
    """EPS would start another program, Ghostscript, with what the file says."""
    some(tmp_path, 1, size=(16, 16))
    head = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\nshowpage\n"
    (tmp_path / "z.png").write_bytes(head)
    Image.open(tmp_path / "z.png").close()  # Pillow would
    assert "z.png is no image (it begins with '%!PS-Adobe-3')" in refusal(tmp_path)


# ---- what is measured


@pytest.mark.parametrize(
    "values, offered",
    [
        (lambda grey: grey.astype(np.uint16) * 16, [0, 4095]),
        (lambda grey: grey // 128, [0, 1]),
        (lambda grey: 100 + grey // 10, [100, 125]),
    ],
)
def test_folders_that_use_little_of_their_range_are_refused_with_a_range_that_works(values, offered, tmp_path):
    for i in range(3):
        grey = images(1, 16, 16, seed=i)[0]
        grey[0, :2] = 0, 255
        Image.fromarray(values(grey)).save(tmp_path / f"{i}.png")
    line = refusal(tmp_path)
    assert line.startswith("dataset.range: not set, and the images are uint")
    assert line.endswith(f"Try: 'dataset.range=[{offered[0]},{offered[1]}]'")
    folder = build(tmp_path, range=offered)
    low, high, _ = folder.value_range()
    found = folder.bulk()[0]
    assert low == -1 and high > 0.99 and int(found.min()) == 0 and int(found.max()) >= 254


def test_a_range_that_does_not_hold_the_values(tmp_path):
    assert "[0,100], but the images have values from 0 to 25" in refusal(some(tmp_path, size=(16, 16)), range=[0, 100])
    Image.fromarray(images(1, 16, 16)[0].astype(np.uint16) * 257).save(tmp_path / "z.png")
    assert "for files of uint16 and uint8 values, expected files of one kind" in refusal(tmp_path, range=[0, 65535])
    assert len(build(tmp_path)) == 4  # each by its own type


def test_a_folder_is_measured_on_some_of_its_files(tmp_path, monkeypatch):
    """Spread over the folder, first and last included; and fewer when they are large."""
    monkeypatch.setattr("ganrun.data.datasets.folder.SAMPLED", 3)
    monkeypatch.setattr("ganrun.data.datasets.folder.FEWEST", 2)
    for i in range(9):
        Image.fromarray(images(1, 16, 16)[0] // (1 if i in (1, 2) else 16)).save(tmp_path / f"{i}.png")
    assert "not set, and 3 of 9 images are uint8 values from 0 to 15" in refusal(tmp_path)
    monkeypatch.setattr("ganrun.data.datasets.folder.PIXELS", 256)
    assert "not set, and 2 of 9 images" in refusal(tmp_path)


def test_portable_maps_and_float_files(tmp_path):
    for i in range(2):
        raw = images(1, 16, 16, seed=i)[0].astype(">u2") * 16
        raw[0, :2] = 0, 4095
        (tmp_path / f"{i}.pgm").write_bytes(b"P5 16 16 4095\n" + raw.tobytes())
    found = build(tmp_path).bulk()[0]
    assert (int(found.min()), int(found.max())) == (0, 255)  # the format says what its greatest value is
    (tmp_path / "f").mkdir()
    grey = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "f" / "a.tif")
    assert refusal(tmp_path / "f").endswith("Try: 'dataset.range=[0,1]'")
    assert torch.equal(build(tmp_path / "f", range=[0, 1]).image(0).flatten(), torch.arange(256).to(torch.uint8))
    grey[3, 3] = np.nan
    Image.fromarray(grey).save(tmp_path / "f" / "a.tif")
    assert "a.tif: has values that are not finite" in refusal(tmp_path / "f", range=[0, 1])


# ---- what is made square


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_images_are_made_square(fit, tmp_path):
    """A tall image, 16x48, whose middle third is white: all of it, with black beside it, or flattened."""
    pixels = np.zeros((48, 16, 3), np.uint8)
    pixels[16:32] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = build(tmp_path, resolution=48, fit=fit).image(0)[0]
    white = found > 127
    height, width = int(white.any(1).sum()), int(white.any(0).sum())
    assert (height, width) == {"crop": (48, 48), "pad": (16, 16), "stretch": (16, 48)}[fit]
    assert "Try: dataset.fit=crop" in refusal(tmp_path, fit="crob")


def test_one_small_image_does_not_decide_the_resolution_that_is_offered(tmp_path):
    some(tmp_path, 20, size=(32, 32)), write_image(tmp_path / "tiny.png", size=(7, 5))
    line = refusal(tmp_path)
    assert "1 of 7x5 pixels, the smallest tiny.png" in line and line.endswith("Try: dataset.resolution=32")
