"""Every transform gives on CUDA what it gives on the CPU."""

import pytest
import torch

from tests.augmentation.seeded import augmented
from tests.augmentation.test_augmentation_contract import CASES, batch_of, built, widest
from tumorseg.schema.augmentation import AugmentationSpec

NOISE = {"gaussian_noise", "rician_noise"}
"""Fields of noise come from the device's own generator."""


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case))
def test_a_transform_gives_on_cuda_what_it_gives_on_the_cpu(cuda, case):
    _, transform, patch = built(case)
    spec = AugmentationSpec(transforms=(transform,))
    images, segmentations = batch_of(widest(transform, patch), batch=8)
    maps = images[:, :1].clone() if transform.moves_voxels else None
    own = augmented(images, segmentations, spec, patch_size=patch, maps=maps)
    moved = [None if tensor is None else tensor.to(cuda) for tensor in (images, segmentations, maps)]
    found = augmented(moved[0], moved[1], spec, patch_size=patch, maps=moved[2])
    assert all(part.device.type == "cuda" for part in found)
    assert (found[1].cpu() == own[1]).double().mean() >= 0.9999
    if transform.name in NOISE:
        for noise in (found[0].cpu(), own[0]):
            assert (noise - images[..., *(slice(edge) for edge in patch)]).std() > 0.05
    else:
        torch.testing.assert_close(found[0].cpu(), own[0], atol=1e-4, rtol=0)
    if maps is not None:
        torch.testing.assert_close(found[2].cpu(), own[2], atol=1e-4, rtol=0)
