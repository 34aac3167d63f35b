"""Labels in coded terms, by their names; every code that is shipped is one of its terminology."""

import pytest
from pydicom.sr._concepts_dict import concepts

from tumorseg.schema import common_codes, label_terms
from tumorseg.schema.codes import CodedTerm
from tumorseg.schema.common_codes import UNKNOWN_TISSUE, category_of, key_of, known_code

# Of the label table that is published with TotalSegmentator (Apache-2.0); pydicom's dictionary lacks these.
OF_TOTALSEGMENTATOR = {
    "110765007": "Portal vein and splenic vein",
    "206007": "Structure of gluteus maximus muscle",  # there 181674001, which is the entire muscle
    "244849004": "Deep muscle of back",
    "3572006": "Vertebral body",
    "47351003": "Infiltrate",
    "65985001": "S1 vertebra",
    "67769002": "Subcutaneous fatty tissue",
    "68455001": "Iliopsoas muscle",
    "74281007": "Myocardium",
    "75297007": "Gluteus minimus muscle",  # there misspelt
    "78333006": "Gluteus medius muscle",
    "48535007": "First rib",
    "78247007": "Second rib",
    "25888004": "Third rib",
    "25523003": "Fourth rib",
    "15339008": "Fifth rib",
    "59558009": "Sixth rib",
    "24915002": "Seventh rib",
    "5953002": "Eighth rib",
    "22565002": "Ninth rib",
    "77644006": "Tenth rib",
    "58830002": "Eleventh rib",
    "43993008": "Twelfth rib",
}
# pydicom calls it a body structure; DICOM's list of categories (CID 7150) calls it this.
OF_DICOM = {"123037004": "Anatomical Structure"}


def shipped_terms():
    """Return every term of the table, once."""
    found = [*common_codes._sides().values(), *common_codes._categories().values()]
    for code in common_codes._table().codes.values():
        found += [term for term in (code.type, code.region, code.side) if term is not None]
    return sorted({(term.scheme, term.value, term.meaning) for term in found})


def meanings_in_pydicom():
    found = {}
    for scheme in ("SCT", "NCIt"):
        for entries in concepts[scheme].values():
            for value, (meaning, _) in entries.items():
                found.setdefault((scheme, value), set()).add(meaning.lower())
    return found


def test_every_code_means_what_its_terminology_says():
    known = meanings_in_pydicom()
    assert len(shipped_terms()) > 150
    for scheme, value, meaning in shipped_terms():
        elsewhere = {**OF_TOTALSEGMENTATOR, **OF_DICOM}.get(value)
        assert meaning.lower() in known.get((scheme, value), set()) or meaning == elsewhere, (value, meaning)


def test_every_code_of_snomed_has_its_check_digit():
    assert has_check_digit("10200004")
    assert not has_check_digit("10200005")
    assert not has_check_digit("12000004")
    for scheme, value, _ in shipped_terms():
        assert scheme != "SCT" or has_check_digit(value), value


def has_check_digit(digits):
    """Tell whether the last digit is Verhoeff's of the others, as in all identifiers of SNOMED CT."""
    turns = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]
    permuted = [list(range(10))]
    for _ in range(7):
        permuted.append([turns[digit] for digit in permuted[-1]])
    found = 0
    for place, digit in enumerate(reversed(digits)):
        found = dihedral(found, permuted[place % 8][int(digit)])
    return found == 0


def dihedral(first, second):
    """Return the product of two elements of the symmetries of a pentagon, turns first."""
    turn = first + second if first < 5 else first - second
    return turn % 5 + (5 if (first < 5) != (second < 5) else 0)


def told(code):
    parts = (code.type, code.region, code.side)
    return [part.meaning for part in parts if part is not None]


