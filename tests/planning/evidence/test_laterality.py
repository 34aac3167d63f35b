"""Labels that differ by their side: in name, in the images, and what a plan makes of them."""

from typing import NamedTuple

import numpy as np
import pytest

from tests.planning.measured import case, equal_cases, fingerprint, made, planned, with_preset
from tumorseg.planning.evidence.laterality import mirror_pairs, mirrored_in_images
from tumorseg.planning.options import PlanOptions
from tumorseg.planning.reading.soundness import check_plan, parse_plan


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
        ("linke Niere", "rechte Niere"),
        ("linker Lungenflügel", "rechter Lungenflügel"),
        ("linkes Auge", "rechtes Auge"),
        ("Niere li.", "Niere re."),
        ("niere_li", "niere_re"),
        ("NiereLi", "NiereRe"),
        ("niereli", "nierere"),
        ("linker nier", "rechter nier"),
        ("rein gauche", "rein droit"),
        ("Veine rénale gauche", "veine renale droite"),
        ("rein G", "rein D"),
        ("riñón izquierdo", "riñón derecho"),
        ("mama izquierda", "mama derecha"),
        ("Riñón izq.", "Riñón der."),
        ("rene sinistro", "rene destro"),
        ("mammella sinistra", "mammella destra"),
        ("rene sx", "rene dx"),
        ("ren sin", "ren dx"),
        ("rim esquerdo", "rim direito"),
        ("mama esquerda", "MAMA DIREITA"),
        ("venstre nyre", "høyre nyre"),
        ("vänster njure", "höger njure"),
        ("lewa nerka", "prawa nerka"),
        ("levá ledvina", "pravá ledvina"),
        ("левая почка", "правая почка"),
        ("лев. почка", "прав. почка"),
        ("左肾", "右肾"),
        ("左侧肾脏", "右侧肾脏"),
        ("肺左上叶", "肺右上叶"),
        ("肾（左）", "肾（右）"),
        ("좌신장", "우신장"),
        ("LK", "RK"),
        ("lk", "rk"),
        ("LKid", "RKid"),
        ("lad", "rad"),
        ("LAG", "RAG"),
        ("LPA", "RPA"),
        ("LLL", "RLL"),
        ("KidneyL", "KidneyR"),
        ("KIDNEYLT", "KIDNEYRT"),
        ("Parotid (L)", "Parotid (R)"),
        ("Kidney Lt", "Right kidney"),
        ("l-kidney", "kidney_right"),
        ("Left Ventricle", "Right Ventricle"),
        ("KIDNEY L", "KIDNEY R"),
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
        ["LV", "RV", "LA", "RA", "LAA", "RAA", "Myo", "AO", "PA"],
        ["lv", "rv", "la", "ra"],
        ["L_V", "R_V", "L A", "R A"],
        [
            "LV blood pool",
            "RV blood pool",
            "LVmyo",
            "RVmyo",
            "LVOT",
            "RVOT",
            "LV_wall",
            "RV_wall",
            "LVcavity",
            "RVcavity",
        ],
        ["LAD", "RCA", "LCX", "LM"],
        ["rectum", "lectus"],
        ["liver", "rectum", "lymph nodes", "renal vein", "rib", "lung", "larynx", "femur", "vessel"],
        ["index", "insin", "sinus", "dextrose"],
        ["gland", "dland", "grey", "drey"],
        ["C7", "T12", "L1", "L5", "S1"],
        ["WT", "TC", "ET"],
        ["PZ", "TZ", "GTVp", "GTVn", "label_1", "label_2"],
        ["cleft lip", "bright lip"],
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


