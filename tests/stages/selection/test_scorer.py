"""Choices scored on a pool whose probabilities were made by hand, without networks."""

from typing import NamedTuple

import numpy as np
import pytest

from tests.targets import classes
from tumorseg.ops.choosing.nested import honest_gains, nested
from tumorseg.ops.choosing.protocol import Choice, all_alike, single
from tumorseg.ops.choosing.rounds import Options
from tumorseg.ops.quantised import quantise
from tumorseg.schema.dataset import Case
from tumorseg.schema.targets import Targets
from tumorseg.stages.selection.calibrating import calibrate
from tumorseg.stages.selection.pool import Keys, Pool, Shelf, Subjects
from tumorseg.stages.selection.score_notes import ScoreNotes
from tumorseg.stages.selection.scorer import PoolScorer, steps_to_try
from tumorseg.stages.selection.unseen import UnseenCase
from tumorseg.storage.probability_cache import ProbabilityCache, StoredVolumes, affine_rows, write_volumes

SHAPE = (9, 7, 11)
WHOLE = tuple((0, size) for size in SHAPE)
AFFINE = np.diag([0.7, 1.0, 2.0, 1.0])
NUM_CASES = 12
TARGETS = classes(3)


class FakeCandidate(NamedTuple):
    """All that scores ask of a candidate."""

    name: str
    targets: Targets
    plan: None = None


def true_of(number):
    """Return a ball with a core, somewhere."""
    rng = np.random.default_rng(number)
    centre = np.array(SHAPE) / 2 + rng.uniform(-1, 1, 3)
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    distance = np.linalg.norm((grid - centre) / (1.0, 0.8, 1.2), axis=-1)
    return (distance < 3).astype(np.int64) + (distance < 1.6)


def noisy(true, seed, scale):
    """Return probabilities (K, Z, Y, X) that lean to the truth under noise of their own."""
    logits = 2.5 * np.eye(3)[true] + np.random.default_rng(seed).normal(size=(*SHAPE, 3)) * scale
    found = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    return np.moveaxis(found, -1, 0).astype(np.float32)


def put(cache, key, volumes):
    about = StoredVolumes(
        shape=SHAPE, spacing_mm=(2.0, 1.0, 0.7), affine=affine_rows(AFFINE), box=WHOLE, num_volumes=len(volumes)
    )
    with cache.partial(key) as folder:
        write_volumes(folder, about, volumes)
        assert cache.keep(folder, key)


def make_pool(folder, scales=(1.5, 1.5, 3.0)):
    cache = ProbabilityCache(folder, 1 << 30)
    cases, own = [], {}
    for number in range(NUM_CASES):
        case_id, true = f"case_{number:02d}", true_of(number)
        own[case_id] = Case(case_id=case_id, images=(), label="none")
        cases.append(UnseenCase(own[case_id], (number % 4,) * len(scales), number))
        put(cache, f"reference {case_id}", [true.astype(np.uint16)])
        for place, scale in enumerate(scales):
            found = noisy(true, 100 * place + number, scale)
            steps = np.stack(
                [quantise(plane, plane.argmax(axis=0), TARGETS) for plane in np.moveaxis(found, 1, 0)], axis=1
            )
            put(cache, f"{place} {case_id}", list(steps))
    probabilities = {(place, one): f"{place} {one}" for place in range(len(scales)) for one in own}
    keys = Keys(probabilities, {one: f"reference {one}" for one in own})
    candidates = tuple(FakeCandidate(f"candidate {place}", TARGETS) for place in range(len(scales)))
    subjects = Subjects(candidates, tuple(cases), (own,) * len(scales), keys)
    return Pool(subjects, cache, Shelf((), "cpu", None))


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return make_pool(tmp_path_factory.mktemp("pool"))


@pytest.fixture
def scorer(pool, tmp_path):
    return PoolScorer(pool, ScoreNotes(tmp_path / "scores.jsonl"))


def test_one_pass_serves_many_choices_and_none_is_made_for_what_is_known(scorer):
    choices = [single(0, 3), single(2, 3), Choice((all_alike(3),))]
    tables = scorer.scores(choices)
    assert [table.shape for table in tables] == [(NUM_CASES, 2)] * 3
    assert scorer.num_passes == 1
    assert np.array_equal(scorer.scores(choices[::-1])[0], tables[2])
    assert scorer.num_passes == 1


def test_damaged_notes_are_scored_again(pool, tmp_path):
    path = tmp_path / "scores.jsonl"
    (expected,) = PoolScorer(pool, ScoreNotes(path)).scores([single(0, 3)])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], b"damaged\n", *lines[4:]]))
    scorer = PoolScorer(pool, ScoreNotes(path))
    assert np.array_equal(scorer.scores([single(0, 3)])[0], expected)
    assert scorer.num_passes == 1
    assert len(path.read_bytes().splitlines()) == NUM_CASES + 1


def test_a_run_that_was_killed_between_cases_scores_only_the_others(pool, tmp_path):
    path = tmp_path / "scores.jsonl"
    choices = [single(0, 3), single(1, 3)]
    expected = PoolScorer(pool, ScoreNotes(path)).scores(choices)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5]) + lines[5][:10])
    scorer = PoolScorer(pool, ScoreNotes(path))
    found = scorer.scores(choices)
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
    assert scorer.num_passes == 1
    assert len(path.read_bytes().splitlines()) == NUM_CASES


def test_the_steps_that_are_tried_know_which_labels_touch(pool):
    steps = steps_to_try(pool)
    assert {step.by for step in steps if step.kind == "replace_small" and step.label == "20"} == {"10"}
    assert ("10", "20") in {step.labels for step in steps if step.kind == "keep_largest"}


def test_the_mean_of_candidates_with_noise_of_their_own_is_chosen_and_its_gain_is_claimed(pool, scorer):
    found = nested(scorer, Options())
    assert len(found.final.choice.used) > 1
    gain = honest_gains(found, scorer)[0]
    assert gain.is_claimed
    assert gain.interval[0] > 0
    # On cases that it was chosen on it looks better, or as good.
    assert found.apparent.mean() >= gain.selected - 1e-3


def test_the_temperature_lowers_the_error_of_confidence_where_it_was_not_fitted(pool, scorer, tmp_path):
    choice = single(2, 3)  # noise of twice the signal: far too sure
    first = calibrate(pool, choice, scorer.parts, tmp_path)
    assert first.fitted.temperature > 1.5
    assert first.honest.nll_after < first.honest.nll_before
    assert first.honest.ece_after < first.honest.ece_before
    files = sorted(tmp_path.glob("*.npy"))
    assert len(files) == NUM_CASES
    files[3].write_bytes(b"damaged")
    assert calibrate(pool, choice, scorer.parts, tmp_path) == first
