"""What is in a ZIP or tar archive and where: the place of each file, so that any one of them is read by itself."""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Iterator
from typing import IO, NamedTuple

BLOCK = 512  # bytes of a header in a tar archive; what follows it fills whole blocks
CUT = "unexpected end of data"
IN_TAR, ENCRYPTED = 254, 255  # beside the numbers of ZIP for the ways to pack a file
LIKE_FILES, FOLDER, EXTENDED = (b"0", b"\0"), b"5", (b"x", b"g")  # types of entries in a tar archive
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7z": "xz", b"\x28\xb5\x2f": "zstd"}  # by their first bytes


class Member(NamedTuple):
    """One file of an archive."""

    name: str
    offset: int  # of its header in a ZIP archive, of its content in a tar archive
    packed: int  # bytes in the archive
    size: int  # bytes of the file
    method: int  # how it is packed: that of ZIP, IN_TAR or ENCRYPTED
    checksum: int  # CRC-32 of the file; 0 in a tar archive, which has none


def kind_of(file: IO[bytes]) -> str:
    """What an archive is by its content: zip, tar, the name of a compression, or "" for none of these."""
    start = os.pread(file.fileno(), BLOCK, 0)
    packed = next((name for magic, name in COMPRESSED.items() if start.startswith(magic)), "")
    if packed or start[257:262] == b"ustar":
        return packed or "tar"
    if start.startswith(b"PK\3\4") or zipfile.is_zipfile(file):
        return "zip"
    file.seek(0)
    return "tar" if len(start) == BLOCK and tarfile.is_tarfile(file) else ""


def members(file: IO[bytes], kind: str) -> list[Member]:
    """The regular files of a `zip` or `tar` archive, in order. Raises what zipfile and tarfile raise for a damaged one.

    Links, devices and files with holes of a tar archive are left away.
    """
    if kind == "zip":
        return [_of_zip(info) for info in zipfile.ZipFile(file).infolist() if not info.is_dir()]
    try:
        return list(_plain_tar(file))
    except Unusual:
        file.seek(0)
        return list(_any_tar(file))


def _of_zip(info: zipfile.ZipInfo) -> Member:
    method = ENCRYPTED if info.flag_bits & 1 else min(info.compress_type, IN_TAR - 1)
    return Member(info.filename, info.header_offset, info.compress_size, info.file_size, method, info.CRC)


class Unusual(Exception):
    """A tar archive with entries that only tarfile reads."""


def _plain_tar(file: IO[bytes]) -> Iterator[Member]:
    """Files of an archive as most are: each header says its whole name. Some ten times as quick as tarfile.

    Raises Unusual for any other, and tarfile.ReadError for one that is cut.
    """
    end, position = os.fstat(file.fileno()).st_size, 0
    while any(header := os.pread(file.fileno(), BLOCK, position)):
        kind, content = header[156:157], position + BLOCK
        if len(header) < BLOCK:
            raise tarfile.ReadError(CUT)
        if header[257:262] != b"ustar":
            raise Unusual
        try:
            size = int(header[124:136].rstrip(b"\0 ") or b"0", 8)
        except ValueError:
            raise Unusual from None
        position = content + -(-size // BLOCK) * BLOCK
        if content + size > end:
            raise tarfile.ReadError(CUT)
        if kind in LIKE_FILES:
            yield Member(_name(header), content, size, size, IN_TAR, 0)
        elif kind in EXTENDED:
            _refuse_renaming(os.pread(file.fileno(), size, content))
        elif kind != FOLDER:
            raise Unusual


def _name(header: bytes) -> str:
    prefix, name = header[345:500].partition(b"\0")[0], header[:100].partition(b"\0")[0]
    if prefix and header[257:263] != b"ustar\0":  # GNU's keeps times there
        raise Unusual
    return os.fsdecode(prefix + b"/" + name if prefix else name)


def _refuse_renaming(records: bytes) -> None:
    """Raises Unusual where an extended header says more than times and owners, such as a long name or a size."""
    if any(word in records for word in (b"path=", b"size=", b"GNU.", b"hdrcharset=")):
        raise Unusual


def _any_tar(file: IO[bytes]) -> Iterator[Member]:
    with tarfile.open(fileobj=file, mode="r:") as archive:
        while (entry := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # which it would keep
            if entry.isreg() and not entry.issparse():
                yield Member(entry.name, entry.offset_data, entry.size, entry.size, IN_TAR, 0)
