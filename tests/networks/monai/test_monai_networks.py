"""Networks through MONAI against MONAI's own on the same weights, and who imports it."""

import io
import subprocess
import sys
from contextlib import redirect_stdout

import numpy as np
import pytest
import torch

from tests.networks.monai.specs import ROWS
from tests.networks.rows import NUM_CHANNELS, NUM_OUTPUTS, Subject
from tumorseg.errors import InputError
from tumorseg.networks.lazy import LazyBuilder
from tumorseg.networks.registry import BUILDERS

pytestmark = pytest.mark.slow

ENDS = {"in_channels": NUM_CHANNELS, "out_channels": NUM_OUTPUTS}


def swin_unetr(spec):
    from monai.networks.nets.swin_unetr import SwinUNETR

    sizes = {"window_size": spec.window, "depths": spec.depths, "num_heads": spec.heads, "feature_size": spec.features}
    return SwinUNETR(**ENDS, **sizes, spatial_dims=spec.num_axes, use_v2=spec.convolve_first)


def unetr(spec):
    from monai.networks.nets.unetr import UNETR

    sizes = {"img_size": spec.patch_size, "feature_size": spec.features, "hidden_size": spec.hidden}
    return UNETR(**ENDS, **sizes, mlp_dim=spec.hidden_between, num_heads=spec.heads, spatial_dims=spec.num_axes)


def segresnet(spec):
    from monai.networks.nets.segresnet_ds import SegResNetDS

    blocks = {"blocks_down": spec.blocks_per_stage, "blocks_up": spec.decoder_blocks_per_stage}
    # Millimetres, of which MONAI makes the order of halvings.
    spacing = [4.0, 2.0, 2.0] if max(spec.halved_first) else [1.0] * spec.num_axes
    sizes = {"init_filters": spec.features, "dsdepth": spec.num_supervised, "resolution": spacing}
    return SegResNetDS(**ENDS, **blocks, **sizes, spatial_dims=spec.num_axes, norm="instance")


def dints(spec):
    from monai.networks.nets.dints import DiNTS, TopologyInstance

    from tumorseg.networks.monai.dints import CELLS, PATHS

    paths, cells = (np.array([list(map(int, layer)) for layer in code]) for code in (PATHS, CELLS))
    sizes = {"channel_mul": spec.features / 32, "num_blocks": 12, "num_depths": 4, "use_downsample": True}
    with redirect_stdout(io.StringIO()):
        space = TopologyInstance([paths, cells], **sizes)
    nodes = np.ones((13, 4))
    nodes[0, 3] = nodes[12, 1] = 0
    return DiNTS(space, NUM_CHANNELS, NUM_OUTPUTS, use_downsample=True, node_a=nodes)


def dynunet(spec):
    from monai.networks.nets.dynunet import DynUNet

    sizes = {"strides": spec.strides, "upsample_kernel_size": spec.strides[1:], "filters": spec.features_per_stage}
    # Of MONAI's norms the affine ones are asked for by name.
    norm = ("instance", {"affine": True, "eps": spec.norm_eps})
    return DynUNet(
        spec.num_axes,
        kernel_size=spec.kernel_sizes,
        **ENDS,
        **sizes,
        norm_name=norm,
        res_block=spec.residual,
        deep_supervision=True,
        deep_supr_num=1,
    )


def attention_unet(spec):
    from monai.networks.nets.attentionunet import AttentionUnet

    from tumorseg.networks.monai.attention_unet import _normalise_each_patch

    sizes = {"channels": spec.features_per_stage, "strides": spec.strides[1:], "kernel_size": spec.kernel_size}
    network = AttentionUnet(spec.num_axes, **ENDS, **sizes, up_kernel_size=spec.kernel_size)
    _normalise_each_patch(network)
    return network


THEIRS = {
    "swin_unetr 2d": swin_unetr,
    "swin_unetr first version": swin_unetr,
    "swin_unetr anisotropic": swin_unetr,
    "swin_unetr first version 3d": swin_unetr,
    "unetr": unetr,
    "segresnet anisotropic": segresnet,
    "dints": dints,
    "dynunet anisotropic": dynunet,
    "attention_unet": attention_unet,
}
LONG = ("swin_unetr first version 3d",)
LEFT_OUT = ("vit.blocks.", "skip_layers.", "stem_down.3.")
"""Weights of theirs that no forward pass meets, or that are listed a second time."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=(pytest.mark.long,) if name in LONG else ()) for name in THEIRS]
)
def test_logits_are_those_of_monai_on_the_same_weights(name):
    subject = Subject(ROWS[name])
    ours, images = subject.exact()
    theirs = THEIRS[name](subject.spec).double().eval()
    missing, unexpected = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert unexpected == []
    assert all(one.startswith(LEFT_OUT) for one in missing)
    with torch.inference_mode():
        found, expected = ours.eval()(images), theirs(images)
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_every_network_through_monai_is_compared():
    lazy = {name for name, builder in BUILDERS.items() if isinstance(builder, LazyBuilder)}
    assert {ROWS[name].spec.name for name in THEIRS} == {row.spec.name for row in ROWS.values()} == lazy


IMPORTS = """
import sys
sys.modules["einops"] = None  # as if it were not installed
import tumorseg.cli.main, tumorseg.planning.planner
from tests.networks.rows import ROWS, Subject
Subject(ROWS["plain_unet"]).build()
assert not any(name.partition(".")[0] == "monai" for name in sys.modules)
for name in ("segresnet", "dints", "dynunet", "attention_unet"):
    Subject(ROWS[name]).build()
assert "monai" in sys.modules
"""


def test_only_builders_import_monai_and_only_transformers_need_einops():
    subprocess.run([sys.executable, "-W", "ignore", "-c", IMPORTS], check=True)


def test_a_unetr_refuses_patches_whose_positions_it_has_not_learned():
    subject = Subject(ROWS["unetr"])
    with pytest.raises(InputError, match="for patches of"):
        subject.build()(subject.images(1, (32, 32, 16)))
