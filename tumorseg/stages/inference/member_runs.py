"""One member of an ensemble on one case: what it says slice by slice, in its own axis order or, through a file, in another."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from tumorseg.engine.lockstep import MemberAnswer, Word, member_answer
from tumorseg.engine.segmentation import Prepared
from tumorseg.engine.uncertainty import STEPS, in_steps
from tumorseg.ops.cropping import box_shape
from tumorseg.ops.geometry import Orientation, between, orient, oriented_box
from tumorseg.schema.targets import Targets
from tumorseg.stages.inference.segment_case import RunOptions, num_voters, segmenter_of, within_memory
from tumorseg.stages.inference.trained_model import Model
from tumorseg.storage.mapped_planes import MappedPlanes


class MemberRun(NamedTuple):
    """A member and the image of a case, ready for its networks."""

    model: Model
    prepared: Prepared
    orientation: Orientation
    """Of the prepared image, from the stored order."""
    options: RunOptions

    @property
    def num_voters(self) -> int:
        """Return its folds times views; 0 where nobody asks for votes."""
        return num_voters(self.model, self.options) if self.options.with_votes else 0

    def begin(self, wanted: Targets) -> MemberAnswer:
        """Return what it says, from the first slice on; whoever asks for slices holds the turn at the networks."""
        segmenter = segmenter_of(self.model, self.options)
        return member_answer(self.prepared, segmenter, wanted, num_voters=self.num_voters)


def through_file(run: MemberRun, lead: Orientation, wanted: Targets, *, files: ExitStack) -> Callable[[], MemberAnswer]:
    """Let a member say all that it has to say, and return what tells it again in another axis order.

    Of the member's crop box two bytes are kept for each class or region of a voxel, and as many for votes.

    Args:
        run: the member; nobody may hold the turn at the networks.
        lead: the other axis order, from the stored one.
        wanted: which classes or regions.
        files: closes the file.

    Raises:
        InputError: logits are not finite, or the GPU's memory does not suffice.
        StorageError: the disk has no room.
    """
    prepared, num_votes = run.prepared, wanted.num_outputs if run.options.with_votes else 0
    box = oriented_box(prepared.grid.box, prepared.shape, between(run.orientation, lead))
    depth, *plane = box_shape(box)
    shape = (depth, wanted.num_outputs + num_votes, *plane)
    kept = files.enter_context(MappedPlanes(run.options.scratch, shape)).array
    own = orient(np.moveaxis(kept, 1, 0), between(lead, run.orientation))
    with run.model.runtime.turn:
        within_memory([run.model], partial(_keep, run, wanted, own), run.options)

    # Not the run itself, whose image would stay in memory.
    num_outputs, num_own_voters = wanted.num_outputs, run.num_voters

    def again() -> MemberAnswer:
        return MemberAnswer(box, _words(kept, num_outputs), num_own_voters)

    return again


def _keep(run: MemberRun, wanted: Targets, own: NDArray[np.uint16]) -> None:
    """Put a member's words into an array (channels, Z, Y, X) of its box, in its own axis order."""
    words = run.begin(wanted).words
    # Slices that never came would be background without anyone noticing.
    for position, word in zip(range(own.shape[1]), words, strict=True):
        own[:, position] = in_steps(torch.cat([part for part in word if part is not None]))


def _words(kept: NDArray[np.uint16], num_outputs: int) -> Iterator[Word]:
    for planes in kept:
        shares = torch.from_numpy(planes.astype(np.float32)) / STEPS
        yield Word(shares[:num_outputs], shares[num_outputs:] if len(shares) > num_outputs else None)
