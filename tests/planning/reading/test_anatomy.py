"""The anatomy of a network, held to the network itself."""

import math

import pytest
import torch
from torch import nn

from tests.networks.test_networks_contract import NUM_CHANNELS, NUM_OUTPUTS, SHAPES, spec_of
from tests.planning.measured import fingerprint, planned
from tumorseg.networks.registry import BUILDERS, build_network
from tumorseg.networks.unet import UNet
from tumorseg.planning.families.base import Ends
from tumorseg.planning.families.registry import family_of
from tumorseg.planning.reading.anatomy import BYTES, plan_anatomy
from tumorseg.schema.extensions import External
from tumorseg.schema.networks import PlainUNet, ResidualUNet
from tumorseg.schema.training import Precisions

NORMS = (nn.InstanceNorm2d, nn.InstanceNorm3d)
REGIONS = [{"name": "whole", "labels": [1, 2], "value": 1}, {"name": "core", "labels": [2], "value": 2}]
# Kernels of 1 beside strides of 2 and 3: there only the shortcut of a residual block sees all voxels of a stride.
NARROW = {
    "features_per_stage": (1, 2, 2),
    "strides": ((1, 1), (2, 2), (3, 2)),
    "kernel_sizes": ((1, 3), (1, 3), (1, 3)),
    "decoder_convs_per_stage": (1, 1),
}
FIELD_SPECS = {
    "plain, 2d": spec_of("plain_unet", "2d", deep_supervision=False),
    "plain, anisotropic": spec_of("plain_unet", "3d anisotropic", deep_supervision=False),
    "plain, narrow": PlainUNet(convs_per_stage=(1, 2, 3), **NARROW),
    "residual, anisotropic": spec_of("residual_unet", "3d anisotropic", deep_supervision=False),
    "residual, stride 3": spec_of("residual_unet", "2d", deep_supervision=False).model_copy(
        update={"strides": ((1, 1), (3, 2), (1, 3))}
    ),
    "residual, narrow": ResidualUNet(blocks_per_stage=(1, 1, 2), **NARROW),
}


def plan_with(spec, patch_size, **changes):
    """Return a plan whose configurations of so many axes have another network, patch and the like."""
    plan = planned(fingerprint(channels=("T1", "T2"), labels={"background": 0, "a": 1, "b": 2}))
    name = "2d" if len(patch_size) == 2 else "3d_fullres"
    changed = plan.configurations[name].model_copy(update={"network": spec, "patch_size": patch_size, **changes})
    return plan.model_copy(update={"configurations": {name: changed}, "default_configuration": name})


def anatomy_of(spec, patch_size, **changes):
    plan = plan_with(spec, patch_size, **changes)
    return plan_anatomy(plan, plan.default_configuration)


def saved_elements(spec, patch_size, *, is_checkpointed):
    ends = Ends(NUM_CHANNELS, NUM_OUTPUTS, is_checkpointed)
    return [stage.saved_elements for stage in family_of(spec.name).stages(spec, patch_size, ends)]


def stage_modules(network):
    """Return what belongs to each stage, encoder first."""
    encoder = [[stage] for stage in network.stages]
    encoder[0].append(network.stem)
    decoder = [list(pair) for pair in zip(network.upsamplings, network.decoder, strict=True)]
    for head, modules in zip(network.heads, reversed(decoder), strict=False):
        modules.append(head)
    return encoder + decoder


def counted_elements(network, images):
    """Return what autograd keeps of each stage in a forward pass: every storage once, images, weights and statistics left out."""
    known = {tensor.untyped_storage().data_ptr() for tensor in (images, *network.parameters())}
    counts, current, kept = {}, [0], []

    def note(tensor):
        address = tensor.untyped_storage().data_ptr()
        if address not in known and tensor.ndim > 1:
            known.add(address)
            counts[current[0]] = counts.get(current[0], 0) + tensor.untyped_storage().nbytes() // 4
        kept.append(tensor)  # no address is used again
        return tensor

    for number, modules in enumerate(stage_modules(network)):
        for module in modules:
            module.register_forward_pre_hook(lambda *_, number=number: current.__setitem__(0, number))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        outputs = network(images)
    del outputs
    return [counts[number] for number in sorted(counts)]


