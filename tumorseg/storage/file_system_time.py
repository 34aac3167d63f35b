"""What time it is for a file system, which on a network drive is the server's."""

import os
import tempfile
import time
from pathlib import Path


def file_system_now(folder: Path) -> float:
    """Return the time by which a file system dates what is written to a folder, Unix time in s; this machine's if nothing can be written.

    A file without a name tells it, which is gone at once.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()
