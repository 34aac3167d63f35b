"""Files with hand-written headers."""

import numpy as np

DIRECTIONS = "space directions: (0.7,0,0) (0,0.9,0) (0,0,3.1)"
ORIGIN = "space origin: (10,20,30)"


def counted(sizes, dtype=np.uint8):
    """Return voxels that count upwards, the fastest axis first in `sizes`."""
    return np.arange(int(np.prod(sizes))).astype(dtype)


def write_nrrd(path, *lines, sizes=(4, 5, 6), kind="uchar", encoding="raw", endian="little", data=None):
    """Write a NRRD file with these lines in its header; its voxels count upwards unless data are given."""
    text = [
        "NRRD0005",
        f"type: {kind}",
        f"dimension: {len(sizes)}",
        f"sizes: {' '.join(map(str, sizes))}",
        f"encoding: {encoding}",
        f"endian: {endian}",
        *lines,
    ]
    voxels = counted(sizes).tobytes() if data is None else data
    path.write_bytes("\n".join(text).encode() + b"\n\n" + voxels)
    return str(path)


def write_meta(path, *lines, size=(4, 5, 6), kind="MET_UCHAR", file="LOCAL", data=None):
    """Write a MetaImage with these lines in its header; its voxels count upwards unless data are given."""
    text = [
        "ObjectType = Image",
        f"NDims = {len(size)}",
        *lines,
        f"DimSize = {' '.join(map(str, size))}",
        f"ElementType = {kind}",
        f"ElementDataFile = {file}",
    ]
    voxels = counted(size).tobytes() if data is None else data
    path.write_bytes("\n".join(text).encode() + b"\n" + voxels)
    return str(path)
