"""What all networks of stages share: down to the bottleneck, and back up over skip connections."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tumorseg.networks.spaces import check_space
from tumorseg.schema.networks import StagedNetwork

BatchNorm = nn.BatchNorm2d | nn.BatchNorm3d


class EncoderDecoder(nn.Module):
    """An encoder's stages, and the decoder that climbs back over their skip connections; subclasses make the modules."""

    stem: nn.Module
    """Before the first stage."""
    stages: nn.ModuleList
    """The encoder, from full resolution down to the bottleneck."""
    upsamplings: nn.ModuleList
    """Up into each stage of the decoder, from the bottleneck up."""
    decoder: nn.ModuleList
    """The decoder's stages, from the bottleneck up."""
    gates: nn.ModuleList
    """On the skip connections of these, which they weight by the raised features; none if nothing does."""
    heads: nn.ModuleList
    """From features to logits, from full resolution down, so that heads.0 is the same head whether or not the others exist."""
    has_bottleneck_head = False
    """Whether the last head is that of the bottleneck."""

    def __init__(self, spec: StagedNetwork) -> None:
        super().__init__()
        self.divisors = spec.divisors
        self.deep_supervision = spec.deep_supervision
        self.activation_checkpointing = False
        """Whether a stage's inner activations are recomputed in the backward pass rather than kept."""
        self.draws_random_numbers = False
        """Whether layers do in training, so that a step is seeded, and a recomputation draws the same ones again."""

    @staticmethod
    @abstractmethod
    def join(upsampled: Tensor, skip: Tensor) -> Tensor:
        """Return what a decoder's stage is given, of the features below it and those of the encoder beside it."""

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        """Map intensities to logits.

        Args:
            images: (B, C, *space), space being a multiple of the product of all strides.

        Returns:
            Logits (B, K, *space). While training with deep supervision a list of such tensors, one for each head, from
            full resolution down, each smaller by the strides of one stage.

        Raises:
            InputError: the space is not such a multiple.
        """
        check_space(images, self.divisors)
        decoded = self._decode(self._encode(images))
        if self.training and self.deep_supervision:
            # Heads begin at full resolution, the decoder ends there.
            return [head(features) for head, features in zip(self.heads, reversed(decoded), strict=True)]
        return cast(Tensor, self.heads[0](decoded[-1]))

    def _encode(self, images: Tensor) -> list[Tensor]:
        features = self._begin(images)
        skips = []
        for stage in self.stages:
            features = self._run(stage, features)
            skips.append(features)
        return skips

    def _begin(self, images: Tensor) -> Tensor:
        return self._run(self.stem, images)

    def _decode(self, skips: list[Tensor]) -> list[Tensor]:
        # The bottleneck has no skip connection; the others are met from the coarsest up.
        features = skips.pop()
        decoded = [features] if self.has_bottleneck_head else []
        for number in range(len(self.decoder)):
            features = self._run(partial(self._climb, number), features, skips.pop())
            decoded.append(features)
        return decoded

    def _climb(self, number: int, features: Tensor, skip: Tensor) -> Tensor:
        """Return the features of one of the decoder's stages from those below it and those of the encoder beside it."""
        raised = self.upsamplings[number](features)
        if len(self.gates):
            skip = self.gates[number](skip, raised)
        joined = self.join(raised, skip)
        # Not held beside what they were joined to: in prediction, a map at full resolution.
        del raised
        return cast(Tensor, self.decoder[number](joined))

    def _run(self, stage: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        if not self.activation_checkpointing or not torch.is_grad_enabled():
            return stage(*inputs)
        # Without random numbers there is no state of a generator to put back for the recomputation.
        options: dict[str, Any] = {"preserve_rng_state": self.training and self.draws_random_numbers}
        norms = [module for module in self.modules() if isinstance(module, BatchNorm)]
        if norms and self.training:
            options["context_fn"] = partial(_contexts, norms)
        return cast(Tensor, checkpoint(stage, *inputs, use_reentrant=False, **options))


def _contexts(norms: list[BatchNorm]) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return the contexts of a first pass and of its recomputation."""
    return nullcontext(), _uncounted(norms)


@contextmanager
def _uncounted(norms: list[BatchNorm]) -> Iterator[None]:
    """Keep running statistics as they are meanwhile: they have met these features before."""
    kept = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    # They have to be there all the same, as what a recomputation keeps is compared with what the first pass did.
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, count in kept:
            norm.momentum, norm.num_batches_tracked = momentum, count
