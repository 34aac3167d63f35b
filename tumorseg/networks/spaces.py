"""What every network asks of the size of its images."""

from torch import Tensor

from tumorseg.errors import InputError


def check_space(images: Tensor, divisors: tuple[int, ...]) -> None:
    """Refuse images (B, C, *space) whose space is no multiple of a network's divisors, an axis each.

    Raises:
        InputError: it is none.
    """
    space = images.shape[2:]
    if len(space) == len(divisors) and not any(size % divisor for size, divisor in zip(space, divisors, strict=True)):
        return
    raise InputError(
        f"a network of strides {divisors} got an image of {tuple(space)} voxels; each axis must be a multiple of its stride"
    )
