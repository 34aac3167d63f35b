"""Parts of a network by the names of its parameters, and how far down each lies."""

from collections.abc import Iterable, Sequence

from torch import nn

from tumorseg.errors import PlanError
from tumorseg.networks.encoder_decoder import EncoderDecoder

HALVES = {"encoder": ("stem", "stages"), "decoder": ("upsamplings", "gates", "decoder")}
"""Names for several parts of a U-Net at once."""


def parts_of(network: nn.Module) -> list[str]:
    """Return what the parts of a network may be called: its modules, those in its lists, and the halves of a U-Net."""
    found: dict[str, None] = dict.fromkeys(HALVES if isinstance(network, EncoderDecoder) else ())
    for name, _ in network.named_parameters():
        first, *rest = name.split(".")
        found[first] = None
        if isinstance(getattr(network, first), nn.ModuleList | nn.Sequential):
            found[f"{first}.{rest[0]}"] = None
    return list(found)


def names_in(network: nn.Module, parts: Sequence[str]) -> set[str]:
    """Return the names of the parameters that belong to some parts of a network.

    Args:
        network: whose parameters.
        parts: names or beginnings of names, such as `stem` or `stages.0`; `encoder` and `decoder` are the halves of a U-Net.

    Raises:
        PlanError: a part has no parameters here; the message lists those that there are.
    """
    names = [name for name, _ in network.named_parameters()]
    found: set[str] = set()
    for part in parts:
        own = _beginning_with(names, HALVES.get(part, (part,)) if isinstance(network, EncoderDecoder) else (part,))
        if not own:
            listed = ", ".join(parts_of(network))
            raise PlanError(f"the network has no part {part} with weights; it has {listed}")
        found |= own
    return found


def _beginning_with(names: Iterable[str], parts: Iterable[str]) -> set[str]:
    # With the dot, so that `stages.1` is not `stages.10` as well.
    beginnings = tuple(f"{part}." for part in parts)
    return {name for name in names if f"{name}.".startswith(beginnings)}


def depths(network: nn.Module) -> dict[str, int]:
    """Return how many parts lie between each parameter and the logits: 0 for heads, the most for what sees the image first.

    A U-Net's parts lie one after another on the way that the image takes at its longest: stem, stages of the encoder down
    to the bottleneck, stages of the decoder up.

    Raises:
        PlanError: the network is not one of tumorseg's U-Nets.
    """
    if not isinstance(network, EncoderDecoder):
        raise PlanError(
            "training.fine_tuning.layer_decay needs to know which part follows which, as in tumorseg's own networks of stages; "
            "plan layer_decay=1 for this network"
        )
    ups, downs = len(network.decoder), len(network.stages)
    return {name: _depth(name, ups, downs) for name, _ in network.named_parameters()}


def _depth(name: str, ups: int, downs: int) -> int:
    part, number = name.split(".")[:2]
    if part == "heads":
        return 0
    if part == "stem":
        return ups + downs + 1
    if part == "stages":
        return ups + downs - int(number)
    # A decoder's stage and the upsampling before it, both numbered from the bottleneck up.
    return ups - int(number)
