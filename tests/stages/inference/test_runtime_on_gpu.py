"""Models on a GPU: what they answer, and what is done when its memory runs out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.stages.inference.test_nnunet_model import smooth_image, write_model
from tests.stages.models import AFFINE, Above, with_network
from tumorseg.errors import InputError
from tumorseg.stages.inference.ensembles import together
from tumorseg.stages.inference.models import load_model
from tumorseg.stages.inference.predict_array import predict_array, predict_array_probabilities
from tumorseg.stages.inference.runtime import MOST_PATCHES, RuntimeOptions

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("cuda")]
MIB = 2**20
EXACT = RuntimeOptions(engine="torch", precision="fp32")


class Hungry(Above):
    """A network that takes 256 MiB for each patch."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def forward(self, images):
        self.sizes.append(len(images))
        held = torch.empty(len(images), 256 * MIB, dtype=torch.uint8, device=images.device)
        return super().forward(images) + 0 * held[0, 0]


def model_on(device, folder, options=EXACT, network="plain_3d"):
    return load_model([write_model(folder, network=network)], device, runtime=options)


def hungry(folder):
    """Return a model on the GPU that begins with eight patches in a pass."""
    model = with_network(model_on("cuda", folder), Hungry())
    return model._replace(runtime=replace(model.runtime, patches_per_pass=8))


@pytest.fixture
def leave():
    """Return what lets so many MiB be taken beside what is held."""

    def limit(mib):
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + mib * MIB) / total)

    yield limit
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_batches_get_smaller_until_they_fit_and_the_labels_stay(tmp_path, leave):
    image = smooth_image()
    expected = predict_array(with_network(model_on("cpu", tmp_path / "cpu"), Above()), image, AFFINE)
    model = hungry(tmp_path / "cuda")
    leave(900)
    assert np.array_equal(predict_array(model, image, AFFINE), expected)
    assert len(np.unique(expected)) > 1
    assert (model.runtime.patches_per_pass, model.runtime.sums_on_cpu) == (2, False)
    assert model.networks[0].sizes[-1] <= 2


def test_where_no_patch_fits_it_is_one_line(tmp_path, leave):
    model = hungry(tmp_path / "model")
    leave(100)
    with pytest.raises(InputError, match="a single tile does not fit the GPU's memory") as raised:
        predict_array(model, smooth_image(), AFFINE)
    assert "\n" not in str(raised.value)
    assert model.runtime.sums_on_cpu


@pytest.mark.parametrize("sums_on_cpu", [False, True])
def test_labels_are_those_of_the_cpu_wherever_logits_are_added_up(tmp_path, sums_on_cpu):
    image = smooth_image()
    expected = predict_array(model_on("cpu", tmp_path / "cpu"), image, AFFINE)
    model = model_on("cuda", tmp_path / "cuda")
    model = model._replace(runtime=replace(model.runtime, sums_on_cpu=sums_on_cpu))
    assert (predict_array(model, image, AFFINE) == expected).mean() > 0.999


def test_an_ensemble_is_as_certain_as_on_the_cpu(tmp_path):
    image = smooth_image()
    found = []
    for device in ("cpu", "cuda"):
        kinds = ("plain_3d", "residual_3d")
        models = [model_on(device, tmp_path / f"{device} {kind}", network=kind) for kind in kinds]
        found.append(predict_array_probabilities(together(models), image, AFFINE).probabilities)
    assert np.abs(found[1] - found[0]).max() < 0.01


def test_half_precision_is_that_of_the_training_and_a_pass_holds_some_patches(tmp_path):
    model = model_on("cuda", tmp_path / "model", RuntimeOptions())
    assert (model.runtime.engine, model.runtime.precision) == ("torch", model.plan.training.precision.cuda)
    assert 1 <= model.runtime.patches_per_pass <= MOST_PATCHES
