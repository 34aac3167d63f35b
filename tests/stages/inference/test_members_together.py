"""Members of an ensemble beside each other: channels, turns at the networks, memory that runs out."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import numpy as np
import pytest
import torch

from tests.stages.members import AFFINE, Filter, base_model, found_of, image_of, member, whole_probabilities
from tumorseg.errors import InputError, TumorsegError
from tumorseg.stages.inference.ensembles import together
from tumorseg.stages.inference.predict_array import predict_array, predict_array_probabilities
from tumorseg.stages.inference.segment_ensemble import CaseImages, segment_ensemble


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return base_model(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def different(base):
    return (
        member(base, "fine", seed=1, num_folds=2),
        member(base, "coarse", seed=2, spacing_mm=(1.5, 2.0, 3.1), patch_size=(6, 4, 4)),
        member(base, "turned", seed=3, plan={"transpose": (2, 0, 1)}),
    )


def test_channels_are_those_of_the_first_member_and_what_others_add(base):
    first, second = base.plan.dataset.channels
    third = second.changed(name="FLAIR")
    members = (
        member(base, "a", seed=1, dataset={"channels": (second,)}),
        member(base, "b", seed=2, dataset={"channels": (third, second)}),
        member(base, "c", seed=3, dataset={"channels": (first, second)}),
    )
    ensemble = together(members)
    assert [channel.name for channel in ensemble.dataset.channels] == ["T2", "FLAIR", "T1"]
    assert [ensemble.positions(one) for one in members] == [(0,), (1, 0), (2, 0)]
    image = image_of(num_channels=3)
    parts = [whole_probabilities(one, image[list(ensemble.positions(one))]) for one in members]
    found = predict_array_probabilities(ensemble, image, AFFINE).probabilities
    np.testing.assert_allclose(found, np.mean(parts, axis=0), atol=1e-6)
    with pytest.raises(InputError, match="the image has 2 channels, the model needs 3: T2, FLAIR, T1"):
        predict_array(ensemble, image[:2], AFFINE)


def test_cascades_show_their_own_previous_models_to_themselves(base):
    """The members' previous models take the same turn at the networks; several cases at once do not wait for each other for ever."""
    previous = member(base, "previous", seed=11)
    cascades = []
    for seed in (1, 2):
        one = member(base, f"cascade {seed}", seed=seed)
        configuration = one.configuration.model_copy(update={"previous_configuration": "3d_lowres"})
        network = Filter(num_channels=4, seed=seed)
        runtime = replace(one.runtime, passes=(network,))
        cascades.append(
            one._replace(configuration=configuration, networks=(network,), runtime=runtime, previous=previous)
        )
    ensemble, image = together(cascades), image_of(11)
    turns = [one.runtime.turn for one in (*ensemble.members, *(one.previous for one in ensemble.members))]
    assert all(turn is turns[0] for turn in turns)
    expected = np.mean([whole_probabilities(one, image) for one in cascades], axis=0)
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(predict_array_probabilities, ensemble, image, AFFINE) for _ in range(3)]
        for run in runs:
            np.testing.assert_allclose(run.result(timeout=60).probabilities, expected, atol=1e-6)


def test_a_stopped_ensemble_fails_soon(different):
    ensemble = together(different)
    for one in ensemble.members:
        assert one.runtime.stopped is ensemble.lead.runtime.stopped
    fresh = together((member_copy(different[0]), member_copy(different[1])))
    fresh.stop()
    with pytest.raises(TumorsegError, match="the prediction was stopped"):
        predict_array(fresh, image_of(), AFFINE)


def member_copy(model):
    return model._replace(runtime=replace(model.runtime, stopped=Event()))


def test_members_that_answer_on_different_grids_are_refused(different):
    ensemble, image = together(different[:2]), image_of()
    first, second = (found_of(one, image) for one in ensemble.members)
    for other in (second._replace(stored_shape=(9, 11, 8)), second._replace(affine=AFFINE + np.eye(4))):
        with pytest.raises(InputError, match=r"answer on different grids, of \(9, 11, 7\)"):
            segment_ensemble(ensemble, CaseImages((first, other), (None, None)))


def test_memory_that_runs_out_makes_every_member_take_less(different):
    class Scarce(torch.nn.Module):
        """A network on a GPU that holds one patch."""

        def __init__(self, inner):
            super().__init__()
            self.inner, self.sizes = inner, []

        def forward(self, images):
            self.sizes.append(len(images))
            if len(images) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return self.inner(images)

    members, image = (different[1], different[2]), image_of(12)
    expected = predict_array(together(members), image, AFFINE)
    scarce = []
    for one in members:
        network = Scarce(one.networks[0])
        runtime = replace(one.runtime, passes=(network,), patches_per_pass=8)
        scarce.append(one._replace(networks=(network,), runtime=runtime))
    assert np.array_equal(predict_array(together(scarce), image, AFFINE), expected)
    assert all(one.networks[0].sizes[-1] == 1 for one in scarce)
