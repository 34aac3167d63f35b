"""Elements of DICOM as bytes, put into deflated files."""

import zlib

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.dicoms import deflate, header, save

PIXELS = b"\xe0\x7f\x10\x00"
ITEM = b"\xfe\xff\x00\xe0"
ENDLESS = b"\xff" * 4
PRIVATE = b"\x29\x00\x10\x10"


def split_deflated(path):
    """Return what of a file is not packed, and the packed rest."""
    data = path.read_bytes()
    length = int.from_bytes(data[140:144], "little")
    return data[: 144 + length], data[144 + length :]


def deflated_bytes(data):
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def insert(path, elements, before=PIXELS):
    """Put elements before the pixels of a deflated file."""
    head, packed = split_deflated(path)
    content = zlib.decompress(packed, -zlib.MAX_WBITS)
    place = content.index(before)
    path.write_bytes(head + deflated_bytes(content[:place] + elements + content[place:]))


def sequence(content, tag=PRIVATE, *, is_endless=False):
    length, end = (ENDLESS, b"\xfe\xff\xdd\xe0" + bytes(4)) if is_endless else (size(content), b"")
    return tag + b"SQ" + bytes(2) + length + content + end


def item(content):
    return ITEM + size(content) + content


def size(content):
    return len(content).to_bytes(4, "little")


def implicit(tag, value):
    return (
        (tag >> 16).to_bytes(2, "little")
        + (tag & 0xFFFF).to_bytes(2, "little")
        + len(value).to_bytes(4, "little")
        + value
    )


def write_many_frames(path, count):
    """Write a SEG of blank frames, whose groups name source images with consecutive numbers."""
    dataset = header("enhanced MR")
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns, dataset.SegmentationType = count, 64, 64, "BINARY"
    dataset.SamplesPerPixel = dataset.BitsAllocated = dataset.BitsStored = 1
    segment, measures, directions, shared = Dataset(), Dataset(), Dataset(), Dataset()
    segment.SegmentNumber, segment.SegmentLabel = 1, "Tumour"
    dataset.SegmentSequence = Sequence([segment])
    measures.PixelSpacing, directions.ImageOrientationPatient = [1, 1], [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([directions])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    dataset.add_new("PixelData", "OB", bytes(count * 512))
    save(dataset, path)
    deflate(path)
    frames = [item(_frame_groups(number)) for number in range(count)]
    insert(path, sequence(b"".join(frames), b"\x00\x52\x30\x92"))
    return path


def _frame_groups(number):
    code = explicit("00080100", "SH", b"113076") + explicit("00080102", "SH", b"DCM ")
    code += explicit("00080104", "LO", b"Segmentation")
    source = explicit("00081150", "UI", b"1.2.840.10008.5.1.4.1.1.2\0")
    source += explicit("00081155", "UI", b"1.3.6.1.4.1.14519.5.2.1.6279.6001.%08d " % number)
    source += sequence(item(code), bytes.fromhex("400070a1"))
    derivation = sequence(item(source), bytes.fromhex("08001221")) + sequence(item(code), bytes.fromhex("08001592"))
    indices = explicit("00209157", "UL", (1).to_bytes(4, "little") + number.to_bytes(4, "little"))
    place = explicit("00200032", "DS", b"-250\\-250\\%09.2f" % (1.25 * number))
    segment = explicit("0062000B", "US", b"\x01\x00")
    return b"".join(
        sequence(item(content), tag)
        for tag, content in (
            (bytes.fromhex("08002491"), derivation),
            (bytes.fromhex("20001191"), indices),
            (bytes.fromhex("20001391"), place),
            (bytes.fromhex("62000a00"), segment),
        )
    )


def explicit(tag, kind, value):
    group, element = bytes.fromhex(tag[:4])[::-1], bytes.fromhex(tag[4:])[::-1]
    value += b" " * (len(value) % 2)
    return group + element + kind.encode() + len(value).to_bytes(2, "little") + value
