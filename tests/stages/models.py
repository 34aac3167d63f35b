"""Models that predict in milliseconds: the plan of a small imported one, around networks that only compare with a threshold."""

import nibabel
import numpy as np
import torch
from torch import nn

from tests.stages.inference.test_nnunet_model import write_model
from tumorseg.stages.inference.models import load_model
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
    return load_model([write_model(folder)], "cpu")._replace(networks=(network or Above(),))


def write_image(folder, case_id, seed=0):
    """Write the two channels of a case, anisotropic, and return the first file."""
    folder.mkdir(exist_ok=True)
    channels = np.random.default_rng(seed).normal(size=(2, *SHAPE)).astype(np.float32)
    for number, channel in enumerate(channels):
        image = nibabel.Nifti1Image(channel.T, AFFINE)
        nibabel.save(image, folder / f"{case_id}_{number:04d}.nii.gz")
    return folder / f"{case_id}_0000.nii.gz"
