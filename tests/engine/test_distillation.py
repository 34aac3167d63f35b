import pytest
import torch

from tests.engine.phantoms import (
    CLASSES,
    NUM_CHANNELS,
    REGIONS,
    batch_of,
    cases_of,
    configuration_of,
    fit_of,
    gone_on,
    learner_of,
    training_of,
    weights_of,
)
from tests.engine.test_loss_in_training import loss_spec
from tumorseg.engine.distillation import Teacher, Teaching, parts_of, with_background
from tumorseg.engine.feed import Data, open_feeds
from tumorseg.engine.learner import Inputs
from tumorseg.engine.taught_cases import TaughtCases, Told
from tumorseg.losses.distillation import distillation_loss
from tumorseg.ops.cropping import box_slices
from tumorseg.schema.distillation import Distillation
from tumorseg.schema.optimizers import Sgd
from tumorseg.schema.transforms.spatial import MirrorTransform, SpatialTransform

SPEC = Distillation(weight=0.4, temperature=3.0)
SGD = {"optimizer": Sgd(lr=0.1, momentum=0, weight_decay=0)}
SWAPPED = REGIONS.model_copy(
    update={"region_names": ("core", "whole"), "regions": ((2,), (1, 2)), "region_values": (4, 1)}
)

RENUMBERED = CLASSES.model_copy(update={"label_values": (0, 1, 2), "label_names": ("background", "core", "edema")})


def teacher_of(seed, targets=CLASSES):
    own = learner_of(configuration_of(targets=targets, features=(6, 8)), training_of(seed=seed), targets)
    return Teacher(own.network.eval().requires_grad_(False), targets, NUM_CHANNELS)


def student_of(*teachers, targets=CLASSES, num_parts=1, num_read=0):
    configuration = configuration_of(targets=targets, gradient_accumulation=num_parts, **SGD)
    learner = learner_of(configuration, targets=targets)
    learner.teaching = Teaching(SPEC, targets, teachers, num_read=num_read)
    return learner


@pytest.mark.parametrize("targets", [CLASSES, REGIONS], ids=["labels", "regions"])
def test_a_step_minimises_what_reference_and_teachers_say(targets):
    teachers = [teacher_of(5, targets), teacher_of(6, targets)]
    learner, inputs = student_of(*teachers, targets=targets), Inputs(*batch_of())
    with torch.no_grad():
        (logits,) = learner.network(inputs.images)
        alone = learner.loss_of(logits, inputs).total.item()
        told = [teacher.network(inputs.images) for teacher in teachers]
        mean = sum(one.sigmoid() if targets.has_regions else one.softmax(1) for one in told) / 2
        term = distillation_loss(logits, mean, temperature=3.0, has_regions=targets.has_regions).item()
    before = weights_of(learner_of(configuration_of(targets=targets, features=(6, 8)), training_of(seed=5), targets))
    result = learner.step(inputs, 0)
    assert result.total == pytest.approx(0.6 * alone + 0.4 * term, rel=1e-5)
    assert result.components["distillation"] == pytest.approx(term, rel=1e-5)
    assert torch.equal(torch.cat([one.flatten() for one in teachers[0].network.state_dict().values()]), before)


