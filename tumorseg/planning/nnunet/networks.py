"""nnU-Net v2's U-Nets as a plan describes them, in both directions."""

from typing import Any

from tumorseg.errors import PlanError
from tumorseg.planning.families.registry import nnunet_names
from tumorseg.schema.base import parse_record
from tumorseg.schema.networks import NETWORKS, Axes, Network, NetworkSpec, OwnUNet, Parts
from tumorseg.schema.nnunet import Architecture, OldNetwork, PerStage, ResidualArguments, UNetArguments

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
        raise PlanError(
            f"{source}: found neither `architecture` nor the older {', '.join(missing)}; plan it again with nnU-Net"
        )
    old = parse_record(OldNetwork, configuration, source=source, error=PlanError)
    # The record admits no other class name than those of the families.
    own = next(names for names in nnunet_names().values() if names.short == old.UNet_class_name)
    num_stages = len(old.n_conv_per_stage_encoder)
    features = [min(old.UNet_base_num_features * 2**stage, old.unet_max_num_features) for stage in range(num_stages)]
    arguments = _arguments(len(old.patch_size)) | {
        "n_stages": num_stages,
        "features_per_stage": features,
        "kernel_sizes": old.conv_kernel_sizes,
        "strides": old.pool_op_kernel_sizes,
        own.their_units: old.n_conv_per_stage_encoder,
        "n_conv_per_stage_decoder": old.n_conv_per_stage_decoder,
    }
    others = {key: value for key, value in configuration.items() if key not in OLD_KEYS}
    return others | {"architecture": {"network_class_name": own.classes[0], "arch_kwargs": arguments}}


def read_network(architecture: Architecture, num_axes: int, source: str) -> Network:
    """Return the network of a configuration.

    Args:
        architecture: as the plans have it.
        num_axes: axes of the configuration's patch.
        source: what to call it in an error.

    Raises:
        PlanError: a class or an argument that a plan cannot express.
    """
    known, called = nnunet_names(), architecture.network_class_name
    name = next((name for name, names in known.items() if called in names.classes), None)
    if name is None:
        possible = " and ".join(names.short for names in known.values())
        raise PlanError(f"{source}: the network is {called}; only {possible} can be imported")
    own, where = known[name], f"{source}.architecture.arch_kwargs"
    arguments = parse_record(own.arguments, architecture.arch_kwargs, source=where, error=PlanError)
    topology = _topology(arguments, num_axes, where)
    stem = arguments.stem_channels if isinstance(arguments, ResidualArguments) else None
    if stem not in (None, topology["features_per_stage"][0]):
        raise PlanError(f"{where}: stem_channels is {stem}; expected as many as the first stage has")
    units = _spread(getattr(arguments, own.their_units), arguments.n_stages)
    return parse_record(NETWORKS[name], topology | {own.our_units: units}, source=where, error=PlanError)


def write_network(network: NetworkSpec, source: str) -> dict[str, Any]:
    """Return a plan's network as the value of `architecture`.

    Args:
        network: of a configuration.
        source: what to call the configuration in an error.

    Raises:
        PlanError: nnU-Net has no such network.
    """
    known = nnunet_names()
    if network.name not in known or not isinstance(network, OwnUNet):
        possible = " and ".join(known)
        raise PlanError(f"{source}: nnU-Net's plans cannot express the network {network.name}; only {possible}")
    own = known[network.name]
    if changed := [name for name, field in Parts.model_fields.items() if getattr(network, name) != field.default]:
        given = getattr(network, changed[0])
        raise PlanError(
            f"{source}: nnU-Net's plans cannot express network.{changed[0]}={given}; plan "
            f"{Parts.model_fields[changed[0]].default}"
        )
    # nnU-Net's own plans leave it to torch's default.
    slope = {} if network.negative_slope == DEFAULT_SLOPE else {"negative_slope": network.negative_slope}
    shared = _arguments(network.num_axes)
    arguments = shared | {
        "n_stages": network.num_stages,
        "features_per_stage": list(network.features_per_stage),
        "kernel_sizes": list(map(list, network.kernel_sizes)),
        "strides": list(map(list, network.strides)),
        own.their_units: list(getattr(network, own.our_units)),
        "n_conv_per_stage_decoder": list(network.decoder_convs_per_stage),
        "norm_op_kwargs": {"eps": network.norm_eps, "affine": True},
        "nonlin_kwargs": shared["nonlin_kwargs"] | slope,
    }
    return {
        "network_class_name": own.classes[0],
        "arch_kwargs": arguments,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


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
        "strides": _stages(arguments.strides, count, num_axes),
        "kernel_sizes": _stages(arguments.kernel_sizes, count, num_axes),
        "decoder_convs_per_stage": _spread(arguments.n_conv_per_stage_decoder, count - 1),
        "norm_eps": arguments.norm_op_kwargs.eps,
        "negative_slope": arguments.nonlin_kwargs.negative_slope,
    }


def _stages(value: int | tuple[int | Axes, ...], count: int, num_axes: int) -> list[Axes]:
    """Return sizes per stage and axis; one number may stand for all stages, or for all axes of one."""
    stages = (value,) * count if isinstance(value, int) else value
    return [_axes(stage, num_axes) for stage in stages]


def _spread(value: PerStage, count: int) -> tuple[int, ...]:
    return (value,) * count if isinstance(value, int) else value


def _axes(value: int | Axes, num_axes: int) -> Axes:
    return (value,) * num_axes if isinstance(value, int) else value
