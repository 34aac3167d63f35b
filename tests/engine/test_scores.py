import numpy as np
import pytest
import torch

from tests.engine.phantoms import CLASSES, REGIONS
from tumorseg.engine.scores import PooledDice
from tumorseg.schema.targets import IGNORE


def batches(num_outputs, space=(3, 5, 7), count=3):
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        yield (
            torch.randn(2, num_outputs, *space, generator=generator),
            torch.randint(-1, 3, (2, *space), generator=generator),
        )


def dice(guesses, truths):
    guess, truth = np.concatenate(guesses), np.concatenate(truths)
    return 2 * (guess & truth).sum() / (guess.sum() + truth.sum())


def pooled(targets, pairs):
    score = PooledDice(targets)
    for logits, segmentations in pairs:
        score.add(logits, segmentations)
    return score.dsc()


@pytest.mark.parametrize("space", [(3, 5, 7), (5, 7)])
def test_labels_are_scored_by_the_likeliest_class_without_ignored_voxels(space):
    pairs = list(batches(3, space))
    for index, name in ((1, "edema"), (2, "core")):
        used = [(p.argmax(1).numpy(), s.numpy()) for p, s in pairs]
        kept = [(p[s != IGNORE], s[s != IGNORE]) for p, s in used]
        expected = dice([p == index for p, _ in kept], [s == index for _, s in kept])
        assert pooled(CLASSES, pairs)[name] == pytest.approx(expected)


def test_regions_are_scored_by_the_sign_of_their_own_logit():
    pairs = list(batches(2))
    for number, (name, classes) in enumerate({"whole": (1, 2), "core": (2,)}.items()):
        kept = [((p[:, number] > 0).numpy()[s != IGNORE], s.numpy()[s != IGNORE]) for p, s in pairs]
        expected = dice([p for p, _ in kept], [np.isin(s, classes) for _, s in kept])
        assert pooled(REGIONS, pairs)[name] == pytest.approx(expected)


def test_what_is_neither_there_nor_found_has_no_score():
    segmentations = torch.zeros(1, 4, 4, dtype=torch.int64)
    logits = torch.zeros(1, 3, 4, 4)
    logits[:, 0] = 1
    assert pooled(CLASSES, [(logits, segmentations)]) == {"edema": None, "core": None}
    assert pooled(CLASSES, []) == {"edema": None, "core": None}
    logits[:, 1] = 2
    assert pooled(CLASSES, [(logits, segmentations)]) == {"edema": 0.0, "core": None}


def test_a_perfect_prediction_scores_1():
    segmentations = torch.randint(0, 3, (1, 6, 6), generator=torch.Generator().manual_seed(0))
    logits = torch.nn.functional.one_hot(segmentations, 3).movedim(-1, 1).float()
    assert pooled(CLASSES, [(logits, segmentations)]) == {"edema": 1.0, "core": 1.0}
