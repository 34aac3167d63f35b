"""What the parts of a network weigh, and what they keep for the backward pass of one patch."""

import math

from tumorseg.schema.network_parts import CBAM_KERNEL
from tumorseg.schema.networks import OwnUNet, Parts

NUMBERS_IN = ("gelu", "silu")
"""Activations whose gradient needs what went in; the result of the others tells enough."""


def keeps_input(network: Parts) -> bool:
    """Return whether an activation keeps what went into it, beside its result, which the next convolution needs."""
    return network.activation in NUMBERS_IN


def norm_elements(network: Parts, channels: int, voxels: int, *, of_instances: int = 0) -> int:
    """Return the statistics that a normalisation keeps beside its input, where they are more than a number for each channel.

    Args:
        network: whose normalisation.
        channels: of the features.
        voxels: of the features.
        of_instances: what is kept of instances.
    """
    if network.norm == "group":
        return 2 * math.gcd(network.norm_groups, channels)
    if network.norm == "layer":
        return 2 * voxels
    return of_instances if network.norm == "instance" else 0


def activated_elements(network: Parts, channels: int, voxels: int) -> int:
    """Return what is kept of an activation, of the dropout after it, and of their result."""
    has_dropout = network.dropout > 0
    # An activation that keeps its input has no use for its result, so that only that of the dropout is kept.
    maps = 2 if keeps_input(network) or has_dropout else 1
    return maps * channels * voxels + (channels if has_dropout else 0)


def unit_elements(network: Parts, channels: int, voxels: int) -> int:
    """Return what is kept of a convolution, its normalisation and its activation, and the dropout after them."""
    norm = norm_elements(network, channels, voxels)
    return channels * voxels + norm + activated_elements(network, channels, voxels)


def attention_elements(network: Parts, channels: int, voxels: int) -> int:
    """Return what is kept of an attention besides what it is given or what it returns, one of which is kept anyway."""
    hidden = network.attention_features(channels)
    if network.attention == "squeeze_excitation":
        return channels * voxels + 2 * channels + hidden
    if network.attention == "cbam":
        # Means and maxima, once over space and once over channels; the maxima are kept to be found again.
        return 2 * channels * voxels + 4 * channels + 2 * hidden + 4 * voxels
    return 0


def gate_elements(network: Parts, channels: int, voxels: int) -> int:
    """Return what is kept of the gate on a skip connection, which is kept anyway."""
    if not network.attention_gates:
        return 0
    return (channels + network.gate_features(channels) + 1) * voxels


def attention_parameters(network: Parts, channels: int, num_axes: int) -> int:
    """Return the weights and biases of a block's attention."""
    if network.attention == "none":
        return 0
    hidden = network.attention_features(channels)
    place = 2 * CBAM_KERNEL**num_axes if network.attention == "cbam" else 0
    return 2 * channels * hidden + hidden + channels + place


def gate_parameters(network: Parts, channels: int) -> int:
    """Return the weights and biases of the gate on a skip connection."""
    if not network.attention_gates:
        return 0
    hidden = network.gate_features(channels)
    return 2 * channels * hidden + hidden + hidden + 1


def decoder_elements(network: OwnUNet, level: int, convs: int, voxels: int) -> int:
    """Return what is kept of a stage of a U-Net's decoder: its joined input, convolutions, attention and gate."""
    features = network.features_per_stage[level]
    of_convs = convs * unit_elements(network, features, voxels) + attention_elements(network, features, voxels)
    return 2 * features * voxels + of_convs + gate_elements(network, features, voxels)
