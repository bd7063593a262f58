"""Writers of small data sets in the real formats, for the tests."""

import gzip
import io
import json
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def images(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def write_idx(path: Path, values: np.ndarray) -> None:
    """The idx format of MNIST; gzipped when the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


def write_mnist(root: Path, *, title: str = "MNIST", count: int = 30, packed: bool = True) -> tuple:
    pixels, labels = images(count, 28, 28), (np.arange(count) % 10).astype(np.uint8)
    end = ".gz" if packed else ""
    for stem in ("train", "t10k"):
        write_idx(root / title / "raw" / f"{stem}-images-idx3-ubyte{end}", pixels)
        write_idx(root / title / "raw" / f"{stem}-labels-idx1-ubyte{end}", labels)
    return pixels, labels


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes as the byte strings of Python 2, the language that CIFAR was pickled in."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_string(self, value):
        raw = value if isinstance(value, bytes) else value.encode("latin1")
        short = len(raw) < 256
        self.write(b"U" + bytes((len(raw),)) + raw if short else b"T" + struct.pack("<i", len(raw)) + raw)
        self.memoize(value)

    dispatch[bytes] = dispatch[str] = save_string

    def save_global(self, found, name=None):
        module = found.__module__.replace("numpy._core", "numpy.core")
        self.write(f"c{module}\n{found.__name__}\n".encode())
        self.memoize(found)

    dispatch[type] = save_global
    dispatch[type(save_global)] = save_global
    dispatch[type(len)] = save_global


def write_pickle(path: Path, value: object, *, python2: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        (Python2Pickler if python2 else pickle.Pickler)(file, protocol=2).dump(value)


def write_cifar(root: Path, *, hundred: bool = False, python2: bool = True, count: int = 4) -> tuple:
    """Five batches and a test batch of 3072 bytes a row; or one of each for CIFAR-100."""
    folder = root / ("cifar-100-python" if hundred else "cifar-10-batches-py")
    names = ["train"] if hundred else [f"data_batch_{i}" for i in range(1, 6)]
    key, meta = (b"fine_labels", b"fine_label_names") if hundred else (b"labels", b"label_names")
    classes = (
        [f"thing_{i}" for i in range(100)]
        if hundred
        else ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog"]
    )
    rows = images(count * len(names), 3072)
    labels = [i % 7 for i in range(len(rows))]
    for i, name in enumerate([*names, "test" if hundred else "test_batch"]):
        part = slice(i % len(names) * count, (i % len(names) + 1) * count)
        write_pickle(folder / name, {b"data": rows[part], key: labels[part], b"batch_label": b"x"}, python2=python2)
    write_pickle(folder / ("meta" if hundred else "batches.meta"), {meta: classes}, python2=python2)
    return rows.reshape(-1, 3, 32, 32), labels, classes


def write_svhn(root: Path, count: int = 12) -> tuple:
    from scipy.io import savemat

    pixels = images(32, 32, 3, count)
    labels = (np.arange(count) % 10 + 1).astype(np.uint8)[:, None]  # 1..10, where 10 is the digit 0
    root.mkdir(parents=True, exist_ok=True)
    savemat(root / "train_32x32.mat", {"X": pixels, "y": labels}, do_compression=True)
    return pixels, labels


def write_celeba(root: Path, count: int = 8) -> None:
    folder = root / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{i + 1:06d}.jpg" for i in range(count)]
    for i, name in enumerate(names):
        Image.fromarray(images(1, 218, 178, 3, seed=i)[0]).save(folder / "img_align_celeba" / name)
    attributes = ["Male", "Smiling", "Young"]
    lines = [f"{name}  1 {1 if i % 2 else -1} -1" for i, name in enumerate(names)]
    (folder / "list_attr_celeba.txt").write_text("\n".join([str(count), " ".join(attributes), *lines]) + "\n")
    parts = "\n".join(f"{name} {0 if i < count - 2 else i - count + 3}" for i, name in enumerate(names))
    (folder / "list_eval_partition.txt").write_text(parts + "\n")


def write_image(path: Path, *, size: tuple[int, int] = (40, 32), mode: str = "RGB", seed: int = 0, **options) -> Path:
    """Noise as an image file of any mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = images(1, size[1], size[0], 3, seed=seed)[0]
    Image.fromarray(pixels).convert(mode).save(path, **options)
    return path


def bomb(path: Path, side: int = 9500) -> None:
    """A PNG of ten kilobytes whose header declares 90 megapixels."""
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = zlib.compress(b"\0" * 1_000_000, 9).ljust(10_000, b"\0")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))


