"""Plans for what several datasets have in common."""

import json

import pytest

from tests.ops.matching.described import BRATS_2021, MSD_BRAIN, WHOLE, described
from tests.sources import layouts
from tests.toys import write_toy
from tumorseg.cli.main import run
from tumorseg.errors import InputError
from tumorseg.planning.common_ground import find_common_ground
from tumorseg.stages.opening.loaded import Roots
from tumorseg.stages.planning.fingerprint import FingerprintRequest, measure
from tumorseg.stages.planning.plan import PlanRequest, plan

DECATHLON = {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"}


def write_whole(folder):
    layouts.write_images(folder, layouts.IDS, ("T1", "FLAIR"))
    cases = []
    for number, case_id in enumerate(layouts.IDS):
        layouts.save(folder / f"labels/{case_id}.nii.gz", layouts.label(number, (0, 1)))
        images = {name: f"{name}/{case_id}.nii.gz" for name in ("T1", "FLAIR")}
        cases.append({"case_id": case_id, "images": images, "label": f"labels/{case_id}.nii.gz"})
    content = {"channels": ["T1", "FLAIR"], "labels": {"WT": 1}, "cases": cases}
    layouts.write_json(folder / "manifest.json", content)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("common") / "data"
    layouts.write_brats(root / "Brats")
    write_whole(root / "Whole")
    layouts.write_msd(root / "Decathlon", layouts.IDS, ("FLAIR", "T1w", "t1gd", "T2w"))
    layouts.edit_json(root / "Decathlon", labels=DECATHLON)
    layouts.write_hecktor(root / "Neck")
    return root


def test_channels_and_regions_that_all_have_are_kept_as_the_dataset_calls_them():
    ground = find_common_ground(BRATS_2021, [WHOLE])
    assert ground.channels == ("t1", "flair")
    assert ground.dropped == ("t1ce", "t2")
    assert [(region.name, region.labels, region.value) for region in ground.regions] == [("WT", (1, 2, 4), 2)]
    assert ground.left_out == ("TC, ET of BraTS2021: only as part of WT",)


def test_a_dataset_that_has_nothing_else_stays_as_it_is():
    ground = find_common_ground(WHOLE, [BRATS_2021])
    assert (ground.channels, ground.dropped, ground.regions) == (("FLAIR", "T1"), (), None)
    assert find_common_ground(BRATS_2021, [MSD_BRAIN]).regions is None


def test_regions_that_follow_from_the_datasets_labels_are_planned_for():
    ground = find_common_ground(MSD_BRAIN, [BRATS_2021])
    assert [(region.name, region.labels) for region in ground.regions] == [
        ("WT", (1, 2, 3)),
        ("TC", (2, 3)),
        ("ET", (3,)),
    ]


def test_every_further_dataset_leaves_less():
    liver = described("Liver", {"liver": 1, "tumour": 2}, channels=("CT", "PET"))
    other = described("Other", {"Tumor": 1}, channels=("CT", "MR"))
    ground = find_common_ground(liver, [liver.changed(name="More"), other])
    assert ground.channels == ("CT",)
    assert [(region.name, region.labels, region.value) for region in ground.regions] == [("tumour", (2,), 2)]
    assert ground.others == ("More", "Other")


def test_what_is_measured_is_the_common_ground(data, tmp_path):
    roots = Roots(data_root=data, work=tmp_path)
    found = measure(FingerprintRequest(roots=roots, dataset="Brats", common_with=("Whole",), jobs=1)).fingerprint
    assert [channel.name for channel in found.dataset.channels] == ["t1", "flair"]
    assert [region.name for region in found.dataset.regions] == ["WT"]
    assert set(found.intensities) == {"t1", "flair"}


def test_the_plan_says_what_was_left_out_and_why(tmp_path):
    write_toy(tmp_path / "data" / "Toy", num_cases=5)
    layouts.write_images(tmp_path / "data" / "Other", ("a",), ("T2w",))
    cases = [{"case_id": "a", "images": ["T2w/a.nii.gz"], "label": "labels/a.nii.gz"}]
    layouts.write_json(
        tmp_path / "data/Other/manifest.json", {"channels": ["T2w"], "labels": {"Core": 1, "edge": 2}, "cases": cases}
    )
    request = PlanRequest(
        roots=Roots(data_root=tmp_path / "data", work=tmp_path / "runs"),
        dataset="Toy",
        preset="fast_prototyping",
        common_with=("Other",),
        output=tmp_path / "p.json",
        jobs=1,
    )
    made = plan(request).plan
    assert [channel.name for channel in made.dataset.channels] == ["T2"]
    assert [(region.name, region.labels) for region in made.dataset.regions] == [("core", (7,))]
    reason = made.reasons["dataset.channels"]
    assert reason.source == "user"
    assert reason.rule == "--common-with Other: the channels that all have"
    assert reason.inputs == {"left_out": ["T1"]}
    told = ["shell of Toy: Other has no such label", "edge of Other: Toy has no such label"]
    assert made.reasons["dataset.regions"].inputs == {"left_out": told}


def test_datasets_without_common_ground_are_refused(data, tmp_path):
    request = FingerprintRequest(
        roots=Roots(data_root=data, work=tmp_path), dataset="Brats", common_with=("Neck",), jobs=1
    )
    with pytest.raises(InputError, match="found no channel in common: Brats has t1, t1ce, t2, flair; Neck has"):
        measure(request)
    with pytest.raises(
        InputError, match="no label or region in common: BraTS2021 has WT, TC, ET; A has liver"
    ) as error:
        find_common_ground(BRATS_2021, [described("A", {"liver": 1})])
    # What `plan` has an option for.
    assert "with --regions FILE" in str(error.value)
    assert "--labels" not in str(error.value)


def test_datasets_that_draw_an_organ_differently_do_not_have_it_in_common():
    within = described("Within", {"a": 1, "b": 2}, {"liver": (1, 2), "tumor": (2,)})
    ground = find_common_ground(within, [described("Beside", {"liver": 1, "tumor": 2})])
    assert [(region.name, region.labels) for region in ground.regions] == [("tumor", (2,))]
    assert ground.left_out == ("liver: includes tumor in Within, but not in Beside, so that it is not the same",)


def test_folders_of_one_name_are_not_one_dataset():
    labels = {"label_1": 1, "label_2": 2}
    with pytest.raises(InputError, match="names such as label_1 do not say what they are"):
        find_common_ground(described("data", labels), [described("data", labels)])


def test_a_fingerprint_was_measured_already(data, tmp_path, capsys):
    file = tmp_path / "f.json"
    arguments = ["--data-root", str(data), "--work", str(tmp_path / "runs")]
    given = ["fingerprint", "-d", "Whole", "--common-with", "Brats", "--jobs", "1", "-o", str(file)]
    assert run([*arguments, *given]) == 0
    assert [channel["name"] for channel in json.loads(file.read_text())["dataset"]["channels"]] == ["T1", "FLAIR"]
    assert run([*arguments, "plan", "--fingerprint", str(file), "--common-with", "Brats"]) == 1
    assert "--fingerprint holds the dataset already" in capsys.readouterr().err
