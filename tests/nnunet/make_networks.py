"""Make the frozen networks of nnU-Net v2 and their logits; run where nnunetv2 2.8.1 is installed.

python make_networks.py            writes <name>.pt beside this script
python make_networks.py FOLDER ... prints the shapes of the weights that nnunetv2 builds from exported plans, as JSON
"""

import json
import sys
from pathlib import Path

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

HERE = Path(__file__).parent
CHANNELS, OUTPUTS = 2, 3
NETWORKS = {
    "plain_2d": ("PlainConvUNet", [[3, 3]] * 3, [[1, 1], [2, 2], [2, 2]]),
    "plain_3d": ("PlainConvUNet", [[1, 3, 3], [3, 3, 3], [3, 3, 3]], [[1, 1, 1], [1, 2, 2], [2, 2, 2]]),
    "residual_2d": ("ResidualEncoderUNet", [[3, 3]] * 3, [[1, 1], [2, 2], [2, 2]]),
    "residual_3d": ("ResidualEncoderUNet", [[1, 3, 3], [3, 3, 3], [3, 3, 3]], [[1, 1, 1], [1, 2, 2], [2, 2, 2]]),
}
FEATURES = [4, 6, 6]
"""The last stage has as many as the one before: its first block's shortcut is pooled, but not projected."""


def architecture(kind, kernels, strides):
    dim = len(strides[0])
    depth = {"n_conv_per_stage": [2, 1, 2]} if kind == "PlainConvUNet" else {"n_blocks_per_stage": [1, 2, 2]}
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
        "arch_kwargs": {
            "n_stages": 3,
            "features_per_stage": FEATURES,
            "conv_op": f"torch.nn.modules.conv.Conv{dim}d",
            "kernel_sizes": kernels,
            "strides": strides,
            **depth,
            "n_conv_per_stage_decoder": [2, 1],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dim}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def build(found, channels, outputs):
    kwargs, imports = found["arch_kwargs"], found["_kw_requires_import"]
    return get_network_from_plans(
        found["network_class_name"], kwargs, imports, channels, outputs, deep_supervision=True
    )


def freeze(name, seed):
    torch.manual_seed(seed)
    found = architecture(*NETWORKS[name])
    network = build(found, CHANNELS, OUTPUTS)
    for tensor in network.parameters():  # no norm is left at 1 and 0, no bias at 0, no residual branch at nothing
        tensor.data += 0.1 * torch.randn(tensor.shape)
    images = torch.randn(1, CHANNELS, *([12, 20] if name.endswith("2d") else [6, 12, 8]))
    with torch.no_grad():
        logits = network.train()(images)
    content = {"architecture": found, "weights": network.state_dict(), "images": images, "logits": logits}
    torch.save(content, HERE / f"{name}.pt")


def is_duplicate(key):
    return "all_modules" in key or key.startswith("decoder.encoder.")


def shapes(folder):
    """Return the shapes of the weights of every configuration that nnunetv2 builds from exported plans."""
    plans = PlansManager(str(Path(folder) / "nnUNetPlans.json"))
    dataset = json.loads((Path(folder) / "dataset.json").read_text())
    outputs = plans.get_label_manager(dataset).num_segmentation_heads
    found = {}
    for name in plans.available_configurations:
        configuration = plans.get_configuration(name)
        channels = determine_num_input_channels(plans, configuration, dataset)
        network = build(configuration.configuration["architecture"], channels, outputs)
        state = network.state_dict().items()
        found[name] = {key: list(value.shape) for key, value in state if not is_duplicate(key)}
    return found


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.stdout.write(json.dumps({Path(folder).name: shapes(folder) for folder in sys.argv[1:]}) + "\n")
    else:
        for seed, name in enumerate(NETWORKS):
            freeze(name, seed)
