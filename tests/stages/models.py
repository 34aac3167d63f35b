"""Models that predict in milliseconds: the plan of a small imported one, around networks that only compare with a threshold."""

from dataclasses import replace
from threading import Event

import nibabel
import numpy as np
import torch
from torch import nn

from tests.stages.inference.test_nnunet_model import write_model
from tumorseg.stages.inference.models import load_model
from tumorseg.stages.inference.runtime import Networks, RuntimeOptions, make_runtime
from tumorseg.stages.inference.trained_model import Model

SHAPE = (9, 11, 7)
"""Voxels (Z, Y, X) of an image that `write_image` writes; a single tile."""
AFFINE = np.diag([2.0, 1.5, 1.0, 1.0])
"""Of such an image: voxels as large as the plan's, so that nothing is interpolated."""


class Above(nn.Module):
    """A network that finds the second label where the first channel is above a level."""

    def __init__(self, level: float = 0.0) -> None:
        super().__init__()
        self.level = level

    def forward(self, images):
        inside = (images[:, :1] > self.level).float()
        return torch.cat((1 - inside, inside, torch.zeros_like(inside) - 1), dim=1)


def small_model(folder, network=None) -> Model:
    """Return the model that is written into a folder, with another network in it."""
    return with_network(load_model([write_model(folder)], "cpu"), network or Above())


def with_network(model, network) -> Model:
    """Return a model with another network in it."""
    # With a wish to stop of its own, or one that is interrupted would stop the other.
    runtime = replace(model.runtime, passes=(network,), stopped=Event())
    return model._replace(networks=(network,), runtime=runtime)


def model_of(plan, configuration, network, weight_hash, previous=None) -> Model:
    """Return the model of a plan with a network of one's own, in float32 on the processor."""
    device, previous_hashes = torch.device("cpu"), () if previous is None else previous.weight_hashes
    placed = Networks((network,), device, (weight_hash,))
    runtime = make_runtime(plan, configuration, placed, RuntimeOptions(engine="torch", precision="fp32"))
    return Model(plan, configuration, (network,), device, (weight_hash, *previous_hashes), runtime, previous)


def write_image(folder, case_id, seed=0):
    """Write the two channels of a case, anisotropic, and return the first file."""
    folder.mkdir(exist_ok=True)
    channels = np.random.default_rng(seed).normal(size=(2, *SHAPE)).astype(np.float32)
    for number, channel in enumerate(channels):
        image = nibabel.Nifti1Image(channel.T, AFFINE)
        nibabel.save(image, folder / f"{case_id}_{number:04d}.nii.gz")
    return folder / f"{case_id}_0000.nii.gz"
