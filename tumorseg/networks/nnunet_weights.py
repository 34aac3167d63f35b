"""Weights of nnU-Net v2's U-Nets under the names that they have here.

References:
    The modules of dynamic_network_architectures: `PlainConvUNet`, `ResidualEncoderUNet`.
"""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from tumorseg.errors import PlanError

WRAPPERS = ("module.", "_orig_mod.")
"""What parallel and compiled networks put before every name."""
DUPLICATE = re.compile(r"^decoder\.encoder\.|\.all_modules\.")
"""Names under which weights are listed once more: the encoder within the decoder, the parts of a block within the block."""
OWN_NAMES = (
    (r"^decoder\.encoder\.", "encoder."),
    (r"\.all_modules\.0\.", ".conv."),
    (r"\.all_modules\.[12]\.", ".norm."),
)
"""What such a name stands for; a norm comes after a dropout, if there is one."""
UNITS = {
    r"stem": r"encoder.stem.convs.0",
    r"stages\.(\d+)\.(\d+)": r"encoder.stages.\1.0.convs.\2",
    r"stages\.(\d+)\.(\d+)\.first": r"encoder.stages.\1.blocks.\2.conv1",
    r"stages\.(\d+)\.(\d+)\.second": r"encoder.stages.\1.blocks.\2.conv2",
    r"stages\.(\d+)\.(\d+)\.shortcut\.(\d+)": r"encoder.stages.\1.blocks.\2.skip.\3",
    r"decoder\.(\d+)\.(\d+)": r"decoder.stages.\1.convs.\2",
}
"""Convolution units here, and what nnU-Net calls them."""
PARTS = {"0": "conv", "1": "norm"}
"""Parts of a unit, by their place here."""
PLACES = {part: place for place, part in PARTS.items()}
THEIR_UNITS = {
    r"encoder\.stem\.convs\.0": r"stem",
    r"encoder\.stages\.(\d+)\.0\.convs\.(\d+)": r"stages.\1.\2",
    r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.conv1": r"stages.\1.\2.first",
    r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.conv2": r"stages.\1.\2.second",
    r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.skip\.(\d+)": r"stages.\1.\2.shortcut.\3",
    r"decoder\.stages\.(\d+)\.convs\.(\d+)": r"decoder.\1.\2",
}
"""The same table from their side, for networks of another depth than ours."""
MOST_NAMED = 3
"""Weights that a message names."""


def straight_name(name: str) -> str:
    """Return the one name, in nnU-Net's state dict without wrappers, of a weight that is listed under several."""
    for pattern, straight in OWN_NAMES:
        name = re.sub(pattern, straight, name)
    return name


def nnunet_name(name: str, num_stages: int) -> str:
    """Return what nnU-Net calls a weight of one of our U-Nets.

    Args:
        name: in the state dict of `tumorseg.networks.unet.UNet`.
        num_stages: resolutions of the network.
    """
    module, kind = name.rsplit(".", 1)
    unit, place = module.rsplit(".", 1)
    if unit == "heads":  # from full resolution down here, from the coarsest up there
        return f"decoder.seg_layers.{num_stages - 2 - int(place)}.{kind}"
    if unit == "upsamplings":
        return f"decoder.transpconvs.{place}.{kind}"
    # The patterns exclude each other, as each has to fit the whole name.
    matches = ((re.fullmatch(pattern, unit), theirs) for pattern, theirs in UNITS.items())
    return next(f"{match.expand(theirs)}.{PARTS[place]}.{kind}" for match, theirs in matches if match)


def own_name(name: str, num_decoder_stages: int) -> str | None:
    """Return what a weight of one of nnU-Net's U-Nets is called here; None if it is none.

    Args:
        name: in their state dict, without wrappers.
        num_decoder_stages: of their network, whose heads are counted from the coarsest.
    """
    module, _, kind = name.rpartition(".")
    if kind not in ("weight", "bias"):
        return None
    if upsampling := re.fullmatch(r"decoder\.transpconvs\.(\d+)", module):
        return f"upsamplings.{upsampling[1]}.{kind}"
    if head := re.fullmatch(r"decoder\.seg_layers\.(\d+)", module):
        # Beyond the decoder's stages there is none that belongs to it.
        level = num_decoder_stages - 1 - int(head[1])
        return f"heads.{level}.{kind}" if level >= 0 else None
    unit, _, part = module.rpartition(".")
    matches = ((re.fullmatch(pattern, unit), ours) for pattern, ours in THEIR_UNITS.items())
    ours = next((match.expand(ours) for match, ours in matches if match), None)
    return None if ours is None or part not in PLACES else f"{ours}.{PLACES[part]}.{kind}"


def from_nnunet(weights: Mapping[str, Tensor], own: Mapping[str, Tensor], num_stages: int) -> dict[str, Tensor]:
    """Return nnU-Net's weights under our names.

    Args:
        weights: state dict of a network of nnU-Net, wrapped or not.
        own: state dict of our network for the same plan: what is wanted, with its shapes.
        num_stages: resolutions of the network.

    Raises:
        PlanError: a weight is missing, is one too many, or has another shape; the first few are named.
    """
    bare = {without_wrappers(name): tensor for name, tensor in weights.items()}
    given = {name: tensor for name, tensor in bare.items() if not DUPLICATE.search(name)}
    wanted = {nnunet_name(name, num_stages): name for name in own}
    _check_none("lacks", wanted.keys() - given.keys())
    _check_none("has besides", given.keys() - wanted.keys())
    for theirs, ours in wanted.items():
        if given[theirs].shape != own[ours].shape:
            found, expected = list(given[theirs].shape), list(own[ours].shape)
            raise PlanError(
                f"weight {theirs} has shape {found}, the plan's network needs {expected}; the checkpoint is of another plan, "
                "or of other channels or labels than its dataset.json says"
            )
    return {ours: given[theirs] for theirs, ours in wanted.items()}


def without_wrappers(name: str) -> str:
    """Return a name without what parallel and compiled networks put before it."""
    while name.startswith(WRAPPERS):
        name = name.partition(".")[2]
    return name


def _check_none(what: str, names: Iterable[str]) -> None:
    if found := sorted(names):
        more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        raise PlanError(
            f"the checkpoint {what} the weights {', '.join(found[:MOST_NAMED])}{more}; expected exactly those of the network in "
            "its plans; a trainer that builds another network cannot be imported"
        )
