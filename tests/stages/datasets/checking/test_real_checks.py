"""What the check says of real sets: their true problems, and nothing else."""

import time

import pytest

from tumorseg.stages.datasets.check import CheckRequest, check
from tumorseg.stages.opening.loaded import Roots

pytestmark = [pytest.mark.real, pytest.mark.slow]


def checked(real_data, dataset):
    return check(CheckRequest(roots=Roots(data_root=real_data), dataset=dataset, jobs=2)).report


def grave(report):
    return {found.kind for found in report.findings if found.severity != "note"}


@pytest.mark.parametrize(
    "dataset",
    ["BraTS2018_FLAIR_T1", "Dataset051_SarcomaPETCT", "CT_Liver_IRCADb17", "NRRD", "PNG_2D_ISBI2012"],
)
def test_sound_sets_have_no_error_and_no_warning(real_data, dataset):
    assert grave(checked(real_data, dataset)) == set()


def test_the_many_labels_of_an_atlas_are_a_warning_and_no_error(real_data):
    report = checked(real_data, "NIfTI_2D_OASIS")
    assert grave(report) == {"many_labels", "cropped_label"}
    assert report.counts["error"] == 0


def test_hippocampus_shows_the_cases_of_another_intensity_scale_within_seconds(real_data):
    started = time.monotonic()
    report = checked(real_data, "MSD_Hippocampus")
    assert time.monotonic() - started < 60
    assert grave(report) == {"intensity_outlier"}
    assert report.num_cases == 200
    assert 20 <= report.counts["warning"] <= 30


def test_brats_lacks_enhancing_tumour_in_two_cases(real_data):
    report = checked(real_data, "BraTS2021")
    assert grave(report) == set()
    lacking = [found.case_ids for found in report.findings if found.kind == "label_not_in_case"]
    assert lacking == [("BraTS2021_01477",), ("BraTS2021_01480",)]


def test_both_frames_of_each_heart_are_found_to_be_of_one_patient(real_data):
    report = checked(real_data, "Dataset027_ACDC")
    assert grave(report) == {"near_duplicate"}
    pairs = [found.case_ids for found in report.findings if found.kind == "near_duplicate"]
    assert len(pairs) == 13
    assert all(first.split("_")[0] == second.split("_")[0] for first, second in pairs)
