"""Images that look like those of a small study: a body with an organ on one side, in channels of different contrast."""

import numpy as np

from tumorseg.ops.trust.image_profile import ProfiledImage, image_profile
from tumorseg.schema.trust import TrustCase, TrustSubject

SPACING = (2.5, 1.25, 0.8)
SUBJECT = TrustSubject(
    channels=("CT", "t1"),
    kinds=("ct", "mr"),
    axes=("Z (foot to head)", "Y (back to front)", "X (left to right)"),
)


def phantom(seed, shape=(15, 23, 31)):
    """Return CT and MR of a body in air whose organ lies to the right, below and in front, never quite alike."""
    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij"))
    center = np.array([-0.3, 0.3, 0.35]) + random.normal(0, 0.04, 3)
    body = np.sum((grid / np.array([0.95, 0.8, 0.85])[:, None, None, None]) ** 2, axis=0) < 1
    organ = np.sum((grid - center[:, None, None, None]) ** 2, axis=0) < random.normal(0.35, 0.02) ** 2
    organ &= body
    ct = np.where(body, 30.0, -1000.0) + 120.0 * organ + random.normal(0, 10, shape)
    # Its unit is arbitrary: scanners differ by a factor of a thousand.
    mr = (np.where(body, 100.0, 0.0) - 60.0 * organ + random.normal(0, 3, shape) * body) * 10 ** random.uniform(
        -1.5, 1.5
    )
    return ProfiledImage(np.stack([ct, mr]).astype(np.float32), SPACING, SUBJECT.kinds)


def trust_cases(count, num_parts=5, first=0):
    """Return out-of-fold cases of which nothing but the image is known."""
    return [
        TrustCase(case_id=f"case {seed}", part=seed % num_parts, image=image_profile(phantom(seed)))
        for seed in range(first, first + count)
    ]
