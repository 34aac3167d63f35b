"""DICOM from the folder to the case store and back to scores."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.dicoms import Grid, box_contour, write_rtstruct, write_seg, write_series
from tumorseg.errors import InputError
from tumorseg.sources.registry import open_dataset
from tumorseg.stages.evaluation.evaluate import EvaluateRequest, evaluate
from tumorseg.stages.inference.predict import PredictRequest, predict
from tumorseg.stages.opening.fold_folders import TrainOptions
from tumorseg.stages.opening.loaded import Roots, check_content, open_planned_dataset
from tumorseg.stages.planning.fingerprint import fingerprint
from tumorseg.stages.planning.plan import PlanRequest, plan
from tumorseg.stages.training.preprocess import PreprocessRequest, preprocess
from tumorseg.stages.training.request import TrainRequest
from tumorseg.stages.training.train import train
from tumorseg.storage.cases import CaseStore
from tumorseg.storage.hashing import case_files, combine_hashes, hash_files

SHAPE = (12, 20, 24)
GRID = Grid(np.array([[-1, 0, 0], [0, -1, 0], [0, 0, 1]], float), (0.9, 0.9, 2.5), (10, 20, -30))
NAMES = ("GTV", "node")


def tumours(number):
    masks = {name: np.zeros(SHAPE, bool) for name in NAMES}
    masks["GTV"][2:6, 3 + number : 9 + number, 4:12] = True
    masks["node"][7:10, 12:16, 14 - number : 20 - number] = True
    return masks


def intensities(number):
    noise = np.random.default_rng(number).integers(-40, 40, SHAPE)
    return (noise + 100 * sum(tumours(number).values())).astype(np.int16)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Three patients: two with SEG, one with RTSTRUCT, its structures in another order."""
    folder = tmp_path_factory.mktemp("archive") / "Lung"
    for number in range(3):
        uid = f"1.{number}"
        series = write_series(
            folder / f"{number}",
            intensities(number),
            GRID,
            patient=f"P{number}",
            study=uid,
            series=f"{uid}.1",
            scaling=(1, -24),
        )
        if number < 2:
            write_seg(folder / f"{number}" / "seg.dcm", series, tumours(number))
        else:
            contours = {
                "node": [box_contour(GRID, z, (12, 12), (17, 15)) for z in range(7, 10)],
                "GTV": [box_contour(GRID, z, (4, 5), (11, 10)) for z in range(2, 6)],
            }
            write_rtstruct(folder / f"{number}" / "rt.dcm", series, contours)
    return folder


@pytest.fixture(scope="module")
def planned(archive, tmp_path_factory):
    roots = Roots(data_root=archive.parent, work=tmp_path_factory.mktemp("work"))
    written = plan(
        PlanRequest(roots=roots, dataset="Lung", preset="fast_prototyping", output=roots.work / "lung.json", jobs=1)
    )
    return roots, written.plan


def test_measured_voxels_of_each_label_are_those_drawn(archive, tmp_path):
    found = fingerprint(open_dataset(str(archive), tmp_path), Roots(work=tmp_path), jobs=1)
    assert [(channel.name, channel.kind) for channel in found.dataset.channels] == [("CT", "ct")]
    for number, case in enumerate(found.cases):
        assert case.case_id == case.group == f"P{number}"
        assert (case.shape, case.spacing_mm) == (SHAPE, (2.5, 0.9, 0.9))
        assert case.label_voxels == {name: int(mask.sum()) for name, mask in tumours(number).items()}
        assert set(case.run_lengths_mm) == {"GTV", "node"}
        for name, mask in tumours(number).items():
            extent = [mask.any(axis=others).sum() for others in ((1, 2), (0, 2), (0, 1))]
            assert case.run_lengths_mm[name] == pytest.approx(np.multiply(extent, case.spacing_mm)), "of a box"
    inside = np.concatenate([(intensities(n) - 24)[sum(tumours(n).values()) > 0] for n in range(3)])
    assert found.intensities["CT"].mean == pytest.approx(inside.mean(), abs=2)


