"""The anatomy of a network, held to the network itself."""

import math
from functools import cache

import pytest
import torch
from torch import nn

from tests.networks.part_rows import NETWORKS, PARTS
from tests.networks.rows import NUM_CHANNELS, NUM_OUTPUTS, OWN, SHAPES, spec_of, with_parts
from tests.planning.measured import equal_cases, fingerprint, planned
from tumorseg.networks.registry import build_network
from tumorseg.planning.families.base import Ends
from tumorseg.planning.families.registry import family_of
from tumorseg.planning.reading.anatomy import BYTES, plan_anatomy
from tumorseg.schema.extensions import External
from tumorseg.schema.networks import PlainUNet, ResidualUNet
from tumorseg.schema.training import Precisions

NORMS = (nn.InstanceNorm2d, nn.InstanceNorm3d, nn.GroupNorm)
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
    "mednext, anisotropic": spec_of("mednext", "3d anisotropic", deep_supervision=False),
    "mednext, stride 3": spec_of("mednext", "3d with stride 3", deep_supervision=False),
}


@cache
def usual_plan():
    return planned(fingerprint(channels=("T1", "T2"), labels={"background": 0, "a": 1, "b": 2}))


def plan_with(spec, patch_size, **changes):
    """Return a plan whose configurations of so many axes have another network, patch and the like."""
    plan = usual_plan()
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
    # Some networks have one at the bottleneck too.
    encoder[-1].extend(network.heads[len(decoder) :])
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


def built(spec):
    return build_network(spec, num_channels=NUM_CHANNELS, num_outputs=NUM_OUTPUTS).train()


def weights_of(stages):
    return [sum(weight.numel() for module in one for weight in module.parameters()) for one in stages]


@pytest.mark.parametrize(("shape", "deep_supervision"), [*((shape, True) for shape in SHAPES), ("2d", False)])
@pytest.mark.parametrize("name", OWN)
def test_stages_are_those_of_the_network(name, shape, deep_supervision):
    spec, space = spec_of(name, shape, deep_supervision), SHAPES[shape][0]
    network, images = built(spec), torch.randn(1, NUM_CHANNELS, *space)
    anatomy = anatomy_of(spec, space)
    assert [stage.parameters for stage in anatomy.stages] == weights_of(stage_modules(network))
    assert anatomy.parameters == sum(weight.numel() for weight in network.parameters())
    with torch.inference_mode():
        skips = network._encode(images)
    assert [(1, stage.features, *stage.shape) for stage in anatomy.encoder] == [tuple(s.shape) for s in skips]
    assert [(s.level, s.shape) for s in anatomy.decoder] == [(s.level, s.shape) for s in anatomy.encoder[-2::-1]]
    assert saved_elements(spec, space, is_checkpointed=False) == counted_elements(network, images)


def part_figures(name, part):
    """Return weights of stages and numbers that are kept of all, as they are told and as they are in the network."""
    spec, space = with_parts(name, "3d anisotropic", part), SHAPES["3d anisotropic"][0]
    network = built(spec)
    modules = stage_modules(network)
    for gate, decoder in zip(network.gates, modules[len(network.stages) :], strict=False):
        decoder.append(gate)
    told = [stage.parameters for stage in anatomy_of(spec, space).stages]
    # A stage's result may be kept by the next one alone, which is why they are compared as a whole.
    kept = sum(saved_elements(spec, space, is_checkpointed=False))
    counted = sum(counted_elements(network, torch.randn(1, NUM_CHANNELS, *space)))
    return (told, kept), (weights_of(modules), counted)


JOINED = ("all, layer", "all, batch")


@pytest.mark.parametrize("part", JOINED)
@pytest.mark.parametrize("name", NETWORKS)
def test_parts_weigh_and_keep_what_they_do_in_the_network(name, part):
    told, found = part_figures(name, part)
    assert told == found


@pytest.mark.slow
def test_each_part_alone_weighs_and_keeps_what_it_does_in_the_network():
    for name in NETWORKS:
        for part in PARTS.keys() - set(JOINED):
            told, found = part_figures(name, part)
            assert told == found, (name, part)


def test_saved_activations_of_response_norms_are_what_autograd_keeps():
    spec, space = spec_of("mednext", "3d", deep_supervision=True), SHAPES["3d"][0]
    spec = spec.changed(global_response_norm=True)
    network = build_network(spec, num_channels=NUM_CHANNELS, num_outputs=NUM_OUTPUTS).train()
    counted = counted_elements(network, torch.randn(1, NUM_CHANNELS, *space))
    assert saved_elements(spec, space, is_checkpointed=False) == counted


def measured_edges(network, axis, space):
    """Return, for each stage, how many voxels along an axis reach its middle voxel with a change."""
    images = torch.zeros(1, 1, *space, dtype=torch.float64, requires_grad=True)
    edges = []
    for features in network._encode(images):
        middle = tuple(edge // 2 for edge in features.shape[2:])
        (gradient,) = torch.autograd.grad(features[(0, 0, *middle)], images, retain_graph=True)
        reached = gradient[0, 0].nonzero()[:, axis]
        edges.append(int(reached.max() - reached.min()) + 1)
    return edges


def bare(spec):
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
    network, found = bare(spec), []
    for axis, divisor in enumerate(divisors):
        # Long along one axis alone: what is seen along the others is no matter.
        space = [2 * other for other in divisors]
        space[axis] = divisor * math.ceil(2 * expected[-1][axis] / divisor)
        found.append(measured_edges(network, axis, space))
    assert list(zip(*found, strict=True)) == expected


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
    labels = {"background": 0, "a": 1, "b": 2}
    small = equal_cases(10, shape=(16, 16, 16))
    measured = fingerprint(small, channels=("T1", "T2"), labels=labels, regions=regions)
    plan = planned(measured, preset="fast_prototyping")
    for previous, channels in ((None, 2), ("3d_lowres", 4)):
        changed = plan.configurations["3d_fullres"].model_copy(update={"previous_configuration": previous})
        anatomy = plan_anatomy(plan.model_copy(update={"configurations": {"3d_fullres": changed}}), "3d_fullres")
        network = build_network(changed.network, num_channels=channels, num_outputs=outputs)
        assert anatomy.parameters == sum(weight.numel() for weight in network.parameters())


def test_another_packages_network_has_no_known_anatomy():
    spec = External(name="net", distribution="other", version="1")
    assert anatomy_of(spec, (8, 8, 8)) is None