def test_a_batch_in_parts_learns_the_same():
    teacher = teacher_of(5)
    whole, parted = student_of(teacher), student_of(teacher, num_parts=2)
    losses = [learner.step(Inputs(*batch_of()), 0).total for learner in (whole, parted)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert torch.allclose(weights_of(whole), weights_of(parted), atol=1e-6)


def test_what_was_told_before_joins_the_mean():
    teacher, inputs = teacher_of(5), Inputs(*batch_of())
    told = torch.rand(2, 2, 8, 8, 8, generator=torch.Generator().manual_seed(1)) / 2
    learner = student_of(teacher, num_read=2)
    found = learner.teaching.probabilities(inputs.images, told)
    with torch.no_grad():
        looked = teacher.network(inputs.images).softmax(1)
    assert torch.allclose(found, (looked + 2 * with_background(told, CLASSES)) / 3, atol=1e-6)
    assert torch.allclose(found.sum(1), torch.ones(2, 8, 8, 8), atol=1e-5)


def test_a_cascades_teacher_sees_the_image_alone():
    teacher, (images, _) = teacher_of(5), batch_of()
    shown = torch.cat((images, torch.ones(2, 2, 8, 8, 8)), dim=1)
    same = [(0,), (1,), (2,)]
    assert torch.equal(teacher.probabilities(images, same), teacher.probabilities(shown, same))


def test_labels_and_regions_are_told_by_name():
    images, _ = batch_of()
    regions, classes = teacher_of(5, REGIONS), teacher_of(5)
    own = regions.probabilities(images, parts_of(REGIONS, REGIONS))
    assert torch.equal(regions.probabilities(images, parts_of(REGIONS, SWAPPED)), own.flip(1))
    own = classes.probabilities(images, parts_of(CLASSES, CLASSES))
    assert torch.equal(classes.probabilities(images, parts_of(CLASSES, RENUMBERED)), own[:, [0, 2, 1]])
    joined = torch.stack((own[:, 2], own[:, 1:].sum(1)), dim=1)
    assert torch.equal(classes.probabilities(images, parts_of(CLASSES, SWAPPED)), joined)


@pytest.mark.parametrize(
    ("own", "wanted"),
    [
        (REGIONS, CLASSES),
        (CLASSES.model_copy(update={"label_names": ("background", "edema", "necrosis")}), CLASSES),
        (REGIONS.model_copy(update={"regions": ((1,), (2,))}), REGIONS),
        (REGIONS.model_copy(update={"region_names": ("whole", "inner")}), REGIONS),
    ],
)
def test_a_teacher_that_does_not_tell_what_is_asked_has_no_parts_of_it(own, wanted):
    assert parts_of(own, wanted) is None


class Kept:
    """What is kept of a case: a class where the reference has it, with a probability of its own."""

    def __init__(self, segmentation):
        classes = [(segmentation == index) * step for index, step in ((1, 40000), (2, 65535))]
        self._steps = torch.tensor([one.tolist() for one in classes]).numpy().astype("uint16")

    def read(self, window):
        return self._steps[box_slices(window)]


def taught(cases, trust=None, further=None):
    known = cases.arrays | (further.arrays if further else {})
    volumes = {case_id: Kept(segmentation) for case_id, (_, segmentation) in known.items()}
    return TaughtCases(cases, Told(2, volumes, trust or {}), further)


def batches_of(configuration, cases):
    learner = learner_of(configuration)
    feeds = open_feeds(Data(cases, None), configuration, training_of(), learner, num_workers=0)
    return [feeds.training.inputs(feeds.training.load(number)) for number in range(4)]


def test_what_was_told_moves_along_with_the_reference():
    transforms = (MirrorTransform(axes=(0, 1, 2), probability=0.5),)
    found = batches_of(configuration_of(transforms=transforms), taught(cases_of(2), trust={"case 0": 0.5}))
    assert {value for batch in found for value in batch.trust.tolist()} == {0.5, 1.0}
    for batch in found:
        assert batch.distances is None
        assert torch.equal(batch.taught[:, 1] == 1, batch.segmentations == 2)
        assert torch.equal(batch.taught[:, 0] > 0.6, batch.segmentations == 1)


def test_distances_and_what_was_told_are_read_side_by_side():
    (batch, *_) = batches_of(configuration_of(loss=loss_spec("loader")), taught(cases_of(2)))
    assert batch.distances.shape == (2, 3, 8, 8, 8)
    assert torch.equal(batch.taught[:, 1] == 1, batch.segmentations == 2)


def test_a_training_with_teachers_goes_on_bit_for_bit():
    def fit():
        found = fit_of(training=training_of(epochs=2, iterations_per_epoch=2), data=Data(taught(cases_of(2)), None))
        found.learner.teaching = Teaching(SPEC, CLASSES, [teacher_of(5)], num_read=1)
        return found

    gone_on(fit, after=1)


def test_beyond_the_image_of_a_further_case_nothing_is_known_either():
    shape = (5, 17, 15)
    cases, further = cases_of(1, shape), cases_of(1, shape, seed=4)
    further.arrays = {"further": (further.arrays["case 0"][0], further.arrays["case 0"][1] * 0 - 1)}
    transforms = (SpatialTransform(rotation_deg=(90.0, 90.0, 90.0), rotation_probability=1.0),)
    configuration, learner = configuration_of(transforms=transforms), learner_of()
    feeds = open_feeds(Data(taught(cases, further=further), None), configuration, training_of(), learner, num_workers=0)
    loaded = [one for number in range(4) for one in feeds.training.load(number)]
    for one in loaded:
        assert (one.sample.segmentation == -1).all() == (one.facts.case_id == "further")
    assert {one.facts.case_id for one in loaded} == {"case 0", "further"}


@pytest.mark.parametrize("targets", [CLASSES, REGIONS], ids=["labels", "regions"])
def test_what_was_rounded_away_counts_as_half_a_step(targets):
    stored = torch.tensor([0.0, 1.0, 0.25]).view(1, 1, 3).expand(1, 2, 3)
    if not targets.has_regions:
        stored = stored * torch.tensor([1.0, 0.0]).view(1, 2, 1)
    found = with_background(stored, targets)
    assert found.min() == pytest.approx(0.5 / 65535, rel=0.01)
    assert found[0, -2].tolist() == pytest.approx([0.5 / 65535, 1 - 0.5 / 65535, 0.25], rel=1e-4)
    if not targets.has_regions:
        assert found[0, 0].tolist() == pytest.approx([1, 0.5 / 65535, 0.75], abs=2e-5)


def test_further_cases_are_drawn_too_and_nothing_is_known_of_them():
    cases, further = cases_of(1), cases_of(1, seed=4)
    further.arrays = {"further": (further.arrays["case 0"][0], further.arrays["case 0"][1] * 0 - 1)}
    both = taught(cases, further=further)
    assert both.case_ids == ("case 0", "further")
    feeds = open_feeds(Data(both, None), configuration_of(), training_of(), learner_of(), num_workers=0)
    drawn = {
        facts.case_id: facts for number in range(4) for facts in (one.facts for one in feeds.training.load(number))
    }
    assert drawn["further"].has_ignored
    assert not drawn["case 0"].has_ignored
