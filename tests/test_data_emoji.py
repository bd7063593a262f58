"""Emoji: npm's archive in its real layout, read in one pass, and what is refused of it."""

import gzip
import tarfile

import pytest
from data_formats import write_emoji
from test_data_sets import build, refusal

from ganrun.data.readers import tar_file

FETCH = "npm pack emoji-datasource-google@16.0.0"


def member(name: str, kind: bytes = tarfile.REGTYPE, **settings) -> tarfile.TarInfo:
    found = tarfile.TarInfo(f"package/{name}")
    found.type = kind
    for key, value in settings.items():
        setattr(found, key, value)
    return found


def test_pictures_are_on_white_in_the_order_of_the_list(tmp_path):
    """With its skin colours behind an emoji; what Google has no picture of is left out."""
    odd = (member("img/google/64/c.png", tarfile.SYMTYPE, linkname="/etc/passwd"), member("x", tarfile.FIFOTYPE))
    path = str(write_emoji(tmp_path / "e.tgz", extra=odd))
    emoji = build("emoji", path=path)
    assert emoji.images.shape == (3, 3, 64, 64) and emoji.classes == ("food_and_drink", "people_and_body")
    assert emoji.captions == ["waving hand sign", "waving hand sign, light skin", "slice of pizza"]
    assert emoji.labels.tolist() == [1, 1, 0]
    inside, edge = emoji.images[:, :, 16:48, 16:48], emoji.images[:, :, :16]
    assert inside.flatten(2).unique(dim=2).squeeze(2).tolist() == [[200, 0, 0], [200, 10, 0], [200, 20, 0]]
    assert (edge == 255).all()
    food = build("emoji", path=path, classes=["food_and_drink"], resolution=16, channels=1)
    assert food.captions == ["slice of pizza"] and food.labels.tolist() == [0] and food.image(0).shape == (1, 16, 16)
    assert [file.name for file in tmp_path.iterdir()] == ["e.tgz"]  # nothing is unpacked


@pytest.mark.parametrize(
    "files, words",
    [
        ({"emoji": None}, "has no package/emoji.json with pictures"),
        ({"emoji": b"[]"}, "has no package/emoji.json with pictures"),
        ({"emoji": b'[{"name": "x"}]'}, "[package/emoji.json]: is no list of emoji (KeyError: 'category')"),
        ({"emoji": b"[" * 100_000}, "[package/emoji.json]: is no list of emoji (RecursionError"),
        ({"b": None}, "has no package/img/google/64/b.png"),
        ({"b": b"<html>"}, "[package/img/google/64/b.png]: is no image"),
    ],
)
def test_another_content_is_one_line(files, words, tmp_path):
    line = refusal("emoji", path=str(write_emoji(tmp_path / "e.tgz", **files)))
    assert words in line and line.endswith(f"Try: {FETCH}")


def test_what_is_no_whole_archive_is_one_line(tmp_path):
    assert refusal("emoji").endswith(f"Try: {FETCH}, and dataset.path=emoji-datasource-google-16.0.0.tgz")
    assert "is a folder" in refusal("emoji", path=str(tmp_path))
    path = write_emoji(tmp_path / "e.tgz")
    assert "dataset.resolution: 8, expected 16 to 64" in refusal("emoji", path=str(path), resolution=8)
    assert "dataset.resolution: 128, expected at most 64" in refusal("emoji", path=str(path), resolution=128)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:-8] + bytes(4) + whole[-4:], b"", b"PK\3\4"):
        path.write_bytes(damaged)
        line = refusal("emoji", path=str(path))
        assert line.startswith("dataset.path: ") and "cannot be read (" in line, line


def with_holes(name: str, size: int) -> bytes:
    """The header of a sparse file in GNU's format that has no data and says this size."""
    header = bytearray(member(name, tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"%011o\0" % size
    header[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(header))[0]
    return bytes(header)


def test_no_archive_fills_the_memory(tmp_path, monkeypatch):
    """Neither by what it unpacks to, nor by what a member or a header says of itself, nor by a file of holes."""
    monkeypatch.setattr(tar_file, "MOST", 1 << 20)
    path, picture = tmp_path / "e.tgz", "img/google/64/b.png"
    whole = gzip.decompress(write_emoji(path).read_bytes())
    assert len(build("emoji", path=str(path))) == 3
    large = [member(picture, size=1 << 50), member("x", tarfile.XHDTYPE, size=1 << 50)]
    for more, words in [
        (bytes(2 << 20), "more than 1,048,576 bytes, unpacked"),
        (large[0].tobuf(tarfile.GNU_FORMAT), f"package/{picture} says {1 << 50:,} bytes"),
        (large[1].tobuf(tarfile.GNU_FORMAT) + bytes(2 << 20), "more than 1,048,576 bytes, unpacked"),
    ]:
        path.write_bytes(gzip.compress(more + whole if more.strip(b"\0") else whole + more))
        assert words in refusal("emoji", path=str(path))
    path = write_emoji(tmp_path / "holes.tgz", b=None)
    path.write_bytes(gzip.compress(with_holes(picture, 1 << 32) + gzip.decompress(path.read_bytes())))
    assert f"has no package/{picture}" in refusal("emoji", path=str(path))
