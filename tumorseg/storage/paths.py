"""What can be a path at all, asked before functions that only look what is there fail at it."""

import errno
import os

IMPOSSIBLE = {
    errno.ELOOP: "is a link to itself, or leads to one",
    errno.ENAMETOOLONG: "is longer than a name can be",
}
"""What the system says of a path that can never lead to a file; what else it says is told by who opens it."""
# Of Linux, which counts the null byte behind a path too; other systems allow less, and say so when it is opened.
MOST_BYTES, MOST_BYTES_OF_A_NAME = 4095, 255


def impossible_text(path: str) -> str | None:
    """Return why a text can be no path on any disk, as what follows `the path`, or None; the system is not asked."""
    try:
        data = path.encode()
    except UnicodeEncodeError:
        return "holds bytes that are not UTF-8"
    if b"\0" in data:
        return "holds a null byte"
    if len(data) > MOST_BYTES or any(len(name) > MOST_BYTES_OF_A_NAME for name in data.split(b"/")):
        return IMPOSSIBLE[errno.ENAMETOOLONG]
    return None


def impossible_path(path: str) -> str | None:
    """Return why a text can be no path here, as what follows `the path`, or None; nothing need be there."""
    if (fault := impossible_text(path)) is not None:
        return fault
    try:
        os.stat(path)  # noqa: PTH116 (as text, which Path would read too much into)
    except OSError as error:
        return IMPOSSIBLE.get(error.errno or 0)
    return None