def write_stl10(root: Path, count: int = 20) -> tuple:
    """Planes of columns, labels 1..10; the unlabeled part is half as large."""
    folder = root / "stl10_binary"
    folder.mkdir(parents=True, exist_ok=True)
    pixels, labels = images(count, 3, 96, 96), (np.arange(count) % 10 + 1).astype(np.uint8)
    for stem in ("train", "test"):
        (folder / f"{stem}_X.bin").write_bytes(pixels.transpose(0, 1, 3, 2).tobytes())
        (folder / f"{stem}_y.bin").write_bytes(labels.tobytes())
    (folder / "unlabeled_X.bin").write_bytes(pixels[: count // 2].transpose(0, 1, 3, 2).tobytes())
    names = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]
    (folder / "class_names.txt").write_text("\n".join(names) + "\n")
    return pixels, labels, names


def write_lsun(root: Path, *stems: str, count: int = 6) -> dict[str, dict[bytes, np.ndarray]]:
    """LMDB databases of WebP files under hexadecimal keys, as LSUN's are; lossless, so that pixels can be compared."""
    import hashlib
    import io

    import lmdb

    found: dict[str, dict[bytes, np.ndarray]] = {}
    for stem in stems:
        (root / f"{stem}_lmdb").mkdir(parents=True)
        with lmdb.open(str(root / f"{stem}_lmdb"), map_size=1 << 24) as database, database.begin(write=True) as writing:
            found[stem] = {}
            for i in range(count):
                key = hashlib.sha1(f"{stem}{i}".encode()).hexdigest().encode()
                pixels, file = images(1, 32, 40, 3, seed=len(found) * 100 + i)[0], io.BytesIO()
                Image.fromarray(pixels).save(file, "WEBP", lossless=True)
                writing.put(key, file.getvalue())
                found[stem][key] = pixels
    return found


def write_emoji(path: Path, *, extra: tuple[tarfile.TarInfo, ...] = (), **files: bytes | None) -> Path:
    """npm's archive of emoji-datasource-google in small: a list, pictures of 64 pixels, other files around them.

    Each picture is of one colour inside a transparent edge. `extra` members follow; `files` by their short names are
    put in the place of those that are usual, None for none.
    """

    def entry(name: str, category: str, file: str, **more: object) -> dict:
        return {"name": name, "category": category, "image": f"{file}.png", "has_img_google": True, **more}

    tones = {
        "1F3FB": {"image": "a-1.png", "has_img_google": True},
        "1F3FF": {"image": "b-2.png", "has_img_google": False},
    }
    entries = [
        entry("WAVING HAND SIGN", "People & Body", "a", skin_variations=tones),
        entry("SLICE OF PIZZA", "Food & Drink", "b"),
        entry("OLD PICTURE", "Food & Drink", "gone", has_img_google=False),
    ]
    usual = {"LICENSE": b"MIT", "emoji.json": json.dumps(entries).encode(), "img/google/sheets/64.png": b"not read"}
    usual |= {f"img/google/64/{name}.png": _emoji(value) for value, name in enumerate(("a", "a-1", "b"))}
    short = {name.rpartition("/")[2].partition(".")[0]: name for name in usual}
    usual |= {short[name]: content for name, content in files.items()}
    with tarfile.open(path, "w:gz") as archive:
        for name, content in usual.items():
            if content is not None:
                member = tarfile.TarInfo(f"package/{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        for member in extra:
            archive.addfile(member, io.BytesIO(b"\0" * member.size) if member.isreg() else None)
    return path


def _emoji(value: int, side: int = 64) -> bytes:
    """A square of one colour, within 16 transparent pixels on each side; as PNG."""
    pixels = np.zeros((side, side, 4), np.uint8)
    pixels[16:-16, 16:-16] = (200, 10 * value, 0, 255)
    Image.fromarray(pixels).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def write_captions(root: Path, *, count: int = 4) -> Path:
    """Images with a table of captions."""
    for number in range(count):
        write_image(root / f"{number}.png", size=(8, 8), seed=number)
    rows = [f"{number}.png,a picture of {number}" for number in range(count)]
    (root / "captions.csv").write_text("\n".join(["file,caption", *rows]) + "\n")
    return root
