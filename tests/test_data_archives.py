"""ZIP and tar archives, one or many, as one data set: against zipfile, tarfile and the same files in a folder."""

import io
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from data_formats import write_image
from test_data_folder import build, refusal
from test_data_labels import png
from test_data_sets import build as build_by_name

from ganrun.core.context import BatchShape
from ganrun.core.errors import ConfigError
from ganrun.core.ranks import Rank
from ganrun.data.datasets import folder
from ganrun.data.readers.archive_members import kind_of, members
from ganrun.data.readers.archives import Archives
from ganrun.data.readers.headers import read_headers
from ganrun.data.readers.open_root import open_root
from ganrun.data.sources.open import open_source

LONG = "a_folder_of_a_long_name/" * 6 + "picture.png"  # above the 100 bytes of a header
CPU = torch.device("cpu")


def tar(path: Path, files: dict[str, bytes], form: int = tarfile.USTAR_FORMAT, time: float = 0) -> Path:
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), time
            archive.addfile(entry, io.BytesIO(content))
    return path


def shards(folder: Path, count: int = 3, each: int = 8) -> Path:
    """Archives as WebDataset's: a key for each image, its label beside it."""
    folder.mkdir()
    for shard in range(count):
        numbers = range(shard * each, (shard + 1) * each)
        files = {f"{i:06d}.png": png(i) for i in numbers} | {f"{i:06d}.cls": b"%d" % (i % 3) for i in numbers}
        tar(folder / f"train-{shard:05d}.tar", files, tarfile.PAX_FORMAT, time=1.5)
    return folder


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["a.png", "x/y/z.png", "./å ñ.png", LONG], ids=["plain", "deep", "accents", "long"])
@pytest.mark.parametrize("time", [0, 1.5], ids=["whole seconds", "parts of seconds"])
def test_places_in_a_tar_archive_are_those_of_tarfile(form, name, time, tmp_path):
    path = tar(tmp_path / "x.tar", {"first.png": b"1" * 700, name: b"content", "last.png": b""}, form, time)
    with path.open("rb") as file, tarfile.open(path) as known:
        assert kind_of(file) == "tar"
        found = [(one.name, one.offset, one.size) for one in members(file, "tar")]
        assert found == [(one.name, one.offset_data, one.size) for one in known] and len(found) == 3


