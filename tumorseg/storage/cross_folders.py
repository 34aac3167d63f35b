"""Names of the files and folders of a cross-evaluation."""

from dataclasses import dataclass
from pathlib import Path

from tumorseg.storage.layout import ScoresFolder


@dataclass(frozen=True)
class CellFolder:
    """`<output>/cells/<model>/<dataset>`: one model on one dataset."""

    root: Path
    """The cell's folder."""

    @property
    def cell(self) -> Path:
        """What became of it; written last."""
        return self.root / "cell.json"

    @property
    def predictions(self) -> Path:
        """Segmentations of cases that no fold has seen."""
        return self.root / "predictions"

    def held_out(self, folds: tuple[str, ...]) -> Path:
        """Return the folder of segmentations by the folds that a case was held out of."""
        return self.predictions / f"held_out_of_{'+'.join(folds)}"

    @property
    def scores(self) -> ScoresFolder:
        """Scores of its cases, and their report."""
        return ScoresFolder(self.root)


@dataclass(frozen=True)
class CrossFolder:
    """The results of a cross-evaluation."""

    root: Path
    """What `-o` says."""

    @property
    def report(self) -> Path:
        """The document."""
        return self.root / "cross.json"

    @property
    def table(self) -> Path:
        """Means of every cell as CSV."""
        return self.root / "cross.csv"

    @property
    def page(self) -> Path:
        """The report to be read."""
        return self.root / "report.html"

    def cell(self, model: str, dataset: str, dropped: tuple[str, ...] = ()) -> CellFolder:
        """Return the folder of a model on a dataset, with some channels left out on purpose: `…/without_T1+T2`.

        Other names never give the same folder.
        """
        whole = self.root / "cells" / model / dataset
        return CellFolder(whole / f"without_{'+'.join(map(_quoted, dropped))}" if dropped else whole)

    @property
    def voxels(self) -> Path:
        """Digests of images that were compared."""
        return self.root / "voxels.json"

    def shift(self, dataset: str) -> Path:
        """Return what was measured of a dataset."""
        return self.root / "shifts" / f"{dataset}.json"

    def slice(self, dataset: str) -> Path:
        """Return the picture of a case of a dataset."""
        return self.root / "shifts" / f"{dataset}.png"

    def plan(self, name: str) -> Path:
        """Return a plan that leaves parts of the dataset out."""
        return self.root / "plans" / f"{name}.json"


def _quoted(channel: str) -> str:
    """Return a channel's name without what separates names and folders."""
    for sign in "%+/":
        channel = channel.replace(sign, f"%{ord(sign):02X}")
    return channel
