"""What is measured of the targets of a dataset."""

import numpy as np
import pytest

from tests.toys import LABELS, SPACINGS, toy_arrays, write_toy
from tumorseg.schema.dataset import Region
from tumorseg.sources.registry import open_dataset
from tumorseg.stages.opening.loaded import Roots
from tumorseg.stages.planning.fingerprint import fingerprint
from tumorseg.storage.layout import work_folder

REGIONS = (Region(name="ball", labels=(2, 7), value=2), Region(name="core", labels=(7,), value=7))


def mean_run(mask, axis):
    """Return the mean length of the rows of voxels along an axis."""
    padded = np.pad(mask, 1).astype(np.int8)
    return mask.sum() / (np.diff(padded, axis=axis) == 1).sum()


def run_lengths_mm(number, values):
    """Return what is expected of a toy case, (Z, Y, X)."""
    mask = np.isin(toy_arrays(number)[1], values)
    return [mean_run(mask, axis) * SPACINGS[number % 6][axis] for axis in (2, 1, 0)]


def test_runs_are_those_of_labels_or_of_regions_and_measured_anew_for_others(tmp_path):
    dataset = open_dataset(str(write_toy(tmp_path / "Toy", num_cases=3)), tmp_path)
    roots = Roots(work=tmp_path / "work")
    of_labels = fingerprint(dataset, roots, jobs=1).cases
    of_regions = fingerprint(dataset.model_copy(update={"regions": REGIONS}), roots, jobs=1).cases
    for number in range(2):
        assert set(of_labels[number].run_lengths_mm) == {"shell", "core"}
        assert set(of_regions[number].run_lengths_mm) == {"ball", "core"}
        shell, ball = of_labels[number].run_lengths_mm["shell"], of_regions[number].run_lengths_mm["ball"]
        assert shell == pytest.approx(run_lengths_mm(number, [LABELS["shell"]]))
        assert ball == pytest.approx(run_lengths_mm(number, [LABELS["shell"], LABELS["core"]]))
        assert of_regions[number].label_voxels == of_labels[number].label_voxels
    assert of_labels[2].run_lengths_mm == {}, "of a case without foreground"
    assert len(list(work_folder(roots.work, dataset.name).measurements.glob("*.json"))) == 6
    assert fingerprint(dataset, roots, jobs=1).cases == of_labels
    assert len(list(work_folder(roots.work, dataset.name).measurements.glob("*.json"))) == 6
