"""Labels that differ by their side."""

import pytest

from tumorseg.planning.laterality import mirror_pairs


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("left", "right"),
        ("kidney_left", "kidney_right"),
        ("Left Kidney", "Right Kidney"),
        ("LeftKidney", "RightKidney"),
        ("kidney_L", "kidney_R"),
        ("l-kidney", "r-kidney"),
        ("lh.hippocampus", "rh.hippocampus"),
        ("lung_left_upper", "lung_right_upper"),
        ("ovarium sinister", "ovarium dexter"),
        ("lt_lung", "rt_lung"),
        ("leftkidney", "rightkidney"),
        ("left kidney", "kidney right"),
        ("KIDNEYLEFT", "KIDNEYRIGHT"),
        ("LKidney", "RKidney"),
        ("lkidney", "rkidney"),
        ("HIPPOCAMPUSL", "HIPPOCAMPUSR"),
        ("Kidney_L1", "Kidney_R1"),
        ("LUL", "RUL"),
        ("left lung left lobe", "right lung right lobe"),
        ("ovaia sinistra", "ovaia dextra"),
        ("niere links", "niere rechts"),
    ],
)
def test_a_pair_is_found_whatever_its_spelling(left, right):
    assert mirror_pairs(["background", right, "tumour", left]) == ((left, right),)


@pytest.mark.parametrize(
    "names",
    [
        ["background", "liver", "tumour"],
        ["left kidney", "right lung"],
        ["left kidney"],
        ["anterior", "posterior"],
        ["RV", "MYO", "LV"],
        ["liver", "lung", "ribs"],
        ["cleft", "bright"],
        ["left upper lobe", "right lower lobe"],
        [],
    ],
)
def test_other_labels_are_no_pair(names):
    assert mirror_pairs(names) == ()


def test_every_pair_is_listed():
    names = ["lung_left", "lung_right", "kidney_left", "kidney_right", "liver"]
    assert mirror_pairs(names) == (("kidney_left", "kidney_right"), ("lung_left", "lung_right"))
