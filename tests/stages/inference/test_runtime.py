"""What a model computes with, and what is done when a GPU's memory runs out."""

import gc
import logging
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from tests.stages.inference.test_nnunet_model import write_model
from tests.stages.models import AFFINE, SHAPE, Above, small_model, with_network, write_image
from tumorseg.engine.precision import NO_BF16, has_bf16
from tumorseg.engine.stopwatch import Stopwatch
from tumorseg.errors import InputError
from tumorseg.ops.geometry import spacing_of
from tumorseg.ops.preprocessing import axis_order
from tumorseg.stages.inference.ensembles import alone
from tumorseg.stages.inference.models import load_model
from tumorseg.stages.inference.predict import PredictRequest, predict
from tumorseg.stages.inference.runtime import VOXELS_PER_PASS, RuntimeOptions
from tumorseg.stages.inference.segment_case import RunOptions, segment_case
from tumorseg.stages.inference.segment_ensemble import CaseImages, prepare_run, segment_ensemble
from tumorseg.stages.opening.reading import CaseImage


class Scarce(Above):
    """A network on a GPU that holds a few patches, fewer while sums lie there too."""

    def __init__(self, most):
        super().__init__()
        self.most, self.sizes = most, []

    def forward(self, images):
        self.sizes.append(len(images))
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(images)


@pytest.fixture
def model(tmp_path):
    return small_model(tmp_path / "model")


def found_of(model, seed=0):
    image = np.random.default_rng(seed).normal(size=(2, *SHAPE)).astype(np.float32)
    orientation = axis_order(model.plan).orientation(AFFINE)
    return CaseImage(image, spacing_of(AFFINE, orientation), orientation, AFFINE, SHAPE)


def with_batches(model, network, patches_per_pass):
    changed = with_network(model, network)
    return changed._replace(runtime=replace(changed.runtime, patches_per_pass=patches_per_pass))


def test_where_memory_runs_out_batches_get_smaller_once_and_for_all(model, caplog):
    found = found_of(model)
    expected = segment_case(model, found)
    scarce = with_batches(model, Scarce(1), 8)
    seen = []
    with caplog.at_level(logging.WARNING):
        labels = segment_case(scarce, found, observers=[lambda one: seen.append(one.position)])
    assert np.array_equal(labels, expected)
    assert len(np.unique(labels)) > 1
    assert scarce.runtime.patches_per_pass == 1
    assert not scarce.runtime.sums_on_cpu
    assert sorted(set(seen)) == list(range(SHAPE[0]))
    assert len(caplog.records) == 1
    # The next case begins with what was learnt.
    first = len(scarce.networks[0].sizes)
    segment_case(scarce, found)
    assert set(scarce.networks[0].sizes[first:]) == {1}
    assert len(caplog.records) == 1


def test_of_two_cases_at_once_that_run_out_each_is_segmented_in_batches_that_fit(model):
    found = [found_of(model, seed) for seed in range(4)]
    expected = [segment_case(model, one) for one in found]
    scarce = with_batches(model, Scarce(2), 8)
    with ThreadPoolExecutor(2) as pool:
        labels = list(pool.map(partial(segment_case, scarce), found))
    for one, other in zip(labels, expected, strict=True):
        assert np.array_equal(one, other)
    # One shortage is relieved once, whoever waited for the turn meanwhile.
    assert scarce.runtime.patches_per_pass == 2
    assert not scarce.runtime.sums_on_cpu


def test_after_single_patches_sums_go_to_main_memory_and_then_the_case_fails_in_one_line(model, caplog):
    scarce = with_batches(model, Scarce(0), 1)
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(InputError, match=r"a single tile does not fit .* --device cpu"),
    ):
        segment_case(scarce, found_of(model))
    assert scarce.runtime.sums_on_cpu
    assert [record.message.split(":")[0] for record in caplog.records] == ["the GPU's memory ran out"]


def test_small_patches_share_a_pass_and_large_ones_go_alone(model):
    num_voxels = int(np.prod(model.configuration.patch_size))
    assert model.runtime.patches_per_pass == max(1, VOXELS_PER_PASS // num_voxels)
    assert model.runtime.patches_per_pass > 1


def test_seconds_are_counted_by_part(model):
    stopwatch = Stopwatch()
    segment_case(model, found_of(model), options=RunOptions(stopwatch=stopwatch))
    assert set(stopwatch.seconds) == {"prepare", "network", "wait", "restore"}


@pytest.mark.parametrize("mirroring", [True, False])
def test_observers_are_shown_what_each_member_votes_for(model, mirroring):
    found = found_of(model)
    shown = []
    labels = segment_case(
        model, found, options=RunOptions(mirroring, with_votes=True), observers=[lambda one: shown.append(one)]
    )
    assert np.array_equal(labels, segment_case(model, found))
    for one in shown:
        assert one.votes.shape == one.logits.shape
        # A network that only compares with a level votes alike in each view.
        assert torch.allclose(one.votes.sum(0), torch.ones_like(one.votes[0]), atol=1e-5)
        assert torch.equal(one.votes.argmax(0), one.logits.argmax(0))


def test_precision_and_engine_come_from_the_options_else_from_the_plan(tmp_path, model):
    assert model.runtime.engine == "torch"
    assert model.runtime.precision == ("bf16" if has_bf16() else "fp32")
    exact = load_model(
        [write_model(tmp_path / "other")], "cpu", runtime=RuntimeOptions(engine="torch", precision="fp32")
    )
    assert exact.runtime.precision == "fp32"


@pytest.mark.parametrize(("precision", "is_told"), [("auto", True), ("fp32", False)])
def test_a_processor_without_bf16_is_told_in_one_line(tmp_path, caplog, monkeypatch, precision, is_told):
    for module in ("tumorseg.stages.inference.predict", "tumorseg.engine.precision"):
        monkeypatch.setattr(f"{module}.has_bf16", lambda: False)
    write_image(tmp_path / "in", "a")
    request = PredictRequest(
        models=(write_model(tmp_path / "model"),),
        inputs=(tmp_path / "in",),
        output=tmp_path / "out",
        precision=precision,
        device="cpu",
    )
    with caplog.at_level(logging.INFO):
        predict(request)
    assert [record.message for record in caplog.records].count(NO_BF16) == is_told


def test_voxels_that_were_read_are_gone_before_the_network_sees_what_was_prepared(model):
    found, ensemble = found_of(model), alone(model)
    expected = segment_ensemble(ensemble, CaseImages((found,), (None,)))
    voxels, images = weakref.ref(found.image), CaseImages((found,), (None,))
    run = prepare_run(ensemble, images)
    left = found.without_voxels()
    del found, images
    gc.collect()
    assert voxels() is None
    np.testing.assert_array_equal(run(()), expected)
    # What is left knows where the image lies, and takes no memory.
    assert (left.image.shape, left.image.strides) == ((2, *SHAPE), (0, 0, 0, 0))
