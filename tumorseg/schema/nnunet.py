"""Records of nnU-Net v2's plans; a key with one possible value is one whose other values are not supported.

References:
    nnunetv2 2.8.1: `PlansManager`, `ConfigurationManager`, and the networks of dynamic_network_architectures.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, JsonValue

from tumorseg.schema.base import Record

PLAIN_CLASSES = ("dynamic_network_architectures.architectures.unet.PlainConvUNet",)
RESIDUAL_CLASSES = (
    "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
    "dynamic_network_architectures.architectures.residual_unet.ResidualEncoderUNet",
)
"""The second is what nnunetv2 itself makes of old plans."""
RESAMPLING_FUNCTION = "resample_data_or_seg_to_shape"
READERS = {
    "SimpleITKIO": "as_stored",
    "NibabelIO": "as_stored",
    "NibabelIOWithReorient": "RAS",
}
"""How nnU-Net's readers of volumes orient an image, as a plan says it."""

PerStage = int | tuple[int, ...]
"""One number for all stages, or one each."""
AxesPerStage = int | tuple[int | tuple[int, ...], ...]
"""One number for all stages and axes, or one for all axes of each stage, or all of them."""
# In its networks, null stands for no arguments.
NoneIsEmpty = BeforeValidator(lambda value: {} if value is None else value)


class NormArguments(Record):
    """Keyword arguments of the instance normalisation."""

    eps: float = 1e-5
    affine: Literal[True]
    """Of no default, for torch's is false."""


class ActivationArguments(Record):
    """Keyword arguments of the leaky ReLU."""

    inplace: bool = False
    negative_slope: float = 0.01


class UNetArguments(Record):
    """Keyword arguments that both networks have."""

    n_stages: int = Field(ge=2)
    features_per_stage: PerStage
    conv_op: Literal[
        "torch.nn.modules.conv.Conv2d", "torch.nn.modules.conv.Conv3d", "torch.nn.Conv2d", "torch.nn.Conv3d"
    ]
    kernel_sizes: AxesPerStage
    strides: AxesPerStage
    n_conv_per_stage_decoder: PerStage
    conv_bias: Literal[True]
    norm_op: Literal[
        "torch.nn.modules.instancenorm.InstanceNorm2d",
        "torch.nn.modules.instancenorm.InstanceNorm3d",
        "torch.nn.InstanceNorm2d",
        "torch.nn.InstanceNorm3d",
    ]
    norm_op_kwargs: NormArguments
    dropout_op: None = None
    dropout_op_kwargs: JsonValue = None
    """Of no effect without `dropout_op`."""
    nonlin: Literal["torch.nn.LeakyReLU", "torch.nn.modules.activation.LeakyReLU"]
    nonlin_kwargs: Annotated[ActivationArguments, NoneIsEmpty] = ActivationArguments()
    deep_supervision: bool = True
    """Of no effect: nnU-Net's trainer decides."""


class PlainArguments(UNetArguments):
    """Keyword arguments of `PlainConvUNet`."""

    n_conv_per_stage: PerStage
    nonlin_first: Literal[False] = False


class ResidualArguments(UNetArguments):
    """Keyword arguments of `ResidualEncoderUNet`."""

    n_blocks_per_stage: PerStage
    block: Literal["dynamic_network_architectures.building_blocks.residual.BasicBlockD"] = (
        "dynamic_network_architectures.building_blocks.residual.BasicBlockD"
    )
    bottleneck_channels: None = None
    stem_channels: int | None = None


class OldNetwork(Record, extra="ignore"):
    """A configuration's network in plans from before the key `architecture`; a configuration's other keys are passed over."""

    UNet_class_name: Literal["PlainConvUNet", "ResidualEncoderUNet"]
    UNet_base_num_features: int = Field(ge=1)
    unet_max_num_features: int = Field(ge=1)
    n_conv_per_stage_encoder: tuple[int, ...]
    n_conv_per_stage_decoder: tuple[int, ...]
    num_pool_per_axis: JsonValue = None
    """Follows from the strides."""
    pool_op_kernel_sizes: tuple[tuple[int, ...], ...]
    conv_kernel_sizes: tuple[tuple[int, ...], ...]
    patch_size: tuple[int, ...]


class Architecture(Record):
    """The network; its arguments are read by its class."""

    network_class_name: str
    arch_kwargs: dict[str, Any]
    requires_import: tuple[str, ...] = Field(default=(), alias="_kw_requires_import")
    """Which arguments are names of classes."""


class ResamplingArguments(Record):
    """Keyword arguments of the resampling function; `force_separate_z` has no default, for nnU-Net's is false."""

    order: Literal[0, 1, 3] = 3
    order_z: Literal[0, 1] = 0
    force_separate_z: None
    separate_z_anisotropy_threshold: float = 3.0


class IntensityResampling(ResamplingArguments):
    """Of images and logits."""

    is_seg: Literal[False] = False


class LabelResampling(ResamplingArguments):
    """Of label maps."""

    is_seg: Literal[True]


class NnunetConfiguration(Record):
    """One configuration, what it inherits filled in."""

    data_identifier: str = ""
    """Name of a folder."""
    preprocessor_name: Literal["DefaultPreprocessor"]
    batch_size: int = Field(ge=1)
    patch_size: tuple[Annotated[int, Field(ge=1)], ...]
    median_image_size_in_voxels: tuple[float, ...]
    spacing: tuple[float, ...]
    normalization_schemes: tuple[str, ...]
    use_mask_for_norm: tuple[bool, ...]
    resampling_fn_data: Literal["resample_data_or_seg_to_shape"]
    resampling_fn_data_kwargs: IntensityResampling
    resampling_fn_seg: Literal["resample_data_or_seg_to_shape"]
    resampling_fn_seg_kwargs: LabelResampling
    resampling_fn_probabilities: Literal["resample_data_or_seg_to_shape"]
    resampling_fn_probabilities_kwargs: IntensityResampling
    architecture: Architecture
    batch_dice: bool
    previous_stage: str | None = None
    next_stage: JsonValue = None
    """Says the same as the other's `previous_stage`."""
    inherits_from: str | None = None


class ChannelIntensities(Record, extra="ignore"):
    """A channel's foreground intensities."""

    mean: float
    median: float
    std: float
    min: float
    max: float
    percentile_00_5: float
    percentile_99_5: float


class NnunetPlans(Record, extra="ignore"):
    """The document; keys that say nothing of how a network is built, trained or used are passed over."""

    dataset_name: str
    plans_name: str
    original_median_spacing_after_transp: tuple[float, float, float]
    original_median_shape_after_transp: tuple[float, float, float]
    image_reader_writer: Literal["SimpleITKIO", "NibabelIO", "NibabelIOWithReorient"]
    transpose_forward: tuple[int, int, int]
    transpose_backward: tuple[int, int, int]
    configurations: dict[str, dict[str, Any]] = Field(min_length=1)
    experiment_planner_used: str = ""
    label_manager: Literal["LabelManager"] = "LabelManager"
    # JSON has texts for keys; these are the channels' numbers.
    foreground_intensity_properties_per_channel: dict[int, ChannelIntensities]
