"""Whose names a file's tensors have, and what they are called here."""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from tumorseg.networks.nnunet_weights import WRAPPERS, is_own_name, own_name, straight_name

HOLDERS = ("model.", "network.", "net.", "backbone.")
"""What training frameworks put before every name of the network that they hold."""
THEIR_ENCODER, THEIR_STEM = "encoder.stages", "encoder.stem"
"""Where nnU-Net's residual U-Net has its encoder and its stem."""


class Adaptation(NamedTuple):
    """Where a network that nnssl pre-trained has the parts of a residual encoder.

    References:
        Wald et al., An OpenMind for 3D medical vision self-supervised learning, 2024: the adaptation plan in its checkpoints.
    """

    key_to_encoder: str
    key_to_stem: str


class Naming(NamedTuple):
    """Our names of a file's tensors."""

    layout: str
    """Whose names they are: `tumorseg`, `nnU-Net`, `nnssl` or `unknown`."""
    names: dict[str, str]
    """Names in the file by ours."""
    unknown: tuple[str, ...]
    """Names in the file that we have none for; weights that are listed twice count once."""


def naming_of(names: Iterable[str], *, is_unet: bool, adaptation: Adaptation | None = None) -> Naming:
    """Return what a file's tensors are called in our networks.

    Args:
        names: in the file.
        is_unet: whether they are wanted for one of our U-Nets; for another network they have to be its own.
        adaptation: where an nnssl checkpoint says that the parts of its network are.
    """
    bare = _bare(list(names))
    if not is_unet:
        return Naming("unknown", {short: name for name, short in bare.items()}, ())
    if adaptation is not None:
        bare = {name: _as_nnunet(short, adaptation) for name, short in bare.items()}
    bare = _once(bare)
    theirs = _own_names(bare)
    ours = {short: name for name, short in bare.items() if is_own_name(short)}
    # No name is of both kinds, but a file may hold strays.
    layout, found = ("tumorseg", ours) if len(ours) > len(theirs) else ("nnU-Net", theirs)
    if not found:
        layout = "unknown"
    elif adaptation is not None:
        layout = "nnssl"
    used = set(found.values())
    return Naming(layout, found, tuple(name for name in bare if name not in used))


def _bare(names: list[str]) -> dict[str, str]:
    """Return each name without what wrappers and frameworks put before all of them."""
    bare = {name: name for name in names}
    while True:
        prefix = _common_prefix(bare.values())
        if prefix is None:
            return bare
        bare = {name: short.removeprefix(prefix) for name, short in bare.items()}


def _common_prefix(names: Collection[str]) -> str | None:
    for prefix in (*WRAPPERS, *HOLDERS):
        if names and all(name.startswith(prefix) for name in names):
            return prefix
    return None


def _as_nnunet(name: str, adaptation: Adaptation) -> str:
    # A plain encoder has its stem within the encoder: the first rule that fits is the only one.
    for key, theirs in ((adaptation.key_to_encoder, THEIR_ENCODER), (adaptation.key_to_stem, THEIR_STEM)):
        if name.startswith(f"{key}."):
            return theirs + name.removeprefix(key)
    return name


def _once(bare: Mapping[str, str]) -> dict[str, str]:
    """Return each weight once, under the name that stands for all that it is listed under."""
    found: dict[str, str] = {}
    # safetensors keeps one name of several, whichever it is; where all are there, the straight one counts.
    for name, short in sorted(bare.items(), key=lambda item: straight_name(item[1]) != item[1]):
        found.setdefault(straight_name(short), name)
    return {name: straight for straight, name in found.items()}


def _own_names(bare: Mapping[str, str]) -> dict[str, str]:
    stages = [-1]
    for short in bare.values():
        if short.startswith(("decoder.stages.", "decoder.transpconvs.")):
            number = short.split(".")[2]
            stages.append(int(number) if number.isdecimal() else -1)
    found = {}
    for name, short in bare.items():
        if (own := own_name(short, max(stages) + 1)) is not None:
            found[own] = name
    return found