@pytest.mark.parametrize("deep_supervision", [True, False], ids=["deep", "shallow"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", BUILDERS)
class TestAgainstTheNetwork:
    def test_parameters_are_those_of_each_stage(self, name, shape, deep_supervision):
        spec = spec_of(name, shape, deep_supervision)
        network = build_network(spec, num_channels=NUM_CHANNELS, num_outputs=NUM_OUTPUTS)
        anatomy = anatomy_of(spec, SHAPES[shape][0])
        expected = [
            sum(weight.numel() for module in modules for weight in module.parameters())
            for modules in stage_modules(network)
        ]
        assert [stage.parameters for stage in anatomy.stages] == expected
        assert anatomy.parameters == sum(weight.numel() for weight in network.parameters())

    def test_saved_activations_are_what_autograd_keeps_of_each_stage(self, name, shape, deep_supervision):
        spec, space = spec_of(name, shape, deep_supervision), SHAPES[shape][0]
        network = build_network(spec, num_channels=NUM_CHANNELS, num_outputs=NUM_OUTPUTS).train()
        counted = counted_elements(network, torch.randn(1, NUM_CHANNELS, *space))
        assert saved_elements(spec, space, is_checkpointed=False) == counted

    def test_shapes_and_features_are_those_of_the_skip_connections(self, name, shape, deep_supervision):
        spec, space = spec_of(name, shape, deep_supervision), SHAPES[shape][0]
        network = build_network(spec, num_channels=NUM_CHANNELS, num_outputs=NUM_OUTPUTS)
        with torch.inference_mode():
            skips = network._encode(torch.randn(1, NUM_CHANNELS, *space))
        anatomy = anatomy_of(spec, space)
        assert [(1, stage.features, *stage.shape) for stage in anatomy.encoder] == [tuple(s.shape) for s in skips]
        assert [(s.level, s.shape) for s in anatomy.decoder] == [(s.level, s.shape) for s in anatomy.encoder[-2::-1]]


def measured_field(network, level, space):
    """Return the edges of the box of voxels whose change reaches the middle voxel of a stage."""
    images = torch.zeros(1, 1, *space, dtype=torch.float64, requires_grad=True)
    features = network._encode(images)[level]
    middle = tuple(edge // 2 for edge in features.shape[2:])
    features[(0, 0, *middle)].backward()
    reached = images.grad[0, 0].nonzero()
    return tuple((reached.max(dim=0).values - reached.min(dim=0).values + 1).tolist())


def bare(spec) -> UNet:
    """Return a network of weights 1 without normalisation, through which every gradient is positive."""
    network = build_network(spec, num_channels=1, num_outputs=1).double()
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, NORMS):
                setattr(module, name, nn.Identity())
    for weight in network.parameters():
        nn.init.ones_(weight)
    return network


@pytest.mark.parametrize("name", FIELD_SPECS)
def test_the_receptive_field_is_how_far_a_gradient_reaches(name):
    spec = FIELD_SPECS[name].model_copy(update={"features_per_stage": (1, 2, 2)})
    expected = [stage.receptive_field.voxels for stage in anatomy_of(spec, (1,) * spec.num_axes).encoder]
    divisors = [math.prod(axis) for axis in zip(*spec.strides, strict=True)]
    space = tuple(divisor * math.ceil(2 * edge / divisor) for divisor, edge in zip(divisors, expected[-1], strict=True))
    network = bare(spec)
    assert [measured_field(network, level, space) for level in range(3)] == expected


def test_fields_in_mm_and_bytes_follow_the_grid_the_batch_and_the_precision():
    spec, space = spec_of("plain_unet", "3d anisotropic", deep_supervision=True), SHAPES["3d anisotropic"][0]
    plan = plan_with(spec, space, batch_size=5, gradient_accumulation=2, spacing_mm=(4.0, 0.5, 0.75))
    half = plan_anatomy(plan, "3d_fullres")
    first = half.encoder[0].receptive_field
    assert (first.voxels, first.mm) == ((1, 5, 5), (4.0, 2.5, 3.75))
    assert half.batch_size == 3
    assert half.saved_bytes == 3 * 2 * sum(saved_elements(spec, space, is_checkpointed=False))
    training = plan.training.model_copy(update={"precision": Precisions(cuda="fp32")})
    full = plan_anatomy(plan.model_copy(update={"training": training}), "3d_fullres")
    assert full.saved_bytes == 2 * half.saved_bytes
    assert set(BYTES) == {"fp32", "fp16", "bf16"}


def test_checkpointing_keeps_inputs_of_stages_only():
    spec, space = spec_of("residual_unet", "2d", deep_supervision=True), SHAPES["2d"][0]
    maps = [4 * 16 * 24, 6 * 8 * 12, 6 * 4 * 6]
    kept = saved_elements(spec, space, is_checkpointed=True)
    assert kept == [*maps, 3 * maps[1], 3 * maps[0]]
    assert sum(kept) < sum(saved_elements(spec, space, is_checkpointed=False))


@pytest.mark.parametrize(("regions", "outputs"), [([], 3), (REGIONS, 2)])
def test_a_cascade_is_given_a_channel_for_each_foreground_label(regions, outputs):
    measured = fingerprint(channels=("T1", "T2"), labels={"background": 0, "a": 1, "b": 2}, regions=regions)
    plan = planned(measured)
    for previous, channels in ((None, 2), ("3d_lowres", 4)):
        changed = plan.configurations["3d_fullres"].model_copy(update={"previous_configuration": previous})
        anatomy = plan_anatomy(plan.model_copy(update={"configurations": {"3d_fullres": changed}}), "3d_fullres")
        network = build_network(changed.network, num_channels=channels, num_outputs=outputs)
        assert anatomy.parameters == sum(weight.numel() for weight in network.parameters())


def test_another_packages_network_has_no_known_anatomy():
    spec = External(name="net", distribution="other", version="1")
    assert anatomy_of(spec, (8, 8, 8)) is None
