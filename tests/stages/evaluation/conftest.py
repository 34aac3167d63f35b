import numpy as np
import pytest

from tests.stages.evaluation.cohort_files import NUM_CASES, drawn, save


@pytest.fixture
def cohort(tmp_path):
    """A manifest of two patients at two sites, images and references, and predictions that are one voxel off."""
    rows = ["case_id,t1,T1Gd,label,group,site,age,label:core=1,label:edema=2"]
    for number in range(NUM_CASES):
        reference = drawn(number)
        image = np.random.default_rng(number).normal(50, 5, reference.shape).astype(np.float32) + 40 * reference
        for name, array in (("t1", image), ("t1gd", image * 2), ("label", reference)):
            save(tmp_path / f"set/{name}/c{number}.nii.gz", array)
        save(tmp_path / f"predictions/c{number}.nii.gz", np.roll(reference, 1, axis=0))
        paths = ",".join(f"{name}/c{number}.nii.gz" for name in ("t1", "t1gd", "label"))
        rows.append(f"c{number},{paths},p{number // 2},{'Ulm' if number < 3 else 'Bern'},{40 + number},,")
    (tmp_path / "set/manifest.csv").write_text("\n".join(rows) + "\n")
    return tmp_path
