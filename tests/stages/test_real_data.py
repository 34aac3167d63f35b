"""The main job on real images, shortened; the full length is benchmarks/hippocampus.py."""

import json
import shutil
import subprocess
import sys

import nibabel
import numpy as np
import pytest
import SimpleITK

from tests.conftest import REAL
from tumorseg.stages.inference.predict import PredictRequest, predict
from tumorseg.stages.opening.fold_folders import TrainOptions
from tumorseg.stages.opening.loaded import Roots
from tumorseg.stages.planning.plan import PlanRequest, plan
from tumorseg.stages.training.request import TrainRequest
from tumorseg.stages.training.train import train

pytestmark = [pytest.mark.real, pytest.mark.slow]
SHORT = TrainOptions(epochs=1, iterations=1)


def planned(tmp_path, data_root, dataset, **options):
    roots = Roots(data_root=data_root, work=tmp_path / "runs")
    request = PlanRequest(
        roots=roots, dataset=dataset, preset="fast_prototyping", output=tmp_path / "p.json", **options
    )
    return roots, plan(request).plan


def short_chain(tmp_path, roots, made, source, configuration=None):
    """Train one step, predict one image, and return the predicted file."""
    request = TrainRequest(
        roots=roots, plan=made, fold="0", device="cpu", options=SHORT, has_validation=False, configuration=configuration
    )
    folder = train(request).folder.root
    made_files = predict(
        PredictRequest(models=(folder,), inputs=(source,), output=tmp_path / "out", mirroring=False, device="cpu")
    ).files
    (path,) = made_files.values()
    return path


def copy_hippocampus(real_data, root, num_cases):
    """Write a dataset of the first cases alone: to read and to score 200 takes longer than to learn."""
    source, target = real_data / "Task04_Hippocampus", root / "Task04_Hippocampus"
    document = json.loads((source / "dataset.json").read_text())
    document["training"] = document["training"][:num_cases]
    for case in document["training"]:
        for file in case.values():
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / file, target / file)
    (target / "dataset.json").write_text(json.dumps(document | {"numTraining": num_cases}))


def write_part(image, path):
    """Write the middle of an image, where it lies in the world: the whole of a brain takes a minute to segment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.load(image).slicer[70:170, 72:180, 40:120], path)
    return path


@pytest.fixture(scope="module")
def parts(real_data, tmp_path_factory):
    """Return a folder of three cases of BraTS2021, cut."""
    folder = tmp_path_factory.mktemp("parts") / "BraTS2021"
    for case in sorted((real_data / "BraTS2021").iterdir())[:3]:
        for image in case.iterdir():
            write_part(image, folder / case.name / image.name)
    return folder


def assert_same_geometry(prediction, image):
    a, b = nibabel.load(image), nibabel.load(prediction)
    assert a.shape[:3] == b.shape
    assert np.array_equal(a.affine, b.affine)
    x, y = SimpleITK.ReadImage(str(prediction)), nibabel.load(prediction)
    assert x.GetSize() == y.shape
    assert np.allclose(x.GetOrigin(), np.diag([-1, -1, 1]) @ y.affine[:3, 3], atol=1e-4)


def test_hippocampus_is_learnt_in_48_steps(real_data, tmp_path):
    copy_hippocampus(real_data, tmp_path / "data", num_cases=30)
    roots, made = planned(tmp_path, tmp_path / "data", "MSD_Hippocampus")
    # Not a number of minutes, as how many steps these hold depends on the machine.
    options = TrainOptions(epochs=4, iterations=12)
    metrics = train(TrainRequest(roots=roots, plan=made, fold="0", device="cpu", options=options)).metrics
    scores = {label: summary.metrics["dsc"].mean for label, summary in metrics.summary.items()}
    assert scores["Anterior"] >= 0.5
    assert scores["Posterior"] >= 0.5


def test_brats_runs_with_regions_and_keeps_geometry(parts, tmp_path):
    roots, made = planned(tmp_path, parts.parent, "BraTS2021")
    assert [(region.name, region.labels) for region in made.dataset.regions] == [
        ("WT", (1, 2, 4)),
        ("TC", (1, 4)),
        ("ET", (4,)),
    ]
    case = sorted(parts.iterdir())[0]
    path = short_chain(tmp_path, roots, made, case)
    assert_same_geometry(path, case / f"{case.name}_t1.nii.gz")
    assert set(np.unique(np.asanyarray(nibabel.load(path).dataobj))) <= {0, 1, 2, 4}


def test_msd_brain_runs_with_labels_and_is_planned_with_regions(parts, tmp_path):
    # The script takes the cases beside it.
    script = shutil.copy(REAL / "make_msd_brain.py", parts.parent)
    subprocess.run([sys.executable, str(script), str(tmp_path / "data")], check=True, capture_output=True)
    _, of_regions = planned(tmp_path, tmp_path / "data", "MSD_Brain", regions="brats")
    found = [(region.name, region.labels) for region in of_regions.dataset.regions]
    assert found == [("WT", (1, 2, 3)), ("TC", (2, 3)), ("ET", (3,))]
    # That trainings take regions is shown on BraTS2021 above.
    roots, made = planned(tmp_path, tmp_path / "data", "MSD_Brain")
    assert not made.dataset.regions
    image = tmp_path / "data" / "Task01_BrainTumour" / "imagesTr" / "BRATS_001.nii.gz"
    path = short_chain(tmp_path, roots, made, image)
    assert_same_geometry(path, image)


def test_acdc_is_planned_anisotropic_and_runs_in_3d_and_2d(real_data, tmp_path):
    ids = sorted(path.name[:-7] for path in (real_data / "Dataset027_ACDC" / "labelsTr").glob("*.nii.gz"))
    patients = sorted({case_id.split("_")[0] for case_id in ids})
    folds = [[i for i in ids if i.split("_")[0] in patients[k::5]] for k in range(5)]
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps(folds))
    roots, made = planned(tmp_path, real_data, "Dataset027_ACDC", splits=str(splits))
    network = made.configurations["3d_fullres"].network
    assert network.kernel_sizes[0] == (1, 3, 3)
    assert network.strides[1] == (1, 2, 2)
    assert [list(fold) for fold in made.folds] == [sorted(fold) for fold in folds]
    image = sorted((real_data / "Dataset027_ACDC" / "imagesTr").glob("*.nii.gz"))[0]
    for configuration in ("3d_fullres", "2d"):
        path = short_chain(tmp_path / configuration, roots, made, image, configuration)
        assert_same_geometry(path, image)


def test_flat_images_with_sparse_labels_get_a_2d_plan_and_run(real_data, tmp_path):
    roots, made = planned(tmp_path, real_data, "NIfTI_2D_OASIS")
    assert made.default_configuration == "2d"
    assert list(made.configurations) == ["2d"]
    image = sorted((real_data / "NIfTI_2D_OASIS" / "Atlases").glob("*.nii.gz"))[0]
    path = short_chain(tmp_path, roots, made, image)
    assert nibabel.load(path).shape == nibabel.load(image).shape
    assert set(np.unique(np.asanyarray(nibabel.load(path).dataobj))) <= set(made.dataset.labels.values())
