"""A small cohort on disk."""

import nibabel
import numpy as np

from tumorseg.stages.evaluation.evaluate import EvaluateRequest

AFFINE = np.diag([0.8, 1.2, 3.0, 1.0])
NUM_CASES = 4


def save(path, array, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def drawn(number):
    """Return a tumour of an edema (2) around a core (1), as files store it."""
    labels = np.zeros((14, 12, 7), np.uint8)
    labels[2 : 9 + number, 2:9, 1:5] = 2
    labels[4:7, 4:7, 2:4] = 1
    return labels


def request(folder, **options):
    places = {"predictions": (folder / "predictions",), "references": (folder / "set",), "output": folder / "out.json"}
    return EvaluateRequest(**{**places, "jobs": 1, **options})
