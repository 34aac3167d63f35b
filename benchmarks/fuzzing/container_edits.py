"""Changes inside what is packed: unpacked, changed, and packed again with sound checksums, so that the damage gets through."""

import gzip
import io
import json
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from random import Random

from benchmarks.fuzzing import hostile
from benchmarks.fuzzing.byte_edits import Edit, some_edit
from benchmarks.fuzzing.header_edits import edit_dicom
from benchmarks.fuzzing.text_edits import edit_json

BOMB_BYTES = 64 << 20
"""What a bomb unpacks to: far more than any sound input, and quickly made."""


def packed_by_gzip(edits: Sequence[Edit]) -> Edit:
    """Return an edit of what a gzip file holds."""

    def edit(rng: Random, data: bytes) -> bytes:
        content = rng.choice(edits)(rng, gzip.decompress(data))
        if rng.random() < 0.03:
            content += bytes(BOMB_BYTES)
        made = gzip.compress(content, compresslevel=1, mtime=0)
        return made + made if rng.random() < 0.05 else made

    return edit


def edit_deflated(rng: Random, data: bytes) -> bytes:
    """Change what a DICOM file of the deflated transfer syntax holds."""
    # Behind the preamble stands the group of file meta elements, whose first one says how long it is.
    start = 144 + int.from_bytes(data[140:144], "little")
    content = zlib.decompress(data[start:], -zlib.MAX_WBITS)
    # Only what stands behind a preamble is looked at by its elements.
    preamble = bytes(128) + b"DICM"
    content = edit_dicom(rng, preamble + content)[len(preamble) :]
    if rng.random() < 0.05:
        content += bytes(BOMB_BYTES)
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    return data[:start] + packer.compress(content) + packer.flush()


def edit_zip(rng: Random, data: bytes) -> bytes:
    """Change one entry of a zip archive, the pickle of a checkpoint above all, or its name; leave one out, or store one twice."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    pickles = [number for number, (name, _) in enumerate(entries) if name.endswith(".pkl")]
    number = rng.choice(pickles) if pickles and rng.random() < 0.6 else rng.randrange(len(entries))
    name, content = entries[number]
    if (chance := rng.random()) < 0.85:
        entries[number] = name, some_edit(rng, content)
    elif chance < 0.9:
        del entries[number]
    elif chance < 0.95:
        entries[number] = rng.choice(hostile.WORDS)[:1000].replace("\x00", "0"), content
    else:
        entries[number] = name, content + bytes(rng.choice((1, 1000, BOMB_BYTES)))
    buffer = io.BytesIO()
    kind = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content, kind)
    return buffer.getvalue()


def edit_tar(rng: Random, data: bytes) -> bytes:
    """Change the header of a member of a tar archive, or add one that leads elsewhere; headers have sound checksums."""
    if rng.random() < 0.5:
        return _with_member(rng, data)
    changed = bytearray(data)
    headers = [start for start in range(0, len(data), 512) if data[start + 257 : start + 262] == b"ustar"]
    # Of an archive that is packed none is seen.
    if not headers:
        return some_edit(rng, data)
    start = rng.choice(headers)
    offset, length = rng.choice(
        ((0, 100), (100, 8), (124, 12), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (345, 155))
    )
    field = hostile.text(rng).encode()[:length].ljust(length, b"\0")
    if length == 1:
        field = rng.choice(b"0123456789LKxgSVDN\0").to_bytes(1, "big")
    changed[start + offset : start + offset + length] = field
    changed[start + 148 : start + 156] = b" " * 8
    total = sum(changed[start : start + 512])
    changed[start + 148 : start + 156] = b"%06o\0 " % total
    return bytes(changed)


def _with_member(rng: Random, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as old, tarfile.open(fileobj=buffer, mode="w") as new:
        members = [(member, old.extractfile(member)) for member in old]
        added = tarfile.TarInfo(
            rng.choice((rng.choice(members)[0].name, rng.choice(hostile.WORDS).replace("\x00", "0") or "a"))
        )
        added.type = rng.choice(
            (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE)
        )
        added.linkname = rng.choice(("../escaped", "/etc/hostname", "Set/imagesTr", "."))
        members.insert(rng.randrange(len(members) + 1), (added, None))
        for member, content in members:
            new.addfile(member, content)
    return buffer.getvalue()


def edit_safetensors(rng: Random, data: bytes) -> bytes:
    """Change the header of a file of tensors, its length stated rightly."""
    size = int.from_bytes(data[:8], "little")
    header = edit_json(rng, json.dumps(json.loads(data[8 : 8 + size])).encode())
    return len(header).to_bytes(8, "little") + header + data[8 + size :]
