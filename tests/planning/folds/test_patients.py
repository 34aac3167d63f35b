"""Patients that case ids suggest."""

import pytest

from tumorseg.planning.folds.patients import describe_patients, parted_patients, suggest_patients


@pytest.mark.parametrize(
    ("ids", "patient"),
    [
        (["patient001_frame01", "patient001_frame12", "patient002_frame01"], "patient001"),
        (["sub-01_ses-01", "sub-01_ses-02", "sub-02_ses-01"], "sub-01"),
        (["sub-01_ses-preop", "sub-01_ses-postop", "sub-02_ses-preop"], "sub-01"),
        (["sub01ses1", "sub01ses2", "sub02ses1"], "sub01"),
        (["P12_pre", "P12_post", "P13_pre"], "P12"),
        (["P12pre", "P12post", "P13pre"], "P12"),
        (["0007_L", "0007_R", "0008_L"], "0007"),
        (["9001_LEFT_V00", "9001_RIGHT_V00", "9002_LEFT_V00"], "9001"),
        (["003", "003_followup", "004", "005"], "003"),
        (["PatientID_0003_Timepoint_1", "PatientID_0003_Timepoint_2", "PatientID_0004_Timepoint_1"], "PatientID_0003"),
        (["p00_t0", "p00_t1", "p01_t0"], "p00"),
        ([f"pat{n}_slice_{k:03}" for n in (1, 2) for k in range(40)], "pat1"),
        (["BraTS-GLI-00002-001", *(f"BraTS-GLI-{n:05}-000" for n in range(9))], "BraTS-GLI-00002"),
        ([f"{n:04}_{visit}" for n in range(7) for visit in (100, 101)], "0003"),
    ],
)
def test_ids_of_one_patient_are_recognised(ids, patient):
    found = suggest_patients(ids)
    assert patient in found.values()
    assert all(case_id.startswith(patient) for case_id, owner in found.items() if owner == patient)
    assert sum(owner == patient for owner in found.values()) >= 2


@pytest.mark.parametrize(
    "ids",
    [
        [f"{prefix}{n:03}" for n in range(30)]
        for prefix in ("", "s", "hippocampus_", "BRATS_", "la_", "L_", "slice_", "frame", "BraTS2021_00", "es_")
    ]
    + [
        [f"case_{n:05}" for n in range(30)],
        [f"kits19_case_{n:05}" for n in range(30)],
        [f"OASIS-TRT-20-{n}" for n in range(1, 21)],
        [f"BraTS-GLI-{n:05}-000" for n in range(30)],
        [f"BraTS20_Training_{n:03}" for n in range(30)],
        [
            "BraTS19_CBICA_AAB_1",
            "BraTS19_CBICA_AAG_1",
            "BraTS19_2013_10_1",
            "BraTS19_2013_11_1",
            "BraTS19_TCIA01_131_1",
        ],
        [f"sub-{n:02}_ses-01" for n in range(30)],
        [f"{n:04}_{'LR'[n % 2]}" for n in range(30)],
        [f"{site}-{n:03}" for site in ("CHUM", "MDA") for n in range(30)],
        [f"site{site}_{n:03}" for site in range(9) for n in range(3)],
        [f"{year}_{n:03}" for year in range(2015, 2023) for n in range(9)],
        [f"phase{n % 2}_{n // 2:03}" for n in range(30)],
        [f"patient001_frame{n:02}" for n in range(30)],
        [],
    ],
)
def test_consecutive_numbers_single_visits_and_sites_raise_no_alarm(ids):
    assert suggest_patients(ids) == {}


def test_only_patients_on_both_sides_of_a_fold_are_parted():
    patients = {"a1": "a", "a2": "a", "b1": "b", "b2": "b"}
    assert parted_patients(patients, [("a1", "b1", "b2"), ("a2",)]) == {"a1": "a", "a2": "a"}
    assert parted_patients(patients, [("a1", "b1", "b2"), ("a2",)], [("a2",), ("a1",)]) == {}
    assert describe_patients(patients) == "2 patients with several cases, such as a with a1 and a2"
