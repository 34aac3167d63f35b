"""Whole cases: datasets of which one is damaged, previous segmentations of a cascade, the pool of workers, and archives."""

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np

from benchmarks.fuzzing.images import AFFINE, SHAPE, intensities, labels
from benchmarks.fuzzing.layouts import IDS, LABELS, save, write_cases
from benchmarks.fuzzing.targets import Target, every
from tumorseg.ops.geometry import AxisOrder
from tumorseg.schema.cases import CaseReading
from tumorseg.schema.dataset import Case, Dataset, ImageFile
from tumorseg.schema.targets import Targets, targets_of
from tumorseg.sources.inputs import open_inputs, open_labels
from tumorseg.sources.registry import open_dataset
from tumorseg.stages.datasets.check import CheckRequest, check
from tumorseg.stages.opening.loaded import Roots
from tumorseg.stages.opening.reading import CaseImage, read_case_image, read_case_indices, read_previous
from tumorseg.stages.planning.fingerprint import FingerprintRequest, measure
from tumorseg.storage.downloads.archives import unpacked
from tumorseg.storage.layout import FetchFiles
from tumorseg.workers.outcomes import Failure
from tumorseg.workers.pool import run_cases

JSON = '{"channel_names": {"0": "CT", "1": "PET"}, "labels": {"background": 0, "core": 1, "rim": 2}, "numTraining": 2, "file_ending": ".nii.gz"}'
SOUND, BATCH = "sound", 50


def _dataset(folder: Path) -> None:
    """Write a dataset of which any file may be damaged."""
    write_cases(folder / "one" / "set")
    (folder / "one" / "set" / "dataset.json").write_text(JSON)


def _check(folder: Path) -> object:
    roots = Roots(data_root=folder, work=folder / "runs")
    return check(CheckRequest(roots=roots, dataset=str(folder / "set"), jobs=1))


def _measure(folder: Path) -> object:
    roots = Roots(data_root=folder, work=folder / "runs")
    return measure(FingerprintRequest(roots=roots, dataset=str(folder / "set"), jobs=1))


def _case(folder: Path) -> None:
    save(folder / "ct.nii.gz", intensities())
    save(folder / "label.nii.gz", labels())


def case_in(folder: Path) -> Case:
    """Return the case of one channel that lies in a folder."""
    return Case(
        case_id=folder.name, images=(ImageFile(path=str(folder / "ct.nii.gz")),), label=str(folder / "label.nii.gz")
    )


def read_case(folder: Path) -> tuple[CaseImage, object]:
    """Read a case as a worker does."""
    case = case_in(folder)
    found = read_case_image(case)
    return found.without_voxels(), read_case_indices(case, found, _targets()).shape


def _targets() -> Targets:
    dataset = Dataset.model_validate({"name": "Set", "channels": [{"name": "CT"}], "labels": LABELS, "cases": []})
    return targets_of(dataset)


def _pooled(folder: Path) -> object:
    """Read damaged cases among sound ones, in two workers."""
    _case(folder / SOUND)
    damaged = sorted(path for path in folder.iterdir() if path.name != SOUND)
    items = [(f"{path.name} {number}", one) for path in damaged for number, one in enumerate((path, folder / SOUND))]
    outcomes = list(run_cases(read_case, items, num_workers=2))
    lost = [outcome for outcome in outcomes if isinstance(outcome, Failure) and outcome.case_id.endswith(" 1")]
    bugs = [outcome.traceback for outcome in outcomes if isinstance(outcome, Failure) and outcome.traceback]
    if bugs or lost or len(outcomes) != len(items):
        raise AssertionError(f"{len(bugs)} bugs, {len(lost)} sound cases lost: {(bugs or lost)[:1]}")
    return outcomes


def _previous(folder: Path) -> None:
    for name in ("labels", "float"):
        _case(folder / name)
        array = labels() if name == "labels" else labels().astype(np.float32)
        save(folder / name / "previous.nii.gz", array)


def _read_previous(folder: Path) -> object:
    found = CaseImage(intensities("<f4").T[None], (2.5, 1.1, 0.9), AxisOrder().orientation(AFFINE), AFFINE, SHAPE[::-1])
    case = case_in(folder)
    return read_previous(case, folder / "previous.nii.gz", found, targets=_targets(), reading=CaseReading())


def _plain(folder: Path) -> None:
    place = folder / "one"
    for number, case_id in enumerate(IDS):
        for channel in range(2):
            save(place / "images" / f"{case_id}_{channel:04d}.nii.gz", intensities() + number)
        save(place / "labels" / f"{case_id}.nii.gz", labels())
    (place / "images" / "manifest.csv").write_text("case_id,CT,PET\nc,case_a_0000.nii.gz,case_a_0001.nii.gz\n")


def _read_inputs(folder: Path) -> object:
    inputs = (folder / "images", folder / "images" / "manifest.csv")
    return every(
        *(lambda path=path: open_inputs([path], ["CT", "PET"]) for path in inputs),
        lambda: open_labels([folder / "labels"]),
        lambda: open_dataset(str(folder), folder),
    )


def _archives(folder: Path) -> None:
    for name, kind in (("ustar", tarfile.USTAR_FORMAT), ("pax", tarfile.PAX_FORMAT), ("gnu", tarfile.GNU_FORMAT)):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=kind) as tar:
            for path, content in (
                ("Set", None),
                ("Set/imagesTr", None),
                ("Set/imagesTr/a.nii", b"a" * 600),
                ("Set/dataset.json", b"{}"),
            ):
                member = tarfile.TarInfo(path)
                member.type, member.mode = (tarfile.DIRTYPE, 0o755) if content is None else (tarfile.REGTYPE, 0o644)
                member.size = len(content or b"")
                tar.addfile(member, io.BytesIO(content or b""))
            if name != "ustar":
                tar.addfile(tarfile.TarInfo(f"Set/{'long' * 60}.nii"))
        (folder / name).mkdir()
        (folder / name / "Set.tar").write_bytes(buffer.getvalue())
    (folder / "gzip").mkdir()
    (folder / "gzip" / "Set.tar").write_bytes(gzip.compress(buffer.getvalue(), mtime=0))


def _unpack(folder: Path) -> object:
    files = FetchFiles(folder / "root" / "Set")
    files.target.parent.mkdir()
    with unpacked(folder / "Set.tar", files, watch=lambda *_: None) as place:
        return sorted(place.rglob("*"))


def _make_pooled(folder: Path) -> None:
    _case(folder / "one")


TARGETS = {
    "check": Target(_dataset, _check),
    "measure": Target(_dataset, _measure),
    "previous": Target(_previous, _read_previous),
    "inputs": Target(_plain, _read_inputs),
    "workers": Target(_make_pooled, _pooled, BATCH),
    "archive": Target(_archives, _unpack),
}
