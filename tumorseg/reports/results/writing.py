"""Pages on disk."""

import re
from pathlib import Path

from tumorseg.reports.results.page import Page
from tumorseg.reports.results.viewer import FOLDER
from tumorseg.storage.atomic import write_bytes, write_text

_OWN_FILE = re.compile(r"case_[0-9a-f]{16}\.js")


def write_page(path: Path, page: Page) -> None:
    """Write a page and the files that lie beside it; those that an earlier page left behind are removed.

    Raises:
        StorageError: a file cannot be written.
    """
    for name, content in page.files.items():
        write_bytes(path.parent / name, content)
    # The page comes after its files, so that it is never there without them.
    write_text(path, page.html)
    kept = {Path(name).name for name in page.files}
    for file in sorted((path.parent / FOLDER).glob("case_*.js")):
        if _OWN_FILE.fullmatch(file.name) and file.name not in kept:
            file.unlink(missing_ok=True)
