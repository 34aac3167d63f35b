"""The files of a saved ensemble, and of the choice that may have made it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class EnsembleFolder:
    """A saved ensemble: complete in itself."""

    root: Path
    """The folder."""

    @property
    def document(self) -> Path:
        """Members and how they are combined; makes the folder an ensemble."""
        return self.root / "ensemble.json"

    @property
    def trust(self) -> Path:
        """What cases are judged by, if `select` made the ensemble."""
        return self.root / "trust.json"

    @property
    def settings(self) -> Path:
        """What it costs to predict in one way or another, likewise."""
        return self.root / "settings.json"

    @property
    def selection(self) -> Path:
        """What it was chosen among, and by what, likewise."""
        return self.root / "selection.json"

    @property
    def report(self) -> Path:
        """The page about the choice, likewise."""
        return self.root / "report.html"

    def is_there(self) -> bool:
        """Return whether the folder is an ensemble."""
        return self.document.is_file()


@dataclass(frozen=True)
class SelectionNotes:
    """`<work>/<dataset>/selections/<identity>`: what is known of a choice, so that a killed `select` goes on."""

    root: Path
    """The folder."""

    @property
    def scores(self) -> Path:
        """DSC of each case under each choice, a line for each case of a pass."""
        return self.root / "scores.jsonl"

    @property
    def calibration(self) -> Path:
        """Voxels on which temperatures are fitted, by case."""
        return self.root / "calibration"

    @property
    def trust(self) -> Path:
        """What trust is learnt from, by case."""
        return self.root / "trust"

    @property
    def settings(self) -> Path:
        """What was measured of each setting."""
        return self.root / "settings"
