import tracemalloc

import numpy as np
import pytest
import torch

from tests.targets import classes, regions
from tumorseg.engine.combining import combined, decision_of
from tumorseg.engine.restoration import decide
from tumorseg.ops.choosing.protocol import Choice, single
from tumorseg.ops.labels import to_indices
from tumorseg.ops.postprocessing import postprocess
from tumorseg.ops.quantised import quantise, restore
from tumorseg.schema.ensembles import KeepLargest, RemoveSmall
from tumorseg.schema.targets import IGNORE
from tumorseg.stages.selection import case_scores, combining_cases
from tumorseg.stages.selection.case_scores import confusion, dsc_of, score_choices
from tumorseg.stages.selection.combining_cases import IGNORED, OpenCase, Question, paint
from tumorseg.storage.probability_cache import StoredVolumes, affine_rows, write_volumes

SHAPE = (19, 7, 11)
SPACING = (3.0, 0.7, 1.1)
AFFINE = affine_rows(np.diag([*SPACING[::-1], 1.0]))
BOXES = (((8, 19), (1, 7), (2, 9)), ((0, 16), (0, 5), (0, 11)))
LABELS, REGIONS = classes(3), regions(2)


def predicted(targets, seed, box):
    """Return probabilities (K, Z, Y, X) of a whole image, certain of the background outside a box."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(targets.num_outputs, *SHAPE)).astype(np.float32) * 3
    if targets.has_regions:
        found, nothing = 1 / (1 + np.exp(-logits)), np.zeros(targets.num_outputs)
    else:
        found, nothing = np.exp(logits) / np.exp(logits).sum(axis=0), np.eye(targets.num_outputs)[0]
    whole = np.tile(nothing[:, None, None, None], (1, *SHAPE)).astype(np.float32)
    inside = (slice(None), *(slice(*axis) for axis in box))
    whole[inside] = found[inside]
    return whole


def store(folder, arrays, box):
    folder.mkdir(parents=True)
    inside = tuple(slice(*axis) for axis in box)
    about = StoredVolumes(shape=SHAPE, spacing_mm=SPACING, affine=AFFINE, box=box, num_volumes=len(arrays))
    return write_volumes(folder, about, [array[inside] for array in arrays])


def steps_of(found, targets):
    """Return stored steps of a whole image."""
    slices = []
    for plane in np.moveaxis(found, 1, 0):
        slices.append(quantise(plane, plane > 0.5 if targets.has_regions else plane.argmax(axis=0), targets))
    return np.stack(slices, axis=1)


def reference(seed=9):
    """Return class indices with two blobs and some voxels of which nothing is known."""
    indices = np.zeros(SHAPE, np.int32)
    indices[9:15, 2:6, 3:8] = 1
    indices[11:13, 3:5, 4:6] = 2
    indices[3:5, 1:3, 8:10] = 1
    indices[np.random.default_rng(seed).random(SHAPE) < 0.05] = IGNORE
    return indices


def make_case(root, own, true):
    kept = np.where(true == IGNORE, IGNORED, true).astype(np.uint16)
    whole = tuple((0, size) for size in SHAPE)
    arrays = [
        steps_of(predicted(targets, seed, box), targets)
        for seed, (targets, box) in enumerate(zip(own, BOXES, strict=True))
    ]
    volumes = {
        number: store(root / str(number), array, box)
        for number, (array, box) in enumerate(zip(arrays, BOXES, strict=True))
    }
    return OpenCase(volumes, store(root / "reference", [kept], whole)), arrays


def direct(choice, arrays, question, true):
    """Return the DSC of a choice on whole arrays at once."""
    targets, combination = question.targets_of(choice), question.combination_of(choice)
    members = [torch.from_numpy(restore(arrays[number], question.own[number], targets)) for number in choice.used]
    logits = combined(members, combination, targets)
    margins = decision_of(combination, targets).margins
    if margins:
        logits = logits - logits.new_tensor(margins).reshape(-1, 1, 1, 1)
    mask = postprocess(decide(logits, targets), choice.steps, spacing_mm=SPACING, values=targets.values_by_name)
    found, wanted = to_indices(mask, question.wanted), question.wanted
    scores = []
    for group in wanted.scored_classes:
        known = true != IGNORE
        predicted_mask, true_mask = np.isin(found, group) & known, np.isin(true, group) & known
        total = predicted_mask.sum() + true_mask.sum()
        scores.append(2 * (predicted_mask & true_mask).sum() / total if total else 1.0)
    return scores


STEPS = (KeepLargest(labels=("10", "20")), RemoveSmall(labels=("20",), least_mm3=20.0))
CHOICES = [
    single(0, 2),
    single(1, 2),
    Choice(((1, 1),)),
    Choice(((3, 1),)),
    Choice(((1, 2), (0, 1))),
    Choice(((1, 1),), steps=STEPS[:1]),
    Choice(((1, 1),), steps=STEPS),
    Choice(((1, 1),), steps=STEPS[1:]),
    Choice(((1, 0),), steps=STEPS[:1]),
]


@pytest.mark.parametrize("own", [(LABELS, LABELS), (REGIONS, REGIONS), (LABELS, REGIONS)])
@pytest.mark.parametrize("slab", [1, 1 << 20])
def test_scores_are_those_of_whole_arrays_at_once(tmp_path, own, slab, monkeypatch):
    monkeypatch.setattr(combining_cases, "VOXELS_OF_A_SLAB", slab)
    wanted = REGIONS if REGIONS in own else LABELS
    question, true = Question(own, wanted), reference()
    case, arrays = make_case(tmp_path, own, true)
    found = score_choices(case, CHOICES, question)
    assert found.shape == (len(CHOICES), 2)
    for choice, scores in zip(CHOICES, found.tolist(), strict=True):
        assert scores == direct(choice, arrays, question, true), choice


def test_regions_are_painted_above_their_own_thresholds(tmp_path):
    question, true = Question((REGIONS, REGIONS), REGIONS), reference()
    case, arrays = make_case(tmp_path, question.own, true)
    choices = [Choice(((1, 1),), thresholds) for thresholds in ((), (0.3, 0.5), (0.5, 0.8))]
    found = score_choices(case, choices, question).tolist()
    assert found == [direct(choice, arrays, question, true) for choice in choices]
    assert len(set(map(tuple, found))) == 3


def test_labels_alone_are_combined_as_labels_where_regions_are_scored(tmp_path):
    question = Question((LABELS, REGIONS), REGIONS)
    case, arrays = make_case(tmp_path, question.own, reference())
    (mask,) = paint(case, [single(0, 2)], question)
    likeliest = restore(arrays[0], LABELS, LABELS).argmax(axis=0)
    assert np.array_equal(to_indices(mask, LABELS), likeliest)
    # Thresholds of regions mean nothing to them, so that none seems to gain anything.
    choices = [single(0, 2), Choice(((1, 0),), (0.2, 0.9))]
    assert len(set(map(tuple, score_choices(case, choices, question).tolist()))) == 1


def test_what_neither_mask_has_counts_1_and_what_one_alone_has_0():
    nothing = np.zeros((2, 3, 4), np.int32)
    something = nothing.copy()
    something[0, 1, 2] = 10
    neither = confusion(nothing, nothing, LABELS)
    assert dsc_of(neither, LABELS) == [1.0, 1.0]
    assert dsc_of(confusion(something, nothing, LABELS), LABELS) == [0.0, 1.0]
    assert dsc_of(confusion(something, to_indices(something, LABELS), LABELS), LABELS) == [1.0, 1.0]


def test_counts_of_parts_are_those_of_the_whole(monkeypatch):
    rng = np.random.default_rng(3)
    values, true = rng.choice([0, 10, 20], size=SHAPE), reference()
    known = true != IGNORE
    expected = np.zeros((3, 3), np.int64)
    np.add.at(expected, (true[known], values[known] // 10), 1)
    assert np.array_equal(confusion(values, true, LABELS), expected)
    monkeypatch.setattr(case_scores, "VOXELS_OF_A_SLAB", 2 * SHAPE[1] * SHAPE[2])
    assert np.array_equal(confusion(values, true, LABELS), expected)


def test_counting_takes_no_wide_copy_of_a_whole_image():
    values, true = np.zeros((64, 256, 256), np.uint8), np.zeros((64, 256, 256), np.int8)
    tracemalloc.start()
    confusion(values, true, LABELS)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 12 * values.size


def test_voxels_of_which_nothing_is_known_count_nowhere():
    values, true = np.full((2, 2, 2), 10), np.ones((2, 2, 2), np.int32)
    true[0] = IGNORE
    assert confusion(values, true, LABELS).sum() == 4


def test_an_image_in_which_nobody_finds_anything_is_all_background(tmp_path):
    nowhere = ((0, 0), (0, 0), (0, 0))
    about = StoredVolumes(shape=SHAPE, spacing_mm=SPACING, affine=AFFINE, box=nowhere, num_volumes=2)
    (tmp_path / "0").mkdir()
    (tmp_path / "r").mkdir()
    empty = write_volumes(tmp_path / "0", about, ())
    case = OpenCase({0: empty}, write_volumes(tmp_path / "r", about.changed(num_volumes=1), ()))
    question = Question((LABELS,), LABELS)
    choices = [single(0, 1), Choice(((1,),), steps=STEPS)]
    assert score_choices(case, choices, question).tolist() == [[1.0, 1.0], [1.0, 1.0]]
