"""The part of a fingerprint that a plan carries."""

import numpy as np

from tumorseg.planning.evidence.images import not_hounsfield
from tumorseg.schema.base import record_hash
from tumorseg.schema.fingerprint import Fingerprint
from tumorseg.schema.plan import FingerprintSummary


def summarize(fingerprint: Fingerprint) -> FingerprintSummary:
    """Return the medians, intensities and doubts of a fingerprint, and its hash."""
    spacing = np.median([case.spacing_mm for case in fingerprint.cases], axis=0).tolist()
    shape = np.median([case.shape_after_crop for case in fingerprint.cases], axis=0).tolist()
    return FingerprintSummary(
        hash=record_hash(fingerprint),
        num_cases=len(fingerprint.cases),
        median_spacing_mm=tuple(spacing),
        median_shape_after_crop=tuple(shape),
        median_relative_size_after_cropping=fingerprint.median_relative_size_after_cropping,
        intensities=fingerprint.intensities,
        not_hounsfield=not_hounsfield(fingerprint),
    )
