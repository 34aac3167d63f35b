import json
import re
import shutil

import matplotlib.image
import numpy as np
import pytest

from tests.stages.conftest import plan_toy
from tests.stages.training.test_cascade import CASCADE, cascade_plan
from tests.toys import write_toy
from tumorseg.cli.main import run
from tumorseg.errors import InputError, PlanError
from tumorseg.reports.augmentation_tiles import is_same
from tumorseg.schema.base import to_json
from tumorseg.schema.cases import StoredCase
from tumorseg.schema.extensions import External
from tumorseg.schema.plan import Plan
from tumorseg.schema.targets import targets_of
from tumorseg.schema.transforms.acquisition import CopyPaste
from tumorseg.schema.transforms.base import Range
from tumorseg.schema.transforms.intensity import Brightness, Contrast, GaussianNoise
from tumorseg.schema.transforms.spatial import MirrorTransform, SpatialTransform
from tumorseg.stages.training.augment import AugmentRequest, augment
from tumorseg.stages.training.preprocess import PreprocessRequest, preprocess
from tumorseg.stages.training.shown_cases import CaseOpener
from tumorseg.stages.training.shown_patches import NUM_SAMPLES, ShownPatches, certain
from tumorseg.storage.cases import CaseArrays, store_case
from tumorseg.storage.sealed import read_sealed

TRANSFORMS = (
    SpatialTransform(rotation_deg=(30.0, 30.0, 30.0)),
    GaussianNoise(probability=0.5, std=Range(low=0.3, high=0.5)),
    Brightness(channel_probability=0.5),
    Contrast(probability=0),
    MirrorTransform(axes=(0, 2)),
)


def with_transforms(plan: Plan, *transforms, name="3d_fullres") -> Plan:
    """Return a plan whose one configuration has these transforms."""
    configuration = plan.configurations[name]
    augmentation = configuration.augmentation.changed(preset="custom", transforms=transforms)
    configuration = configuration.changed(augmentation=augmentation)
    return plan.changed(configurations=plan.configurations | {name: configuration})


def shown(toy, output, **fields):
    return augment(AugmentRequest(roots=toy.roots, output=output, **{"plan": toy.plan} | fields))


def roots_of(toy):
    return ["--data-root", str(toy.roots.data_root), "--work", str(toy.roots.work)]


def patches_of(toy, plan, name="3d_fullres"):
    opener = CaseOpener(plan, name, toy.roots)
    case = opener.first()
    return ShownPatches(opener, case, plan.configurations[name], targets_of(plan.dataset)), case


@pytest.fixture(scope="module")
def page(toy, tmp_path_factory):
    plan = with_transforms(toy.plan, *TRANSFORMS)
    output = tmp_path_factory.mktemp("gallery") / "gallery.html"
    return shown(toy, output, plan=plan), output.read_text()


def test_the_page_names_every_transform_its_parameters_and_what_was_drawn(page):
    done, text = page
    assert [name for name, _ in done.transforms] == ["spatial", "gaussian_noise", "brightness", "contrast", "mirror"]
    assert (done.case_id, done.configuration) == ("case_0", "3d_fullres")
    drawn = dict(done.transforms)
    assert [len(draws) for draws in drawn.values()] == [3, 3, 3, 0, 3]
    for draw in drawn["spatial"]:
        angles = ", ".join(f"{angle:.3g}" for angle in draw["angles_deg"])
        assert f"angles {angles} deg; scaling {draw['scaling']:.3g}" in text
    for draw in drawn["gaussian_noise"]:
        assert f"stds {draw['stds'][0]:.3g}, {draw['stds'][1]:.3g}" in text
    assert {"axes": [0, 2]} in drawn["mirror"]
    assert "axes 0, 2" in text
    assert "std 0.3 to 0.5" in text
    assert "this transform is never applied" in text
    # The draws with the original before each transform's, and the samples.
    assert text.count("<figure>") == 12 + 4 + NUM_SAMPLES
    assert "case case_0, a patch of" in text


def test_samples_of_all_together_have_the_plans_probabilities(page):
    done, text = page
    assert len(done.samples) == NUM_SAMPLES
    names = [[name for name, _ in sample] for sample in done.samples]
    assert 0 < sum("gaussian_noise" in sample for sample in names) < NUM_SAMPLES
    assert not any("contrast" in sample for sample in names)
    # Once beneath the picture, once for those who cannot see it.
    assert text.count("nothing was drawn") == 2 * names.count([])


