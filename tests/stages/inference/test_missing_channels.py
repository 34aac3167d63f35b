"""Channels that cases lack: what the network is shown in their place."""

import json

import nibabel
import numpy as np
import pytest
import torch
from torch import nn

from tests.stages.models import small_model, write_image
from tumorseg.ops.absent_channels import AbsentChannels
from tumorseg.sources.inputs import open_inputs
from tumorseg.stages.inference.ensembles import alone
from tumorseg.stages.inference.method import PredictOptions
from tumorseg.stages.inference.predict_cases import predict_cases


class Seen(nn.Module):
    """A network that keeps what it is shown, and finds the second label where the first channel is above 0."""

    def __init__(self):
        super().__init__()
        self.images = []

    def forward(self, images):
        self.images.append(images.clone())
        inside = (images[:, :1] > 0).float()
        return torch.cat((1 - inside, inside, torch.zeros_like(inside) - 1), dim=1)


@pytest.fixture
def network():
    return Seen()


@pytest.fixture
def model(tmp_path, network):
    return small_model(tmp_path / "model", network)


@pytest.fixture
def cases(tmp_path):
    """Return a case whole, and the same without its first channel."""
    write_image(tmp_path / "in", "a")
    (case,) = open_inputs([tmp_path / "in"], ["T1", "T2"]).cases
    return case, case.changed(images=case.images[1:])


def without_first(filling):
    return PredictOptions(mirroring=False, absent=AbsentChannels((0,), filling))


def shown(model, network, case, folder, options):
    """Return the first tile (C, Z, Y, X) that the network is shown."""
    network.images.clear()
    assert not predict_cases(alone(model), [case], folder, options=options).failures
    return network.images[0][0].numpy()


def test_zero_is_shown_beside_the_channels_that_are_there(model, network, cases, tmp_path):
    whole = shown(model, network, cases[0], tmp_path / "whole", PredictOptions(mirroring=False))
    lacking = shown(model, network, cases[1], tmp_path / "zero", without_first("zero"))
    assert not lacking[0].any()
    np.testing.assert_array_equal(lacking[1], whole[1])


def test_the_mean_of_normalised_channels_is_shown(model, network, cases, tmp_path):
    lacking = shown(model, network, cases[1], tmp_path / "mean", without_first("mean"))
    # One other channel is its own mean.
    np.testing.assert_array_equal(lacking[0], lacking[1])
    mask = np.asanyarray(nibabel.load(tmp_path / "mean" / "a.nii.gz").dataobj)
    channel = nibabel.load(tmp_path / "in" / "a_0001.nii.gz").get_fdata()
    np.testing.assert_array_equal(mask == 1, channel > channel.mean())


def test_masks_of_other_fillings_are_never_taken_for_results(model, cases, tmp_path):
    output = tmp_path / "out"
    hashes = []
    for options in (without_first("zero"), without_first("mean"), without_first("zero")):
        assert predict_cases(alone(model), [cases[1]], output, options=options).left_alone == ()
        hashes.append(json.loads((output / "predictions.json").read_text())["method_hash"])
    assert predict_cases(alone(model), [cases[1]], output, options=without_first("zero")).left_alone == ("a",)
    assert hashes[0] == hashes[2] != hashes[1]


def test_an_image_of_one_value_is_refused_though_another_channel_is_missing(model, cases, tmp_path):
    path = tmp_path / "in" / "a_0001.nii.gz"
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.full(image.shape, 3, np.float32), image.affine), path)
    (failure,) = predict_cases(alone(model), [cases[1]], tmp_path / "out", options=without_first("zero")).failures
    assert "one single value in every voxel" in failure.message
