"""A folder of images: every mode, every kind of damage, classes, links."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from data_formats import bomb, images, write_image
from PIL import Image

from ganrun.config.instantiate import Maker
from ganrun.core.context import BatchShape
from ganrun.core.errors import ConfigError
from ganrun.data.datasets.folder import Folder
from ganrun.data.sources.open import open_source

NODE = {"_target_": "ganrun.data.datasets.folder.Folder"}
SETTINGS = {
    "labels": None,
    "skip_bad": False,
    "range": None,
    "fit": "crop",
    "channels": None,
    "resolution": None,
    "classes": None,
}


def build(path: Path | str | None, **settings) -> Folder:
    return Maker()({**NODE, **SETTINGS, "path": path and str(path), **settings}, "dataset")


def refusal(path: Path | str | None, **settings) -> str:
    with pytest.raises(ConfigError) as caught:
        build(path, **settings)
    line = str(caught.value)
    assert "\n" not in line and ": " in line
    return line


def some(folder: Path, count: int = 3, **options) -> Path:
    for i in range(count):
        write_image(folder / f"{i}.png", seed=i, **options)
    return folder


def bad_among(tmp_path: Path, name: str, content: bytes) -> str:
    """The refusal of one bad file among two good ones."""
    some(tmp_path, 2, size=(16, 16))
    (tmp_path / name).write_bytes(content)
    line = refusal(tmp_path)
    assert f"1 of 3 files: {tmp_path / name} " in line and "dataset.skip_bad=true" in line
    assert len(build(tmp_path, skip_bad=True)) == 2
    return line


def encoded(format: str, size=(32, 32)) -> bytes:
    file = io.BytesIO()
    Image.fromarray(images(1, *size, 3)[0]).save(file, format)
    return file.getvalue()


# ---- what is read


def test_flat_folders_are_unlabelled_and_pixels_are_exact(tmp_path):
    folder = build(some(tmp_path, size=(16, 16)))
    assert (len(folder), folder.channels, folder.resolution, folder.classes) == (3, 3, 16, ())
    assert torch.equal(folder.image(1), torch.from_numpy(images(1, 16, 16, 3, seed=1)[0]).permute(2, 0, 1))


def test_class_folders_are_labels_and_are_in_the_summary(tmp_path):
    some(tmp_path / "dog", 2, size=(16, 16)), some(tmp_path / "cat" / "indoors", 3, size=(16, 16), mode="L")
    folder = build(tmp_path)
    assert folder.classes == ("cat", "dog") and folder.labels.tolist() == [0, 0, 0, 1, 1] and folder.channels == 3
    assert folder.notes == ["5 images; sizes 5 of 16x16; modes 3 of L, 2 of RGB; classes cat 3, dog 2"]
    assert build(tmp_path, labels=False).classes == () and len(build(tmp_path, labels=False)) == 5
    dogs = build(tmp_path, classes=["dog"])
    assert dogs.classes == ("dog",) and len(dogs) == 2
    assert "Try: 'dataset.classes=[dog]'" in refusal(tmp_path, classes=["dgo"])


def test_hidden_files_and_folders_are_not_data(tmp_path):
    some(tmp_path / "cat", size=(16, 16)), some(tmp_path / "dog", size=(16, 16))
    (tmp_path / "cat" / "._0.png").write_bytes(b"\0\5\x16\7")
    (tmp_path / "cat" / "Thumbs.db").write_bytes(b"x")
    some(tmp_path / ".ipynb_checkpoints", size=(16, 16)), some(tmp_path / "__MACOSX", size=(16, 16))
    (tmp_path / "empty").mkdir()
    folder = build(tmp_path)
    assert folder.classes == ("cat", "dog") and len(folder) == 6
    assert folder.notes[1:] == [
        "left out, no images by their names: 1 (1 of .db)",
        "left out, hidden files and folders: 3",
        "folders without images: empty",
    ]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_mode_is_read_at_its_own_brightness(mode, tmp_path):
    """A picture of two greys, 51 and 204, keeps them whatever it is stored as."""
    grey = np.repeat([51, 204], 8 * 16).reshape(16, 16).astype(np.uint8)
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(grey > 128) if mode == "1" else Image.fromarray(grey).convert("RGB").convert(mode)
    image.save(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"))
    expected = [0, 255] if mode == "1" else [51, 204]
    for channels in (1, 3):
        found = build(tmp_path, channels=channels).image(0)
        assert found.shape == (channels, 16, 16) and found.dtype == torch.uint8
        assert [int(found[0, 0, 0]), int(found[-1, -1, -1])] == pytest.approx(expected, abs=1)
    assert build(tmp_path).channels == (1 if mode in ("1", "L", "LA", "I;16") else 3)


def test_16_bit_grey_among_colour_does_not_turn_white(tmp_path):
    some(tmp_path, 1, size=(16, 16))
    ramp = np.linspace(0, 65535, 256).reshape(16, 16).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "z.png")
    found = build(tmp_path).image(1)
    assert found.shape == (3, 16, 16) and torch.equal(found[0].flatten(), torch.arange(256).to(torch.uint8))


def test_what_is_transparent_shows_white(tmp_path):
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[:8, :, 3] = 255  # black above, nothing below
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = build(tmp_path).image(0)
    assert int(found[:, :8].max()) == 0 and int(found[:, 8:].min()) == 255


def test_photographs_are_turned_upright(tmp_path):
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, 8:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: what is right comes below
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    found = build(tmp_path).image(0)
    assert int(found[:, :8].max()) == 0 and int(found[:, 8:].min()) == 255


def test_the_centre_square_is_taken_and_resized(tmp_path):
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    some(tmp_path, 1)
    folder = build(tmp_path, resolution=16)
    assert int(folder.image(1).min()) > 190 and folder.image(0).shape == (3, 16, 16)
    assert "smaller than 32 pixels and enlarged: 1 of 2 images" in build(tmp_path, resolution=32).notes
    assert "not square: 2 of 2 images, their centre is used (fit=crop)" in folder.notes


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    frames[0].putpixel((0, 0), (0, 255, 0))
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert build(tmp_path).image(0)[:, 8, 8].tolist() == [255, 0, 0]


def test_a_linked_file_and_folder_are_followed(tmp_path):
    some(tmp_path / "elsewhere", 2, size=(16, 16))
    (tmp_path / "data" / "cat").mkdir(parents=True)
    (tmp_path / "data" / "cat" / "a.png").symlink_to(tmp_path / "elsewhere" / "0.png")
    (tmp_path / "data" / "dog").symlink_to(tmp_path / "elsewhere")
    assert build(tmp_path / "data").labels.tolist() == [0, 1, 1]


def test_resident_and_streamed_folders_agree(tmp_path):
    some(tmp_path / "a", 5), some(tmp_path / "b", 4, size=(33, 50))
    folder = build(tmp_path, resolution=16)
    cpu = torch.device("cpu")
    first, second = (open_source(folder, seed=0, device=cpu, workers=2, memory=m) for m in (1.0, 0.0))
    for _ in range(4):
        a, b = first.draw(BatchShape(4, 16)), second.draw(BatchShape(4, 16))
        assert torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)
    second.close()


# ---- what is refused: files


@pytest.mark.parametrize("format, name", [("JPEG", "z.jpg"), ("PNG", "z.png"), ("WEBP", "z.webp"), ("TIFF", "z.tif")])
def test_a_cut_file_is_found_at_the_start(format, name, tmp_path):
    whole = encoded(format)
    assert f"{name} is cut or damaged" in bad_among(tmp_path, name, whole[: len(whole) * 2 // 3])


def test_bytes_after_the_end_do_no_harm(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded("JPEG") + b"\0" * 100)
    assert len(build(tmp_path)) == 1


def test_an_empty_file(tmp_path):
    assert "z.png is empty" in bad_among(tmp_path, "z.png", b"")


def test_a_page_named_jpg(tmp_path):
    assert "z.jpg is no image (it begins with '<!doctype ht')" in bad_among(tmp_path, "z.jpg", b"<!doctype html><p>404")


def test_random_bytes(tmp_path):
    assert "z.jpg is no image" in bad_among(tmp_path, "z.jpg", images(1, 500).tobytes())


def test_a_float_tiff(tmp_path):
    file = io.BytesIO()
    Image.fromarray(np.random.rand(16, 16).astype(np.float32)).save(file, "TIFF")
    assert "z.tif has float32 values, unlike the others" in bad_among(tmp_path, "z.tif", file.getvalue())


def test_a_single_pixel(tmp_path):
    assert "z.png is 1x1 pixels" in bad_among(tmp_path, "z.png", encoded("PNG", (1, 1)))


@pytest.mark.parametrize("side, megapixels", [(9500, "90"), (6000, "36"), (60_000, "3600")])
def test_a_decompression_bomb_is_not_decoded(side, megapixels, tmp_path):
    bomb(tmp_path / "bomb.png", side)
    line = bad_among(tmp_path, "z.png", (tmp_path / "bomb.png").rename(tmp_path.parent / "bomb.png").read_bytes())
    assert "a decompression bomb" in line and (megapixels in line or "far too many" in line)


def test_the_first_bad_files_are_listed_and_the_rest_counted(tmp_path):
    some(tmp_path, 2, size=(16, 16))
    for i in range(8):
        (tmp_path / f"bad_{i}.png").write_bytes(b"")
    line = refusal(tmp_path)
    assert "8 of 10 files" in line and line.count("is empty") == 5 and "and 3 more" in line
    for i in range(2):
        (tmp_path / f"{i}.png").unlink()
    assert "8 of 8 files" in refusal(tmp_path, skip_bad=True)


def test_a_link_to_nothing_or_to_itself(tmp_path):
    some(tmp_path, 1, size=(16, 16))
    (tmp_path / "y.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "z.png").symlink_to(tmp_path / "z.png")
    line = refusal(tmp_path)
    assert "y.png cannot be opened (no such file" in line and "z.png cannot be opened (too many levels" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file(tmp_path):
    some(tmp_path, 2, size=(16, 16))
    (tmp_path / "0.png").chmod(0)
    assert "0.png cannot be opened (permission denied)" in refusal(tmp_path)


def test_a_file_that_breaks_later_is_one_line(tmp_path):
    folder = build(some(tmp_path, size=(16, 16)))
    (tmp_path / "1.png").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"1\.png: is empty, expected a whole image"):
        folder.bulk()


# ---- what is refused: folders


def test_no_folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    expected = "expected a folder of images, or ZIP or tar archives of them"
    assert refusal(None).startswith(f"dataset.path: not set, {expected}")
    assert refusal(tmp_path / "picture").endswith(f"Try: dataset.path={tmp_path / 'pictures'}")
    assert f"no images in {tmp_path / 'pictures'}" in refusal(tmp_path / "pictures")
    (tmp_path / "pictures" / "list.csv").write_text("a")
    assert "(1 other files)" in refusal(tmp_path / "pictures")
    assert "is a file, expected a folder" in refusal(tmp_path / "pictures" / "list.csv")
    np.save(tmp_path / "x.npy", np.zeros(3))
    assert "Try: dataset=array" in refusal(tmp_path / "x.npy")


def test_flat_files_where_classes_are_required(tmp_path):
    assert "3 files and no class folders" in refusal(some(tmp_path), labels=True)


def test_files_beside_class_folders(tmp_path):
    some(tmp_path, 2), some(tmp_path / "cat", 1)
    assert "2 images beside 1 class folders" in refusal(tmp_path)
    assert len(build(tmp_path, labels=False, resolution=16)) == 3


def test_splits_are_not_classes(tmp_path):
    some(tmp_path / "train" / "cat"), some(tmp_path / "test" / "cat")
    line = refusal(tmp_path)
    assert "test, train are parts of a data set, expected class folders" in line and "adding /train" in line


def test_a_loop_of_links(tmp_path):
    some(tmp_path / "cat")
    (tmp_path / "cat" / "back").symlink_to(tmp_path)
    assert "a loop of links" in refusal(tmp_path) and "deleting the link back" in refusal(tmp_path)


def test_sizes_without_a_policy(tmp_path):
    some(tmp_path, 2, size=(40, 40)), write_image(tmp_path / "z.png", size=(64, 48))
    line = refusal(tmp_path)
    assert line.startswith("dataset.resolution: images of 2 of 40x40, 1 of 64x48 pixels")
    assert line.endswith("Try: dataset.resolution=32")
    assert build(tmp_path, resolution=32).resolution == 32


def test_images_of_one_value(tmp_path):
    Image.new("RGB", (16, 16), "grey").save(tmp_path / "a.png")
    assert "every pixel has the same value" in refusal(tmp_path)
