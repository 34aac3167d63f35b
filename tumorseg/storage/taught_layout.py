"""Where it is kept what teachers find in whole cases."""

from pathlib import Path

from tumorseg.storage.layout import WorkFolder


def taught_folder(work: WorkFolder, identity: str) -> Path:
    """Return the folder of what some teachers find, on the grid of some students; it may be removed when none of these is trained any more."""
    return work.root / "taught" / identity