def test_links_and_devices_of_a_tar_archive_are_left_away(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for kind, name in ((tarfile.SYMTYPE, "a.png"), (tarfile.LNKTYPE, "b.png"), (tarfile.FIFOTYPE, "c.png")):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
        entry = tarfile.TarInfo("d.png")
        entry.size = len(png(0))
        archive.addfile(entry, io.BytesIO(png(0)))
    root = open_root(str(tmp_path / "x.tar"))
    assert root.listing().names == ["d.png"] and not root.holds("a.png")
    assert root.open("d.png").read() == png(0)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_files_of_a_zip_archive_are_those_of_zipfile(method, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as archive:
        for i in range(5):
            entry = zipfile.ZipInfo(f"in/{i}.png")
            entry.extra, entry.compress_type = b"\1\2\2\0ab" * i, method  # fields that lie before the content
            archive.writestr(entry, png(i) * (i + 1))
    root = open_root(str(tmp_path / "x.zip"))
    with zipfile.ZipFile(tmp_path / "x.zip") as known:
        assert root.listing().names == [f"{i}.png" for i in range(5)]
        assert all(root.open(f"{i}.png").read() == known.read(f"in/{i}.png") for i in range(5))


def test_shards_are_one_data_set(tmp_path):
    """With labels beside images, for any reader: resident, streamed by workers, copied, and two processes together."""
    path = shards(tmp_path / "shards")
    data = build(path)
    assert len(data) == 24 and data.classes == ("0", "1", "2") and data.labels.tolist() == [0, 1, 2] * 8
    assert data.notes[1:] == ["labels from NAME.cls beside each image"]
    for one in path.iterdir():
        with tarfile.open(one) as archive:
            archive.extractall(tmp_path / "unpacked", filter="data")
    same = build(tmp_path / "unpacked")
    assert same.fingerprint() == data.fingerprint() == pickle.loads(pickle.dumps(data)).fingerprint()
    resident = open_source(data, seed=0, device=CPU, workers=0, memory=1.0)
    ranks = [open_source(data, seed=0, device=CPU, workers=2, memory=0.0, rank=Rank(n, 2)) for n in range(2)]
    for _ in range(5):
        whole = resident.draw(BatchShape(8, 16))
        parts = [source.draw(BatchShape(4, 16)) for source in ranks]
        assert torch.equal(whole.images, torch.cat([part.images for part in parts]))
        assert torch.equal(whole.labels, torch.cat([part.labels for part in parts]))
    for source in ranks:
        source.close()


def test_a_pattern_names_some_of_the_shards(tmp_path):
    shards(tmp_path / "shards")
    assert len(build(tmp_path / "shards" / "train-0000[01].tar")) == 16
    tar(tmp_path / "shards" / "val-00000.tar", {"v.png": png(0), "v.cls": b"0"})
    assert len(build(tmp_path / "shards" / "train-*.tar")) == 24
    assert "nothing is at" in refusal(tmp_path / "shards" / "test-*.tar")


def test_files_of_one_name_in_two_archives_are_two_files(tmp_path):
    """Their folders stay their classes."""
    for i, ending in enumerate(("tar", "tar", "zip")):
        files = {f"pets/{kind}/0.png": png(2 * i + n) for n, kind in enumerate(("cat", "dog"))}
        if ending == "tar":
            tar(tmp_path / f"{i}.tar", files)
            continue
        with zipfile.ZipFile(tmp_path / f"{i}.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    data = build(tmp_path)
    assert data.file_names() == [f"{k}/{i}:0.png" for k in ("cat", "dog") for i in ("0.tar", "1.tar", "2.zip")]
    assert data.classes == ("cat", "dog") and data.labels.tolist() == [0, 0, 0, 1, 1, 1]
    kept = {data.image(i).numpy().tobytes() for i in range(6)}
    assert len(kept) == 6


def test_archives_of_one_name_in_two_folders_are_two_archives(tmp_path):
    for i in range(2):
        (tmp_path / str(i)).mkdir()
        tar(tmp_path / str(i) / "x.tar", {"a.png": png(i), "b.png": png(2 + i)})
    data = build(tmp_path / "*" / "x.tar")
    assert data.file_names() == ["0:x.tar:a.png", "0:x.tar:b.png", "1:x.tar:a.png", "1:x.tar:b.png"]
    assert len({data.image(i).numpy().tobytes() for i in range(4)}) == 4


def test_of_one_name_in_one_archive_the_last_file_counts(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for i in (0, 1):
            entry = tarfile.TarInfo("a.png")
            entry.size = len(png(i))
            archive.addfile(entry, io.BytesIO(png(i)))
    root = open_root(str(tmp_path / "x.tar"))
    assert root.open("a.png").read() == png(1)
    assert root.listing().notes() == ["left out, files of a name that comes again: 1"]


def test_a_folder_with_images_or_folders_is_no_set_of_shards(tmp_path):
    tar(tmp_path / "x.tar", {"a.png": png(0)})
    assert isinstance(open_root(str(tmp_path)), Archives)
    write_image(tmp_path / "b.png", size=(8, 8))
    assert open_root(str(tmp_path)).listing().names == ["b.png"]


def test_captions_lie_in_archives_too(tmp_path):
    files = {f"{i}.png": png(i) for i in range(4)} | {f"{i}.txt": b"number %d" % i for i in range(4)}
    data = build_by_name("captions", path=str(tar(tmp_path / "x.tar", files)))
    assert list(data.captions) == [f"number {i}" for i in range(4)]


def test_archives_that_cannot_be_read(tmp_path):
    path = shards(tmp_path / "shards", count=1) / "train-00000.tar"
    whole = path.read_bytes()
    path.write_bytes(whole[: 512 * 5 + 100])
    assert "train-00000.tar cannot be read (unexpected end of data), expected a whole ZIP or tar" in refusal(path)
    path.write_bytes(whole)
    data = build(path)
    os.truncate(path, 1024)
    with pytest.raises(
        ConfigError, match=r"train-00000.tar\[000007.png\].*behind the end of its archive, which was cut"
    ):
        data.image(7)
    for ending, mode in (("gz", "w:gz"), ("bz2", "w:bz2"), ("xz", "w:xz")):
        packed = tmp_path / f"x.tar.{ending}"
        with tarfile.open(packed, mode) as archive:
            archive.add(__file__, "a.png")
        line = refusal(packed)
        assert "of which no part can be read alone" in line and line.endswith("Try: unpacking it")


def test_labels_beside_some_images_only(tmp_path):
    files = {"a.png": png(0), "a.cls": b"1", "b.png": png(1)}
    line = refusal(tar(tmp_path / "x.tar", files))
    assert "dataset.labels: 1 of 2 images have no NAME.cls beside them (b.png)" in line
    files |= {"b.cls": b" \n"}
    line = refusal(tar(tmp_path / "x.tar", files))
    assert "x.tar[b.cls] is empty, expected a number or a name" in line
    data = build(tar(tmp_path / "x.tar", files | {"a.cls": b"cat\n", "b.cls": b"dog"}))
    assert data.classes == ("cat", "dog")


# ---- very many files


def few(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Look at this many files and measure as many, as if there were a million others."""
    monkeypatch.setattr(folder, "LOOKED_AT", count)
    monkeypatch.setattr(folder, "SAMPLED", count)
    monkeypatch.setattr(folder, "FEWEST", count)


def test_of_very_many_files_some_are_looked_at(tmp_path, monkeypatch):
    """A damaged one among the rest is told when it is read; to skip damaged ones, all are looked at."""
    few(monkeypatch, 5)
    for i in range(41):
        write_image(tmp_path / f"{i:02d}.png", size=(16, 16), seed=i)
    (tmp_path / "07.png").write_bytes(b"no image")
    data = build(tmp_path)
    assert len(data) == 41 and data.notes[0].startswith("41 images, of which 5 were looked at; sizes 5 of 16x16")
    assert data.image(8).shape == (3, 16, 16)
    with pytest.raises(ConfigError, match=r"07.png: is no image .*skip_bad=true"):
        data.image(7)
    assert len(build(tmp_path, skip_bad=True)) == 40
    (tmp_path / "20.png").write_bytes(b"no image")  # one of the five
    assert "1 of 5 files" in refusal(tmp_path)


def test_whoever_needs_every_header_has_it(tmp_path, monkeypatch):
    """As a translation does, whose files may be very many too."""
    few(monkeypatch, 5)
    for i in range(12):
        write_image(tmp_path / f"{i:02d}.png", size=(16, 16), seed=i)
    root = open_root(str(tmp_path))
    names = root.listing().names
    assert len(read_headers(root, names, skip_bad=False).seen) == 12
    some = read_headers(root, names, skip_bad=False, most=5)
    assert len(some.seen) == len(some.looked) == 5 and list(some.good) == list(range(12))


def test_values_of_another_kind_among_very_many_files(tmp_path, monkeypatch):
    few(monkeypatch, 3)
    for i in range(21):
        write_image(tmp_path / f"{i:02d}.png", size=(16, 16), seed=i)
    (tmp_path / "07.png").unlink()
    np.save(tmp_path / "07.npy", torch.rand(16, 16).numpy())
    with pytest.raises(ConfigError, match=r"07.npy: has float32 values, unlike the others"):
        build(tmp_path).image(7)
