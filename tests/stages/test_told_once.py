"""What a command has to say of a series of slices, it says once."""

import shutil

import numpy as np
import pydicom
import pytest

from tests.dicoms import rewrite, write_seg, write_series
from tumorseg.stages.datasets.check import CheckRequest, check
from tumorseg.stages.opening.loaded import Roots
from tumorseg.stages.planning.plan import PlanRequest, plan
from tumorseg.stages.training.preprocess import PreprocessRequest, preprocess

SHAPE = (14, 34, 30)
NUM_CASES = 3


@pytest.fixture(scope="module")
def tilted(tmp_path_factory):
    """Studies of CT with a tilted gantry, one file of each twice."""
    folder = tmp_path_factory.mktemp("data") / "Tilted"
    for number in range(NUM_CASES):
        image = np.random.default_rng(number).integers(-200, 200, SHAPE).astype(np.int16)
        image[:, :4] = -1000
        mask = np.zeros(SHAPE, bool)
        mask[3:9, 10:22, 8:18] = True
        image[mask] += 600
        fields = {"patient": f"P{number}", "study": f"1.5.{number}", "series": f"1.5.{number}.1"}
        paths = write_series(folder / f"{number}" / "ct", image, **fields)
        for index, path in enumerate(paths):
            x, y, z = pydicom.dcmread(path).ImagePositionPatient
            rewrite(path, ImagePositionPatient=[float(x), float(y) - 0.5 * index, float(z)])
        shutil.copy(paths[3], paths[3].parent / "zz copy.dcm")
        write_seg(folder / f"{number}" / "seg.dcm", paths, {"GTV": mask})
    return folder


def counts(text):
    return text.count("a tilted gantry"), text.count("found copies of other files")


@pytest.mark.slow
def test_a_tilt_and_copies_are_told_once_for_each_series_by_each_command(tilted, tmp_path, caplog):
    roots = Roots(data_root=tilted.parent, work=tmp_path / "runs")
    made = plan(
        PlanRequest(roots=roots, dataset="Tilted", preset="fast_prototyping", output=tmp_path / "plan.json", jobs=1)
    ).plan
    assert counts(caplog.text) == (NUM_CASES, NUM_CASES)
    assert len(made.configurations) > 1
    caplog.clear()
    preprocess(PreprocessRequest(roots=roots, plan=made, jobs=1))
    assert counts(caplog.text) == (NUM_CASES, NUM_CASES)
    caplog.clear()
    messages = [one.message for one in check(CheckRequest(roots=roots, dataset="Tilted", jobs=1)).report.findings]
    assert counts("\n".join(messages)) == (NUM_CASES, NUM_CASES)
    assert counts(caplog.text) == (0, 0)