def test_a_whole_atlas_pairs_as_it_should():
    sided = ("kidney", "adrenal_gland", "iliac_artery", "femur", "autochthon", "gluteus_maximus", "scapula")
    single = (
        *(
            "liver",
            "spleen",
            "colon",
            "trachea",
            "prostate",
            "vertebrae_L1",
            "vertebrae_L5",
            "vertebrae_S1",
            "rib_left_1",
        ),
        *(
            "rib_left_2",
            "rib_right_1",
            "sternum",
            "lung_middle_lobe_right",
            "atrial_appendage_left",
            "portal_vein_and_splenic_vein",
        ),
    )
    names = [f"{name}_{side}" for name in sided for side in ("left", "right")]
    expected = [(f"{name}_left", f"{name}_right") for name in sorted(sided)]
    assert mirror_pairs([*single, *names]) == tuple(sorted([*expected, ("rib_left_1", "rib_right_1")]))


class Organ(NamedTuple):
    """A box-like structure in a body 400 mm wide, in mm along (Z, Y, X); X runs from the patient's left to the right."""

    centre: tuple[float, float, float]
    extent: tuple[float, float, float]
    ml: float


LEFT_KIDNEY = Organ((210, 140, 135), (112, 62, 60), 165)
RIGHT_KIDNEY = Organ((192, 143, 268), (108, 60, 62), 155)
LIVER = Organ((255, 200, 262), (165, 180, 215), 1550)
SPLEEN = Organ((258, 138, 100), (105, 75, 70), 190)
LEFT_LUNG = Organ((350, 180, 120), (240, 170, 118), 1250)
RIGHT_LUNG = Organ((345, 182, 275), (230, 175, 135), 1480)
PERIPHERAL = Organ((20, 25, 32), (42, 28, 46), 22)
TRANSITION = Organ((24, 36, 32), (38, 34, 40), 27)
ANTERIOR = Organ((17, 36, 18), (18, 20, 17), 1.4)
POSTERIOR = Organ((19, 18, 20), (20, 26, 15), 1.3)
LV = Organ((45, 95, 110), (75, 50, 52), 95)
RV = Organ((42, 120, 138), (72, 55, 78), 100)
LEFT_FEMUR = Organ((60, 120, 105), (90, 55, 60), 110)
RIGHT_FEMUR = Organ((60, 120, 295), (90, 55, 60), 110)


def patients(organs, count=20, **odd):
    """Return cases of organs by name, each a few mm elsewhere and of another size; `odd` gives the last cases other organs."""
    rng = np.random.default_rng(0)
    others = odd.get("others", [])
    found = []
    for number in range(count):
        is_odd = number >= count - len(others)
        mine = organs | (others[number - count + len(others)] if is_odd else {})
        scale = rng.uniform(0.9, 1.1)
        shift = rng.uniform(-4, 4, 3)
        places = {name: place(organ, scale, shift) for name, organ in mine.items()}
        voxels = {name: round(organ.ml * scale**3 * 1000 / (3 * 0.8 * 0.8)) for name, organ in mine.items()}
        measured = case(f"p{number:02}", (3.0, 0.8, 0.8), (160, 400, 500), label_places=places, label_voxels=voxels)
        found.append(measured)
    return found


def place(organ, scale, shift):
    centre = np.array(organ.centre) * scale + shift
    half = np.array(organ.extent) * scale / 2 - np.array((3.0, 0.8, 0.8)) / 2
    return {"centroid_mm": centre.tolist(), "low_mm": (centre - half).tolist(), "high_mm": (centre + half).tolist()}


def pairs_of(cases):
    return [(one.left, one.right) for one in mirrored_in_images(cases, ["a", "b"])]


