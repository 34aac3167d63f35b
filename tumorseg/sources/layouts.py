"""The layouts that a folder can have, in the order in which they are tried."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError
from tumorseg.schema.dataset import Dataset
from tumorseg.sources import brats, dicom, hecktor, manifest, msd, nnunet, pairs
from tumorseg.sources.folders import Listing


class Layout(NamedTuple):
    """One arrangement of a dataset on disk."""

    recognize: Callable[[Path], bool]
    read: Callable[..., Dataset]
    """The training cases; of the folder, and of `labels` where it would look for them."""
    list_all: Callable[..., Listing]
    """Every case there is, for prediction and scoring."""
    needs: str
    """What a folder must have, for messages."""
    discovers_labels: bool = False
    """Whether `read` looks into every label file where nothing names the labels, unless it is given them as `labels`."""
    is_confined: bool = False
    """Whether both refuse files outside the folder, unless they may `allow_outside`."""

    def open(self, path: Path, *, labels: Mapping[str, int] | None = None, allow_outside: bool = False) -> Dataset:
        """Return the training cases.

        Args:
            path: the folder or manifest.
            labels: names and values, if known.
            allow_outside: whether a dataset.json may name files outside its folder, itself or by links.

        Raises:
            InputError: the files are wrong.
        """
        known = {"labels": labels} if self.discovers_labels else {}
        return self.read(path, **known, **self._leave(allow_outside))

    def list_cases(self, path: Path, *, allow_outside: bool = False) -> Listing:
        """Return every case there is; arguments and errors as for `open`."""
        return self.list_all(path, **self._leave(allow_outside))

    def _leave(self, allow_outside: bool) -> dict[str, bool]:
        return {"allow_outside": allow_outside} if self.is_confined else {}


# What a person states comes before what file names suggest; DICOM, for which thousands of files may be opened, is last.
LAYOUTS: dict[str, Layout] = {
    "manifest": Layout(
        manifest.is_manifest, manifest.read_manifest, manifest.list_manifest, manifest.NEEDS, discovers_labels=True
    ),
    "MSD": Layout(msd.is_msd, msd.read_msd, msd.list_msd, msd.NEEDS, is_confined=True),
    "nnU-Net": Layout(nnunet.is_nnunet, nnunet.read_nnunet, nnunet.list_nnunet, nnunet.NEEDS, is_confined=True),
    "BraTS": Layout(brats.is_brats, brats.read_brats, brats.list_brats, brats.NEEDS),
    "HECKTOR": Layout(hecktor.is_hecktor, hecktor.read_hecktor, hecktor.list_hecktor, hecktor.NEEDS),
    "pairs": Layout(pairs.is_pairs, pairs.read_pairs, pairs.list_pairs, pairs.NEEDS, discovers_labels=True),
    "DICOM": Layout(dicom.is_dicom, dicom.read_dicom, dicom.list_dicom, dicom.NEEDS),
}


def find_layout(path: Path) -> Layout | None:
    """Return the first layout that a folder or manifest file has, or None.

    Raises:
        InputError: a dataset.json is there, but is not JSON.
    """
    return next((layout for layout in LAYOUTS.values() if layout.recognize(path)), None)


def unknown_layout(path: Path) -> InputError:
    """Return the error for a folder without known layout: what was tried, and what each would need."""
    tried = "; ".join(f"{name} needs {layout.needs}" for name, layout in LAYOUTS.items())
    return InputError(
        f"found no dataset that tumorseg knows; tried: {tried}; arrange the files, or write a manifest", file=path
    )
