"""Models as a setting has them, and how often their networks are counted to see a patch."""

import numpy as np
import pytest
from torch import nn

from tests.stages.inference.test_nnunet_model import write_model
from tests.stages.models import AFFINE, Above, with_network
from tumorseg.engine.sliding_window import PLANES_PER_PASS
from tumorseg.schema.settings import Setting
from tumorseg.stages.inference import settings
from tumorseg.stages.inference.method import AS_PLANNED
from tumorseg.stages.inference.models import load_model
from tumorseg.stages.inference.predict_array import predict_array
from tumorseg.stages.inference.runtime import RuntimeOptions
from tumorseg.stages.inference.settings import (
    chosen_folds_of,
    network_name,
    network_shape,
    networks_of,
    num_passes,
    options_of,
    tile_seconds,
    with_setting,
)
from tumorseg.storage.formats.stored import Geometry

SHAPE = (21, 50, 37)


class Counting(nn.Module):
    """A network that counts the patches that it sees."""

    def __init__(self):
        super().__init__()
        self.num_seen = 0

    def forward(self, images):
        self.num_seen += len(images)
        return Above()(images)


def setting_of(**fields):
    known = {"num_folds": 1, "mirroring": True, "overlap": 0.5, "precision": "auto", "engine": "torch"}
    return Setting(**known | fields)


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    """A model of three folds."""
    written = write_model(tmp_path_factory.mktemp("model") / "m", folds=("0", "1", "2"))
    return load_model([written], "cpu", runtime=RuntimeOptions(engine="torch", precision="fp32"))


@pytest.fixture(scope="module")
def cascade(folds):
    planned = folds.configuration.model_copy(update={"previous_configuration": "3d_lowres"})
    hashes = (*folds.weight_hashes, *folds.weight_hashes)
    return folds._replace(configuration=planned, weight_hashes=hashes, previous=folds)


def counted(model, affine=AFFINE, mirroring=None):
    """Return how many patches a network sees of an image, and how many were expected."""
    array = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    network = model.networks[0]
    network.num_seen = 0
    predict_array(model, array, affine, mirroring=mirroring)
    shape = network_shape(model, Geometry(SHAPE, affine, 1))
    return network.num_seen, num_passes(model, shape, mirroring=mirroring)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75])
@pytest.mark.parametrize("mirroring", [True, False])
def test_as_many_passes_are_counted_as_a_network_makes(folds, overlap, mirroring):
    setting = setting_of(overlap=overlap, mirroring=mirroring)
    model = with_setting(with_network(folds, Counting()), setting)
    seen, expected = counted(model, mirroring=options_of(setting, AS_PLANNED).mirroring)
    assert seen == expected
    assert seen % 4 == 0 if mirroring else seen > 1


@pytest.mark.parametrize("directions", [(1, 1, 1), (-1, 1, -1)])
def test_the_grid_follows_spacing_and_axes(folds, directions):
    affine = np.diag([3.1 * directions[0], 0.7 * directions[1], 1.3 * directions[2], 1.0])
    model = with_network(folds, Counting())
    seen, expected = counted(model, affine)
    assert seen == expected
    assert expected != counted(model)[1]


def test_planes_count_one_by_one(folds):
    planned = folds.configuration
    # As an imported plan of two axes has it: patch and spacing of the last two.
    inference = planned.inference.model_copy(update={"mirroring_axes": (0, 1)})
    fields = {"patch_size": (24, 24), "spacing_mm": (1.0, 1.5), "median_shape": (40, 40), "inference": inference}
    network = planned.network.model_copy(update={"axes": 2})
    planar = folds._replace(configuration=planned.model_copy(update=fields | {"network": network}))
    assert planar.configuration.num_axes == 2
    model = with_setting(with_network(planar, Counting()), setting_of())
    seen, expected = counted(model)
    assert seen == expected
    # In stacks of eight, seen in four views.
    assert seen % (PLANES_PER_PASS * 4) == 0


def test_a_setting_takes_the_first_folds_and_its_overlap(folds):
    chosen = chosen_folds_of(folds, setting_of(num_folds=2, overlap=0.25))
    assert chosen.networks == folds.networks[:2]
    assert chosen.weight_hashes == folds.weight_hashes[:2]
    assert chosen.configuration.inference.overlap == 0.25
    assert chosen_folds_of(folds, setting_of(num_folds=9)) == folds
    assert network_name(chosen) == network_name(folds) == f"{folds.plan.name}/3d_fullres"


def test_a_cascades_previous_model_follows(cascade):
    chosen = chosen_folds_of(cascade, setting_of(num_folds=1, overlap=0.25))
    assert [len(model.networks) for model in networks_of([chosen])] == [1, 1]
    assert [model.configuration.inference.overlap for model in networks_of([chosen])] == [0.25, 0.25]
    assert chosen.weight_hashes == (cascade.weight_hashes[0], cascade.previous.weight_hashes[0])


def test_a_model_with_a_setting_keeps_its_thread_and_its_turn_and_gives_the_same_masks(folds):
    array = np.random.default_rng(1).normal(size=(2, 12, 30, 29)).astype(np.float32)
    same = with_setting(folds, setting_of(num_folds=3, precision="fp32"))
    assert (same.runtime.turn, same.runtime.background) == (folds.runtime.turn, folds.runtime.background)
    assert same.runtime.precision == "fp32"
    assert len(same.runtime.passes) == 3
    assert np.array_equal(predict_array(same, array, AFFINE), predict_array(folds, array, AFFINE))
    one = with_setting(folds, setting_of(num_folds=1))
    assert one.runtime.passes == folds.networks[:1]


def test_a_tile_is_timed_as_one_patch_through_one_network(folds, monkeypatch):
    monkeypatch.setattr(settings, "LEAST_SECONDS", 0.0)
    network = Counting()
    model = with_network(folds, network)
    assert 0 < tile_seconds(model) < 0.1
    # The first pass does not count, and three are timed: each of all views.
    num_passes_made = 1 + settings.LEAST_PASSES
    assert network.num_seen % (num_passes_made * 4) == 0


def test_options_of_a_setting_leave_mirroring_to_the_plans_or_out():
    assert options_of(setting_of(), AS_PLANNED).mirroring is None
    made = options_of(setting_of(mirroring=False, precision="fp32"), AS_PLANNED._replace(only_labels=("a",)))
    assert made == AS_PLANNED._replace(mirroring=False, precision="fp32", only_labels=("a",))