def test_a_plan_is_made_and_preprocessed_once(planned, archive):
    roots, made = planned
    assert made.dataset.labels == {"background": 0, "GTV": 1, "node": 2}
    stored = preprocess(PreprocessRequest(roots=roots, plan=made, configurations=("3d_fullres",), jobs=1))["3d_fullres"]
    store = CaseStore(stored.folder, stored.keys)
    assert sorted(stored.keys) == ["P0", "P1", "P2"]
    before = {path: path.stat().st_mtime_ns for path in stored.folder.rglob("*")}
    again = preprocess(PreprocessRequest(roots=roots, plan=made, configurations=("3d_fullres",), jobs=1))["3d_fullres"]
    assert again == stored
    assert {path: path.stat().st_mtime_ns for path in stored.folder.rglob("*")} == before
    for number, case_id in enumerate(sorted(stored.keys)):
        assert store.num_voxels(case_id, 1) / store.num_voxels(case_id, 2) == pytest.approx(
            tumours(number)["GTV"].sum() / tumours(number)["node"].sum(), rel=0.25
        )


def test_other_names_of_the_same_values_have_another_address(planned):
    roots, made = planned
    renamed = made.model_copy(
        update={"dataset": made.dataset.model_copy(update={"labels": {"background": 0, "GTV": 2, "node": 1}})}
    )
    keys = [
        preprocess(PreprocessRequest(roots=roots, plan=one, configurations=("3d_fullres",), jobs=1))["3d_fullres"].keys
        for one in (made, renamed)
    ]
    assert not set(keys[0].values()) & set(keys[1].values())


def test_content_is_the_bytes_wherever_they_lie(planned, archive, tmp_path):
    roots, made = planned
    (tmp_path / "Lung").mkdir()
    for number, path in enumerate(sorted(archive.rglob("*.dcm"), reverse=True)):
        (tmp_path / "Lung" / f"file{number}").write_bytes(path.read_bytes())
    moved = open_planned_dataset(made, roots, str(tmp_path / "Lung"))
    here = open_planned_dataset(made, roots, None)
    hashes = check_content(made, moved, Roots(data_root=tmp_path, work=tmp_path / "work"))
    assert hashes == check_content(made, here, roots)
    (case, *_) = moved.cases
    path = Path(case_files(case)[3])
    path.write_bytes(path.read_bytes() + b"\0")
    states = hash_files(case_files(case))
    assert combine_hashes(case, {path: state.digest for path, state in states.items()}) != hashes[case.case_id]


@pytest.mark.slow
def test_a_model_is_trained_validated_and_used_on_dicom(planned, archive, tmp_path):
    roots, made = planned
    short = TrainOptions(epochs=1, iterations=2)
    done = train(TrainRequest(roots=roots, plan=made, fold="0", device="cpu", options=short, jobs=1))
    assert {case.label for case in done.metrics.cases} == set(NAMES)
    request = PredictRequest(
        models=(done.folder.root,), inputs=(archive / "2",), output=tmp_path / "out", device="cpu", mirroring=False
    )
    (written,) = predict(request).files.values()
    image = nibabel.load(written)
    assert written.name == "P2.nii.gz"
    assert image.shape == SHAPE[::-1]
    assert np.allclose(image.affine, GRID.affine, atol=1e-5)


def write_predictions(folder):
    folder.mkdir()
    for number in range(3):
        labels = np.zeros(SHAPE, np.uint8)
        for value, name in enumerate(NAMES, start=1):
            labels[tumours(number)[name]] = value
        nibabel.save(nibabel.Nifti1Image(labels.transpose(2, 1, 0), GRID.affine), folder / f"P{number}.nii.gz")
    return folder


def test_predictions_are_scored_against_dicom_labels(archive, tmp_path):
    predictions = write_predictions(tmp_path / "predictions")
    for references in (archive, archive / "2" / "rt.dcm", archive / "0"):
        given = (
            predictions if references == archive else predictions / f"P{2 if references.name == 'rt.dcm' else 0}.nii.gz"
        )
        report = evaluate(
            EvaluateRequest(
                predictions=(given,), references=(references,), dataset=str(archive), output=tmp_path / "out", jobs=1
            )
        )
        assert {case.label: case.scores["dsc"] for case in report.cases} == dict.fromkeys(NAMES, 1.0)
        assert len(report.cases) == (6 if references == archive else 2)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["failed"] == []


def test_dicom_labels_need_the_datasets_names_and_a_grid(archive, tmp_path):
    predictions = write_predictions(tmp_path / "predictions")
    with pytest.raises(InputError, match="labels that have names but no values; give -d DATASET"):
        evaluate(EvaluateRequest(predictions=(predictions,), references=(archive,), output=tmp_path / "out"))
    with pytest.raises(Exception, match="both segmentations are DICOM; expected one of a format with a grid"):
        evaluate(
            EvaluateRequest(
                predictions=(archive,), references=(archive,), dataset=str(archive), output=tmp_path / "out", jobs=1
            )
        )