@pytest.mark.parametrize(
    ("left", "right"), [(LEFT_KIDNEY, RIGHT_KIDNEY), (LEFT_LUNG, RIGHT_LUNG), (LEFT_FEMUR, RIGHT_FEMUR)]
)
def test_two_sides_of_an_organ_are_told_by_the_images(left, right):
    (found,) = mirrored_in_images(patients({"b": left, "a": right}), ["a", "b"])
    assert (found.left, found.right, found.num_mirrored, found.num_cases) == ("b", "a", 20, 20)
    apart = np.abs(np.subtract(left.centre, right.centre))[:2]
    assert found.offsets_mm == pytest.approx(apart, rel=0.1)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (LIVER, SPLEEN),
        (RIGHT_KIDNEY, SPLEEN),
        (LEFT_KIDNEY, SPLEEN),
        (PERIPHERAL, TRANSITION),
        (ANTERIOR, POSTERIOR),
        (LV, RV),
        (LIVER, LEFT_KIDNEY),
        (LEFT_LUNG, RIGHT_KIDNEY),
    ],
    ids=[
        "liver and spleen",
        "kidney and spleen",
        "two on the left",
        "zones",
        "hippocampus",
        "heart",
        "sizes",
        "levels",
    ],
)
def test_other_organs_are_no_sides_of_one(one, two):
    assert pairs_of(patients({"a": one, "b": two})) == []


@pytest.mark.parametrize(("count", "num_pairs"), [(9, 0), (10, 1)])
def test_ten_cases_are_needed(count, num_pairs):
    assert len(pairs_of(patients({"a": LEFT_KIDNEY, "b": RIGHT_KIDNEY}, count))) == num_pairs


MOVED = {
    "sides swapped": {"a": RIGHT_KIDNEY, "b": LEFT_KIDNEY},
    "overlap": {"b": RIGHT_KIDNEY._replace(centre=(192, 143, 190))},
    "too high": {"b": RIGHT_KIDNEY._replace(centre=(245, 143, 268))},
    "too far back": {"b": RIGHT_KIDNEY._replace(centre=(192, 120, 268))},
    "too large": {"b": RIGHT_KIDNEY._replace(ml=260)},
    "too small": {"b": RIGHT_KIDNEY._replace(ml=105)},
}


@pytest.mark.parametrize("change", MOVED)
def test_one_case_in_ten_may_look_otherwise(change):
    organs = {"a": LEFT_KIDNEY, "b": RIGHT_KIDNEY}
    (found,) = mirrored_in_images(patients(organs, others=[MOVED[change]] * 2), ["a", "b"])
    assert (found.num_mirrored, found.num_cases) == (18, 20)
    assert pairs_of(patients(organs, others=[MOVED[change]] * 3)) == []


def test_cases_that_lack_one_of_the_two_do_not_count():
    cases = patients({"a": LEFT_KIDNEY, "b": RIGHT_KIDNEY}, 10)
    alone = patients({"a": LEFT_KIDNEY}, 15)
    empty = [case("none"), case("unlabelled", label_voxels={"a": 0, "b": 0}, label_places={})]
    (found,) = mirrored_in_images([*alone, *cases, *empty], ["a", "b"])
    assert (found.num_mirrored, found.num_cases) == (10, 10)


def test_many_labels_are_compared_with_each_other():
    organs = {
        "k1": LEFT_KIDNEY,
        "k2": RIGHT_KIDNEY,
        "l1": LEFT_LUNG,
        "l2": RIGHT_LUNG,
        "liver": LIVER,
        "spleen": SPLEEN,
    }
    found = mirrored_in_images(patients(organs), list(organs))
    assert [(one.left, one.right) for one in found] == [("k1", "k2"), ("l1", "l2")]


KIDNEYS = {"background": 0, "one": 1, "other": 2}
FIELD = "configurations.3d_fullres.inference.mirroring_axes"


def kidney_fingerprint(labels=KIDNEYS, **organs):
    return fingerprint(patients(organs or {"one": LEFT_KIDNEY, "other": RIGHT_KIDNEY}), labels=labels)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("kidney_left", "kidney_right"),
        ("linke Niere", "rechte Niere"),
        ("rein gauche", "rein droit"),
        ("riñón izquierdo", "riñón derecho"),
        ("rene sinistro", "rene destro"),
        ("LK", "RK"),
        ("niere_li", "niere_re"),
        ("左肾", "右肾"),
        ("левая почка", "правая почка"),
    ],
)
@pytest.mark.parametrize("preset", ["optimized", "nnunet"])
def test_a_plan_mirrors_no_sides_however_they_are_spelled(left, right, preset):
    plan = planned(fingerprint(equal_cases(12), labels={"background": 0, right: 1, left: 2}), preset=preset)
    for name, axes in (("2d", (0,)), ("3d_fullres", (0, 1))):
        assert plan.configurations[name].inference.mirroring_axes == axes
    assert plan.reasons[FIELD].inputs == {"pairs": [[left, right]]}