def test_the_same_seed_gives_the_same_patches_and_another_one_others(toy):
    plan = with_transforms(toy.plan, *TRANSFORMS)
    patches, _ = patches_of(toy, plan)
    first, again, other = (list(patches.together(seed)) for seed in (0, 0, 1))
    assert all(is_same(one.slices, same.slices) for one, same in zip(first, again, strict=True))
    assert [one.draws for one in first] == [one.draws for one in again]
    assert [one.draws for one in first] != [one.draws for one in other]
    place, noise = patches.best_place(0), TRANSFORMS[1]
    drawn = [[one.draws for one in patches.alone(noise, place, stream=stream)] for stream in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_png_is_one_picture_that_other_programs_read_and_nothing_else_is_written(toy, tmp_path, capsys):
    (tmp_path / "gallery.png").write_bytes(b"old")
    before = {path: path.stat().st_mtime_ns for path in toy.roots.work.rglob("*")}
    plan = toy.plan_path.with_name("noise.json")
    plan.write_text(to_json(with_transforms(toy.plan, TRANSFORMS[1])))
    assert run([*roots_of(toy), "augment", "-p", str(plan), "-o", str(tmp_path / "gallery.png")]) == 0
    assert "case case_0, 3d_fullres; transforms: gaussian_noise\nwritten to" in capsys.readouterr().out
    height, width = matplotlib.image.imread(tmp_path / "gallery.png").shape[:2]
    assert width > 1000
    assert height > 1000
    assert {path: path.stat().st_mtime_ns for path in toy.roots.work.rglob("*")} == before
    assert [path.name for path in tmp_path.iterdir()] == ["gallery.png"]


def test_what_is_copied_and_what_has_no_effect_is_said(toy, tmp_path):
    copied, without = (
        CopyPaste(labels=(1, 2), largest_share=1.0, onto=(0, 1, 2)),
        Brightness(factor=Range(low=1, high=1)),
    )
    plan = with_transforms(toy.plan, copied, without, without).changed(orientation="as_stored")
    done = shown(toy, tmp_path / "same.html", plan=plan, case_id="case_2")
    # The patch holds the whole of each case, so that all draws are alike.
    assert dict(done.transforms)["copy_paste"] == ({"axes": []},)
    text = (tmp_path / "same.html").read_text()
    assert "copied from case case_0" in text
    # Twice beneath the picture, twice for those who cannot see it.
    assert text.count("no change in these slices") == 4
    assert "<h2>brightness (1)</h2>" in text
    assert "<h2>brightness (2)</h2>" in text
    assert "first axis and second axis: middle slices" in text


def test_outlines_are_those_of_labels_that_moved_with_the_image(toy):
    """The toy's ball is what is bright: wherever labels are, the image is bright too."""
    plan = with_transforms(toy.plan, TRANSFORMS[0], TRANSFORMS[4])
    patches, _ = patches_of(toy, plan)
    place = patches.best_place(0)
    (spatial, mirror), seen = plan.configurations["3d_fullres"].augmentation.transforms, 0
    for transform in (spatial, mirror):
        for one in patches.alone(transform, place, stream=0):
            for image, (reference,) in zip(one.slices.images, one.slices.segmentations, strict=True):
                bright, labelled = image[0] > 0.5, reference > 0
                both = np.sum(bright & labelled)
                assert 2 * both / (bright.sum() + labelled.sum()) > 0.85
                seen += 1
    assert seen == 12


def test_the_patch_that_is_shown_has_foreground_in_its_middle(toy):
    patches, _ = patches_of(toy, toy.plan)
    slices = patches.alone(TRANSFORMS[1], patches.best_place(3), stream=0)[0].slices
    assert (slices.segmentations[0] > 0).sum() > 20


def test_a_case_in_the_store_looks_as_one_that_is_prepared_in_memory(tmp_path):
    toy = plan_toy(tmp_path, write_toy(tmp_path / "data" / "Toy", num_cases=3))
    _, prepared = patches_of(toy, toy.plan)
    preprocess(PreprocessRequest(roots=toy.roots, plan=toy.plan, jobs=1))
    _, stored = patches_of(toy, toy.plan)
    shape = prepared.shape("case_0")
    box = tuple((-2, size // 2) for size in shape)
    for one, other in zip(prepared.read("case_0", box), stored.read("case_0", box), strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(stored.read_previous("case_0", box), stored.read("case_0", box)[1])
    assert stored.num_locations("case_0", 1) == prepared.num_locations("case_0", 1) > 0
    # It is the store that is read, whatever is in it.
    for folder in toy.roots.work.glob("*/cases/[!.]*"):
        record = read_sealed(StoredCase, folder / "case.json", key=folder.name).record
        shutil.rmtree(folder)
        nothing = np.zeros(record.shape, np.int8)
        empty = CaseArrays(np.zeros((2, *record.shape), np.float32), nothing, np.zeros((0, 3), np.int32))
        changed = record.changed(location_starts=(0,) * len(record.location_starts))
        store_case(folder.parent, folder.name, changed, empty)
    assert not patches_of(toy, toy.plan)[1].read("case_0", box)[0].any()


def test_the_command_prints_what_was_drawn_of_a_flat_configuration_too(toy, tmp_path, capsys):
    flat = SpatialTransform(rotation_deg=(90.0,)), MirrorTransform(axes=(0, 1))
    plan, output = toy.plan_path.with_name("flat.json"), tmp_path / "new" / "flat.html"
    plan.write_text(to_json(with_transforms(toy.plan, *flat, name="2d")))
    arguments = ["augment", "-p", str(plan), "--configuration", "2d", "--case", "case_1", "-o", str(output)]
    assert run([*roots_of(toy), "--json", *arguments]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["case_id"], said["configuration"], said["output"]) == ("case_1", "2d", str(output))
    spatial, mirror = said["transforms"]
    assert (spatial["name"], len(spatial["draws"])) == ("spatial", 3)
    assert all(-90 <= angle <= 90 for draw in spatial["draws"] for angle in draw["angles_deg"])
    assert mirror["name"] == "mirror"
    # Each axis by itself, and both.
    assert sorted(draw["axes"] for draw in mirror["draws"]) == [[0], [0, 1], [1]]
    assert len(said["samples"]) == NUM_SAMPLES
    assert "axial;" in output.read_text()


def test_a_cascade_shows_mistakes_on_the_previous_segmentation(toy, tmp_path):
    plan = cascade_plan(toy.plan)
    done = shown(toy, tmp_path / "cascade.html", plan=plan, configuration=CASCADE)
    drawn = dict(done.transforms)
    assert all(drawn[name] for name in ("previous_morphology", "previous_removal"))
    text = (tmp_path / "cascade.html").read_text()
    assert "the reference stands for the previous segmentation" in text
    assert "rows: T1, T2, previous segmentation" in text
    patches, _ = patches_of(toy, plan, CASCADE)
    removal = next(
        one for one in plan.configurations[CASCADE].augmentation.transforms if one.name == "previous_removal"
    )
    for one in patches.alone(removal, patches.best_place(0), stream=0):
        for reference, previous in one.slices.segmentations:
            assert set(np.unique(previous[previous != reference])) <= {0}


def test_a_case_without_foreground_is_passed_over_but_may_be_named(tmp_path):
    folder = write_toy(tmp_path / "data" / "Toy", num_cases=3)
    rows = (folder / "manifest.csv").read_text().splitlines()
    (folder / "manifest.csv").write_text("\n".join([rows[0], rows[3], rows[1], rows[2]]) + "\n")
    toy = plan_toy(tmp_path, folder)
    opener = CaseOpener(toy.plan, "3d_fullres", toy.roots)
    assert opener.first().case_id == "case_0"
    assert not opener.named("case_2").has_any((1, 2))
    assert opener.first_with((2,), but="case_0").case_id == "case_1"
    assert opener.first_with((2,), but="case_0") is opener.first_with((2,), but="case_0")
    named = ShownPatches(
        opener, opener.named("case_2"), toy.plan.configurations["3d_fullres"], targets_of(toy.plan.dataset)
    )
    assert named.best_place(0).case.case_id == "case_2"


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        (
            {"case_id": "nothing like it"},
            InputError,
            "has no case 'nothing like it'; it has case_0, case_1, case_2 and 3 more",
        ),
        ({"case_id": "case_9"}, InputError, "has no case 'case_9'; did you mean case_"),
        ({"configuration": "4d"}, PlanError, "has no configuration '4d'; it has"),
    ],
)
def test_what_is_not_there_is_one_line_that_says_what_is(toy, tmp_path, fields, error, message):
    with pytest.raises(error, match=re.escape(message)):
        shown(toy, tmp_path / "gallery.png", **fields)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "message"), [("gallery.jpg", "ends in .png or .html or .htm"), (".", "ends in")])
def test_what_cannot_be_written_is_refused_at_once(toy, tmp_path, name, message):
    with pytest.raises(InputError, match=re.escape(message)):
        shown(toy, tmp_path / name)


def test_applying_for_certain_leaves_out_what_the_plan_never_does():
    spatial = certain(TRANSFORMS[0])
    assert (spatial.rotation_probability, spatial.scaling_probability, spatial.elastic_probability) == (1, 1, 0)
    assert certain(TRANSFORMS[3]).probability == 0
    assert certain(TRANSFORMS[2]).channel_probability == 0.5
    other = External(name="warp", distribution="warps", version="1.0")
    assert certain(other) == other
