"""What can be a path at all, asked before functions that only look what is there fail at it."""

import errno
import os

IMPOSSIBLE = {
    errno.ELOOP: "is a link to itself, or leads to one",
    errno.ENAMETOOLONG: "is longer than a name can be",
}
"""What the system says of a path that can never lead to a file; what else it says is told by who opens it."""


def path_fault(path: str) -> str | None:
    """Return why a text can be no path, as what follows `the path`, or None; nothing need be there."""
    try:
        path.encode()
        os.stat(path)  # noqa: PTH116 (as text, which Path would read too much into)
    except UnicodeEncodeError:
        return "holds bytes that are not UTF-8"
    except ValueError:
        return "holds a null byte"
    except OSError as error:
        return IMPOSSIBLE.get(error.errno or 0)
    return None