def test_a_plan_mirrors_no_sides_that_only_the_images_tell():
    plan = planned(kidney_fingerprint())
    for name, axes in (("2d", (0,)), ("3d_fullres", (0, 1))):
        assert plan.configurations[name].inference.mirroring_axes == axes
    (found,) = plan.dataset.mirrored_labels
    assert plan.reasons[FIELD].inputs == {"pairs": [], "mirrored_in_images": [found.model_dump(mode="json")]}
    assert "one and other mirror each other in 20 of 20 cases" in plan.reasons[FIELD].rule


def test_a_plan_mirrors_all_axes_where_labels_are_no_sides():
    plan = planned(kidney_fingerprint(one=LIVER, other=SPLEEN))
    assert plan.configurations["3d_fullres"].inference.mirroring_axes == (0, 1, 2)
    assert plan.dataset.mirrored_labels == ()
    assert plan.reasons[FIELD].inputs == {"pairs": []}


def test_what_is_ignored_is_no_side():
    measured = fingerprint(
        patients({"one": LEFT_KIDNEY, "other": RIGHT_KIDNEY}), labels=KIDNEYS, ignore_label=KIDNEYS["other"]
    )
    assert planned(measured).dataset.mirrored_labels == ()


@pytest.mark.parametrize("preset", ["nnunet", "nnunet_resenc_m"])
def test_nnunets_presets_mirror_what_only_the_images_tell_and_warn(preset):
    plan, warnings = made(kidney_fingerprint(), PlanOptions(**with_preset({"preset": preset})))
    assert plan.configurations["3d_fullres"].inference.mirroring_axes == (0, 1, 2)
    assert "although one and other mirror each other in 20 of 20 cases" in plan.reasons[FIELD].rule
    told = [warning for warning in warnings if "one and other mirror each other in 20 of 20 cases" in warning]
    assert len(told) == len(plan.configurations)
    assert all("preset" in warning for warning in told)


def test_a_preset_without_mirroring_has_nothing_to_warn_of():
    assert not made(kidney_fingerprint(), PlanOptions(**with_preset({"preset": "fast_prototyping"}))).warnings


@pytest.mark.parametrize("labels", [KIDNEYS, {"background": 0, "LK": 1, "RK": 2}])
def test_an_edited_plan_that_mirrors_sides_is_warned_of(labels):
    one, other = list(labels)[1:]
    measured = kidney_fingerprint(labels, **{one: LEFT_KIDNEY, other: RIGHT_KIDNEY})
    document = planned(measured).model_dump(mode="json")
    assert check_plan(parse_plan(document), {}) == []
    document["configurations"]["2d"]["inference"]["mirroring_axes"] = [0, 1]
    (found,) = check_plan(parse_plan(document), {})
    assert found.kind == "mirrors_sides"
    assert f"configurations.2d: mirrors left and right (axis 1), although {one} and {other} " in found.message


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Left Kidney (LK)", "Right Kidney (RK)"),
        ("left_lung_L", "right_lung_R"),
        ("Lunge links (li)", "Lunge rechts (re)"),
        ("左肾 left kidney", "右肾 right kidney"),
        ("rein gauche (G)", "rein droit (D)"),
        ("Left Ventricle (LV)", "Right Ventricle (RV)"),
    ],
)
def test_a_side_that_is_told_twice_is_still_a_side(left, right):
    assert mirror_pairs([left, right]) == ((left, right),)
