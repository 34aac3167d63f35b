"""nnU-Net v2's U-Nets as a plan describes them, in both directions."""

from typing import Any

from tumorseg.errors import PlanError
from tumorseg.schema.base import parse_record
from tumorseg.schema.networks import Axes, PlainUNet, ResidualUNet
from tumorseg.schema.nnunet import (
    PLAIN_CLASSES,
    RESIDUAL_CLASSES,
    Architecture,
    OldNetwork,
    PerStage,
    PlainArguments,
    ResidualArguments,
    UNetArguments,
)

OLD_CLASSES = {"PlainConvUNet": PLAIN_CLASSES[0], "ResidualEncoderUNet": RESIDUAL_CLASSES[0]}
"""What plans from before the key `architecture` call the networks."""
OLD_KEYS = tuple(key for key in OldNetwork.model_fields if key != "patch_size")
"""Of a configuration, in plans from before the key `architecture`."""
DEFAULT_SLOPE = 0.01


def modernized(configuration: dict[str, Any], source: str) -> dict[str, Any]:
    """Return a configuration whose network stands under `architecture`, as nnunetv2 reads plans of its first versions.

    Args:
        configuration: as it stands in the plans, what it inherits filled in.
        source: what to call it in an error.

    Raises:
        PlanError: keys are missing or hold something else, or the network is an unknown one.

    References:
        nnunetv2 2.8.1, `ConfigurationManager.__init__`.
    """
    if "architecture" in configuration:
        return configuration
    if missing := [key for key in OLD_KEYS if key not in configuration and key != "num_pool_per_axis"]:
        raise PlanError(f"{source}: found neither `architecture` nor the older {', '.join(missing)}; plan it anew")
    old = parse_record(OldNetwork, configuration, source=source, error=PlanError)
    kind, num_stages = old.UNet_class_name, len(old.n_conv_per_stage_encoder)
    features = [min(old.UNet_base_num_features * 2**stage, old.unet_max_num_features) for stage in range(num_stages)]
    arguments = _arguments(len(old.patch_size)) | {
        "n_stages": num_stages,
        "features_per_stage": features,
        "kernel_sizes": old.conv_kernel_sizes,
        "strides": old.pool_op_kernel_sizes,
        _depth_key(kind): old.n_conv_per_stage_encoder,
        "n_conv_per_stage_decoder": old.n_conv_per_stage_decoder,
    }
    others = {key: value for key, value in configuration.items() if key not in OLD_KEYS}
    return others | {"architecture": {"network_class_name": OLD_CLASSES[kind], "arch_kwargs": arguments}}


def read_network(architecture: Architecture, num_axes: int, source: str) -> PlainUNet | ResidualUNet:
    """Return the network of a configuration.

    Args:
        architecture: as the plans have it.
        num_axes: axes of the configuration's patch.
        source: what to call it in an error.

    Raises:
        PlanError: a class or an argument that a plan cannot express.
    """
    name, where = architecture.network_class_name, f"{source}.architecture.arch_kwargs"
    if name in PLAIN_CLASSES:
        plain = parse_record(PlainArguments, architecture.arch_kwargs, source=where, error=PlanError)
        depth = {"convs_per_stage": _spread(plain.n_conv_per_stage, plain.n_stages)}
        return parse_record(PlainUNet, _topology(plain, num_axes, where) | depth, source=where, error=PlanError)
    if name not in RESIDUAL_CLASSES:
        raise PlanError(f"{source}: the network is {name}; only PlainConvUNet and ResidualEncoderUNet can be imported")
    residual = parse_record(ResidualArguments, architecture.arch_kwargs, source=where, error=PlanError)
    topology = _topology(residual, num_axes, where)
    if residual.stem_channels not in (None, topology["features_per_stage"][0]):
        raise PlanError(f"{where}: stem_channels is {residual.stem_channels}; expected as many as the first stage has")
    depth = {"blocks_per_stage": _spread(residual.n_blocks_per_stage, residual.n_stages)}
    return parse_record(ResidualUNet, topology | depth, source=where, error=PlanError)


def write_network(network: PlainUNet | ResidualUNet) -> dict[str, Any]:
    """Return a plan's network as the value of `architecture`."""
    kind = "PlainConvUNet" if isinstance(network, PlainUNet) else "ResidualEncoderUNet"
    depth = network.convs_per_stage if isinstance(network, PlainUNet) else network.blocks_per_stage
    slope = {} if network.negative_slope == DEFAULT_SLOPE else {"negative_slope": network.negative_slope}
    shared = _arguments(network.num_axes)
    arguments = shared | {
        "n_stages": network.num_stages,
        "features_per_stage": list(network.features_per_stage),
        "kernel_sizes": [list(kernel) for kernel in network.kernel_sizes],
        "strides": [list(stride) for stride in network.strides],
        _depth_key(kind): list(depth),
        "n_conv_per_stage_decoder": list(network.decoder_convs_per_stage),
        "norm_op_kwargs": {"eps": network.norm_eps, "affine": True},
        "nonlin_kwargs": shared["nonlin_kwargs"] | slope,
    }
    return {
        "network_class_name": OLD_CLASSES[kind],
        "arch_kwargs": arguments,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def _depth_key(kind: str) -> str:
    return "n_conv_per_stage" if kind == "PlainConvUNet" else "n_blocks_per_stage"


def _arguments(num_axes: int) -> dict[str, Any]:
    """Return the arguments that all of nnU-Net's own plans have."""
    return {
        "conv_op": f"torch.nn.modules.conv.Conv{num_axes}d",
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{num_axes}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


def _topology(arguments: UNetArguments, num_axes: int, where: str) -> dict[str, Any]:
    """Return the fields that both kinds of network have."""
    for name in (arguments.conv_op, arguments.norm_op):
        if not name.endswith(f"{num_axes}d"):
            raise PlanError(f"{where}: {name} is not for the {num_axes} axes of patch_size")
    count = arguments.n_stages
    features = _spread(arguments.features_per_stage, count)
    if len(features) != count:
        raise PlanError(f"{where}: n_stages is {count}, but features_per_stage has {len(features)} entries")
    return {
        "features_per_stage": features,
        "strides": [_axes(stride, num_axes) for stride in _stages(arguments.strides, count)],
        "kernel_sizes": [_axes(kernel, num_axes) for kernel in _stages(arguments.kernel_sizes, count)],
        "decoder_convs_per_stage": _spread(arguments.n_conv_per_stage_decoder, count - 1),
        "norm_eps": arguments.norm_op_kwargs.eps,
        "negative_slope": arguments.nonlin_kwargs.negative_slope,
    }


def _stages(value: int | tuple[int | Axes, ...], count: int) -> tuple[int | Axes, ...]:
    return (value,) * count if isinstance(value, int) else value


def _spread(value: PerStage, count: int) -> tuple[int, ...]:
    return (value,) * count if isinstance(value, int) else value


def _axes(value: int | Axes, num_axes: int) -> Axes:
    return (value,) * num_axes if isinstance(value, int) else value