@pytest.mark.parametrize(
    "name", ["kidney_left", "left_kidney", "Left Kidney", "LeftKidney", "KIDNEY-L", "Kidneys (left)", "lt kidney"]
)
def test_spelling_and_the_place_of_the_side_do_not_matter(name):
    assert told(known_code(name)) == ["Kidney", "Left"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pancreas", ["Pancreas"]),
        ("heart_ventricle_left", ["Left ventricle"]),
        ("Left-Lateral-Ventricle", ["Lateral Ventricle", "Left"]),
        ("MYO", ["Left Ventricle Myocardium"]),
        ("vertebrae_L1", ["L1 vertebra"]),
        ("T12 vertebra", ["T12 vertebra"]),
        ("rib_right_12", ["Twelfth rib", "Right"]),
        ("lung_upper_lobe_left", ["Upper lobe of lung", "Left"]),
        ("lung_middle_lobe_right", ["Middle lobe of right lung"]),
        ("hippocampus_posterior", ["Hippocampus", "Posterior"]),
        ("enhancing tumour", ["Enhancing Lesion"]),
        ("non-enhancing tumor", ["Non-Enhancing Lesion"]),
        ("necrotic core", ["Necrosis"]),
        ("edema", ["Edema"]),
        ("GTVp", ["Neoplasm, Primary"]),
        ("GTVn", ["Neoplasm, Secondary", "Lymph Node"]),
        ("liver tumour", ["Neoplasm", "Liver"]),
        ("lesion of the left kidney", ["Lesion", "Kidney", "Left"]),
        ("kidney_cyst_right", ["Cyst", "Kidney", "Right"]),
        ("csf", ["Cerebrospinal Fluid"]),
    ],
)
def test_common_names_are_known(name, expected):
    assert told(known_code(name)) == expected


@pytest.mark.parametrize(
    "name",
    [
        "label_3",
        "left",
        "",
        "ROI",
        "Anterior",
        "liver kidney",
        "tumor lesion",
        "left hippocampus head",
        "lung_middle_lobe_left",
        "lesion lung middle lobe left",
        "right myo",
    ],
)
def test_what_is_not_known_is_not_guessed(name):
    assert known_code(name) is None


def test_a_dataset_may_say_what_its_labels_are_parts_of():
    assert told(known_code("Anterior", "Task04_Hippocampus")) == ["Hippocampus", "Anterior"]
    assert told(known_code("L3", "MyVertebrae")) == ["L3 vertebra"]
    assert told(known_code("cancer", "Task06_Lung")) == ["Neoplasm"]
    assert known_code("nothing", "Task06_Lung") is None


@pytest.mark.parametrize("name", ["LV", "left ventricle", "Ventricle (left)"])
def test_a_ventricle_is_the_hearts_beside_other_parts_of_it_alone(name):
    assert told(known_code(name, "ACDC")) == ["Left ventricle"]
    assert told(known_code(name, "", ("RV", "MYO", "LV"))) == ["Left ventricle"]
    assert known_code(name) is None
    assert known_code(name, "BrainParts") is None
    assert known_code(name, "", ("heart", "brain")) is None


def test_rt_is_radiotherapy_beside_a_finding():
    assert told(known_code("GTV_RT")) == ["Neoplasm"]
    assert told(known_code("GTV_right")) == ["Neoplasm", "Right"]
    assert told(known_code("kidney_rt")) == ["Kidney", "Right"]


def test_every_name_of_the_table_is_found():
    for text in common_codes.CATEGORIES.values():
        for line in text.strip().splitlines():
            for name in line.split("|")[2].split(","):
                assert known_code(name, labels=("heart",)).type.meaning == line.split("|")[1].strip(), name


def test_no_two_lines_claim_a_name():
    lines = [line for text in common_codes.CATEGORIES.values() for line in text.strip().splitlines()]
    names = [key_of(name) for line in lines for name in line.split("|")[2].split(",")]
    assert not {name for name in names if names.count(name) > 1}
    assert len(label_terms.RIBS.split(",")) == 12


def test_kinds_of_things_are_known_of_the_tables_terms_alone():
    assert category_of(CodedTerm(value="79654002", meaning="Edema")).meaning == "Morphologically Abnormal Structure"
    assert category_of(CodedTerm(value="65216001", meaning="CSF")).meaning == "Body Substance"
    assert category_of(CodedTerm(value="1", scheme="99OWN", meaning="Gizmo")).meaning == "Anatomical Structure"
    assert told(UNKNOWN_TISSUE) == ["Tissue"]
