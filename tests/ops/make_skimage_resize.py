"""Write skimage_resize.npz: small resamplings by scikit-image (0.26.0), called as nnU-Net calls it.

Run where scikit-image is installed (it is no dependency): `python tests/ops/make_skimage_resize.py`.
Each case `<i>` is `image_<i>` (Z, Y, X), `result_<i>` on the new grid, and a row (order, separate axis or -1) of `rules`.
"""

from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage.transform import resize

CASES = [
    # shape, new shape, order, separate axis
    ((9, 11, 7), (13, 17, 12), 3, -1),
    ((15, 13, 11), (7, 6, 5), 3, -1),
    ((8, 15, 10), (13, 9, 10), 3, -1),
    ((1, 12, 9), (1, 17, 5), 3, -1),
    ((9, 11, 7), (13, 6, 12), 1, -1),
    ((5, 13, 11), (12, 9, 17), 3, 0),
    ((11, 13, 6), (8, 21, 4), 3, 2),
    ((12, 5, 9), (7, 11, 14), 1, 1),
]


def resize_as_nnunet(image, shape, order):
    return resize(
        image.astype(np.float64), shape, order=order, mode="edge", anti_aliasing=False, preserve_range=True, clip=True
    )


def resize_separately(image, shape, order, axis):
    """Resize each plane, then take the nearest plane along the axis, as nnU-Net does."""
    plane = tuple(size for other, size in enumerate(shape) if other != axis)
    planes = np.stack([resize_as_nnunet(part, plane, order) for part in np.moveaxis(image, axis, 0)], axis=axis)
    steps = [np.arange(size, dtype=np.float64) for size in shape]
    steps[axis] = image.shape[axis] / shape[axis] * (steps[axis] + 0.5) - 0.5
    return ndimage.map_coordinates(planes, np.meshgrid(*steps, indexing="ij"), order=0, mode="nearest")


def main():
    rng = np.random.default_rng(7)
    arrays = {"rules": np.array([(order, axis) for _, _, order, axis in CASES], np.int8)}
    for number, (shape, new_shape, order, axis) in enumerate(CASES):
        image = (rng.normal(size=shape) * 40 + 100).astype(np.float32)
        result = (
            resize_as_nnunet(image, new_shape, order) if axis < 0 else resize_separately(image, new_shape, order, axis)
        )
        arrays |= {f"image_{number}": image, f"result_{number}": result.astype(np.float32)}
    np.savez_compressed(Path(__file__).parent / "skimage_resize.npz", **arrays)


if __name__ == "__main__":
    main()
