"""A model is loaded from checkpoints of its own network, or not at all."""

import pytest
import torch

from tests.engine.phantoms import CLASSES, configuration_of
from tests.stages.models import small_model
from tumorseg.errors import StorageError
from tumorseg.networks.registry import build_network
from tumorseg.schema.network_base import MOST_FEATURES, MOST_KERNEL_EDGE
from tumorseg.schema.targets import num_inputs, targets_of
from tumorseg.stages.inference.runtime import RuntimeOptions
from tumorseg.stages.inference.trained_model import WeightFiles, load_networks
from tumorseg.storage.checkpoints import load_network, save_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small_model(tmp_path_factory.mktemp("model") / "model")


def loaded(model, configuration, weights, path):
    save_checkpoint(path, {"network": weights})
    files = WeightFiles([path], lambda file, _network: load_network(file))
    return load_networks(model.plan, configuration, files, "cpu", runtime=RuntimeOptions(engine="torch"))


def test_weights_of_another_network_are_told_in_one_line_by_the_first_name(model, tmp_path):
    configuration = configuration_of(targets=CLASSES)
    targets = targets_of(model.plan.dataset)
    network = build_network(
        configuration.network, num_channels=num_inputs(configuration, targets), num_outputs=targets.num_outputs
    )
    weights, path = network.state_dict(), tmp_path / "a.ckpt"
    assert len(loaded(model, configuration, weights, path).networks) == 1
    name = next(iter(weights))
    others = {
        "is missing": {key: value for key, value in weights.items() if key != name},
        r"is of shape \(3,\), expected": weights | {name: torch.zeros(3)},
        "'features.1' is none of its tensors": weights | {"features.1": torch.zeros(3)},
    }
    for problem, changed in others.items():
        with pytest.raises(
            StorageError, match=rf"a\.ckpt: its weights are not those of .*network: .*{problem}"
        ) as told:
            loaded(model, configuration, changed, path)
        assert "\n" not in str(told.value)


def test_a_network_beyond_memory_is_told_in_one_line_and_takes_none(model, tmp_path):
    configuration = configuration_of(targets=CLASSES)
    own = configuration.network
    weights = build_network(own, num_channels=1, num_outputs=3).state_dict()
    kernels = ((MOST_KERNEL_EDGE,) * 3, *own.kernel_sizes[1:])
    widths = (MOST_FEATURES, *own.features_per_stage[1:])
    hostile = configuration.changed(network=own.changed(features_per_stage=widths, kernel_sizes=kernels))
    message = r"its weights are not those of the plan's network: .* is of shape .*, expected \(65536, .*99"
    with pytest.raises(StorageError, match=message) as told:
        loaded(model, hostile, weights, tmp_path / "a.ckpt")
    assert "\n" not in str(told.value)
