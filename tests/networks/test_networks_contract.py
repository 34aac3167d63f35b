"""What every network of the registry promises."""

import io

import pytest
import torch
from torch import Tensor, nn

from tumorseg.errors import InputError
from tumorseg.networks.registry import BUILDERS, build_network
from tumorseg.schema.networks import NETWORKS, PlainUNet, ResidualUNet, UNetTopology

NUM_CHANNELS, NUM_OUTPUTS = 2, 3

# Space, strides and kernels of each shape of network.
SHAPES = {
    "2d": ((16, 24), ((1, 1), (2, 2), (2, 2)), ((3, 3), (3, 3), (3, 3))),
    "3d": ((8, 8, 16), ((1, 1, 1), (2, 2, 2), (2, 2, 2)), ((3, 3, 3),) * 3),
    "3d anisotropic": ((6, 16, 8), ((1, 1, 1), (1, 2, 2), (2, 2, 1)), ((1, 3, 3), (1, 3, 3), (3, 3, 3))),
    "3d with stride 3": ((6, 12, 6), ((1, 1, 1), (3, 3, 3), (1, 2, 1)), ((3, 3, 3),) * 3),
}


def topology(shape, deep_supervision):
    _, strides, kernels = SHAPES[shape]
    return {
        "features_per_stage": (4, 6, 6),
        "strides": strides,
        "kernel_sizes": kernels,
        "decoder_convs_per_stage": (1, 2),
        "deep_supervision": deep_supervision,
    }


def spec_of(name, shape, deep_supervision):
    specs = {
        "plain_unet": lambda: PlainUNet(convs_per_stage=(2, 1, 2), **topology(shape, deep_supervision)),
        "residual_unet": lambda: ResidualUNet(blocks_per_stage=(1, 2, 2), **topology(shape, deep_supervision)),
    }
    return specs[name]()


def build(spec, seed=0):
    torch.manual_seed(seed)
    return build_network(spec, num_channels=NUM_CHANNELS, num_outputs=NUM_OUTPUTS)


def images_of(shape, batch=2):
    return torch.randn(batch, NUM_CHANNELS, *SHAPES[shape][0], generator=torch.Generator().manual_seed(1))


def as_list(outputs):
    return [outputs] if isinstance(outputs, Tensor) else outputs


@pytest.mark.parametrize("deep_supervision", [True, False], ids=["deep", "shallow"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", BUILDERS)
class TestEveryNetwork:
    def test_training_outputs_run_from_full_resolution_down(self, name, shape, deep_supervision):
        spec = spec_of(name, shape, deep_supervision)
        outputs = build(spec).train()(images_of(shape))
        assert isinstance(outputs, list) == deep_supervision
        expected, sizes = [], SHAPES[shape][0]
        for strides in spec.strides[:-1] if deep_supervision else spec.strides[:1]:
            sizes = tuple(size // stride for size, stride in zip(sizes, strides, strict=True))
            expected.append((2, NUM_OUTPUTS, *sizes))
        assert [tuple(logits.shape) for logits in as_list(outputs)] == expected

    def test_evaluation_gives_one_finite_float32_tensor(self, name, shape, deep_supervision):
        network = build(spec_of(name, shape, deep_supervision)).eval()
        with torch.inference_mode():
            logits = network(images_of(shape))
        assert isinstance(logits, Tensor)
        assert logits.dtype == torch.float32
        assert logits.shape == (2, NUM_OUTPUTS, *SHAPES[shape][0])
        assert logits.isfinite().all()

    def test_evaluation_equals_the_full_resolution_of_training(self, name, shape, deep_supervision):
        network = build(spec_of(name, shape, deep_supervision))
        training = as_list(network.train()(images_of(shape)))[0]
        torch.testing.assert_close(network.eval()(images_of(shape)), training)

    def test_gradients_reach_every_parameter(self, name, shape, deep_supervision):
        network = build(spec_of(name, shape, deep_supervision)).train()
        for module in network.modules():
            if isinstance(module, nn.InstanceNorm2d | nn.InstanceNorm3d):
                nn.init.ones_(module.weight)  # a residual block's last norm starts at 0 and would stop its gradients
        outputs = as_list(network(images_of(shape)))
        sum(logits.square().mean() for logits in outputs).backward()
        for parameter_name, parameter in network.named_parameters():
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.isfinite().all(), parameter_name
            if parameter_name.endswith("weight"):
                assert parameter.grad.abs().max() > 0, parameter_name

    def test_state_dict_round_trips_through_safe_loading(self, name, shape, deep_supervision):
        spec = spec_of(name, shape, deep_supervision)
        first, second = build(spec, seed=0).eval(), build(spec, seed=1).eval()
        file = io.BytesIO()
        torch.save(first.state_dict(), file)
        file.seek(0)
        second.load_state_dict(torch.load(file, weights_only=True))
        assert torch.equal(first(images_of(shape)), second(images_of(shape)))

    def test_samples_of_a_batch_do_not_see_each_other(self, name, shape, deep_supervision):
        network = build(spec_of(name, shape, deep_supervision)).eval()
        images = images_of(shape)
        torch.testing.assert_close(network(images)[:1], network(images[:1]), atol=1e-5, rtol=1e-5)

    def test_the_same_seed_gives_the_same_weights(self, name, shape, deep_supervision):
        spec = spec_of(name, shape, deep_supervision)
        first, second = build(spec, seed=3).state_dict(), build(spec, seed=3).state_dict()
        assert all(torch.equal(first[key], second[key]) for key in first)

    def test_space_that_strides_do_not_divide_is_named(self, name, shape, deep_supervision):
        network = build(spec_of(name, shape, deep_supervision))
        space = SHAPES[shape][0]
        with pytest.raises(InputError, match=rf"{space[-1] + 1}.*multiple"):
            network(torch.zeros(1, NUM_CHANNELS, *space[:-1], space[-1] + 1))
        with pytest.raises(InputError, match="multiple"):
            network(torch.zeros(1, NUM_CHANNELS, 8))


def test_registry_and_schema_name_the_same_networks():
    assert set(NETWORKS) == set(BUILDERS)
    assert all(issubclass(record, UNetTopology) for record in NETWORKS.values())
