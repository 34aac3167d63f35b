"""UIDs that follow from what they name, so that the same result made twice is the same instance.

References:
    DICOM PS3.5, B.2: UIDs below 2.25, derived from a UUID. RFC 9562, section 5.8: UUIDs of one's own making (version 8).
"""

import hashlib
import json
from collections.abc import Sequence

import numpy as np

from tumorseg.types import Segmentation

ROOT = "2.25"
"""Below it anyone may make UIDs from a UUID, without a registration."""
_VERSION, _VARIANT = 0x8 << 76, 0x2 << 62
_KEPT = ((1 << 128) - 1) ^ (0xF << 76) ^ (0x3 << 62)
"""The bits of a UUID that say neither its version nor its variant."""


def uid_from(parts: Sequence[str]) -> str:
    """Return the UID of what some texts identify.

    Args:
        parts: in an order that counts, such as hashes of a model and of a series, and what the instance is.

    Returns:
        At most 44 characters; the same for the same parts, and another for any others.
    """
    # As JSON, in which no two lists of texts look alike; their mere concatenation would.
    digest = hashlib.sha256(json.dumps(list(parts)).encode()).digest()
    number = int.from_bytes(digest[:16], "big") & _KEPT | _VERSION | _VARIANT
    return f"{ROOT}.{number}"


def digest_of(segmentation: Segmentation) -> str:
    """Return a hash of the label values and shape of a label map, whatever type they are stored in."""
    digest = hashlib.sha256(json.dumps(segmentation.shape).encode())
    # By planes, since most maps are stored in fewer bytes a voxel.
    for plane in segmentation:
        digest.update(np.ascontiguousarray(plane, dtype="<i4").data)
    return digest.hexdigest()
