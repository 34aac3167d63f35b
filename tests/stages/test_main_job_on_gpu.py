import nibabel
import numpy as np
import pytest

from tumorseg.stages.inference.predict import PredictRequest, predict
from tumorseg.stages.opening.fold_folders import TrainOptions
from tumorseg.stages.training.request import TrainRequest
from tumorseg.stages.training.train import train

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def folder(cuda, toy):
    """Return the folder of a fold that was trained on the GPU."""
    options = TrainOptions(epochs=3, iterations=10, seed=5)
    request = TrainRequest(roots=toy.roots, plan=toy.plan, fold="1", device=cuda, options=options, restart=True, jobs=1)
    return train(request).folder.root


@pytest.fixture(scope="module")
def expected(folder, toy, tmp_path_factory):
    """Return what it predicts on the CPU."""
    return masks_of(folder, toy, tmp_path_factory.mktemp("cpu") / "masks", device="cpu", precision="fp32")


def masks_of(folder, toy, output, **options):
    files = predict(PredictRequest(models=(folder,), inputs=(toy.data,), output=output, **options)).files
    return {case_id: np.asanyarray(nibabel.load(path).dataobj) for case_id, path in files.items()}


# Half precision decides otherwise on the fence, where a short training leaves more voxels than a long one does.
@pytest.mark.parametrize(("precision", "share"), [("fp32", 0.995), ("auto", 0.98)])
def test_a_training_on_the_gpu_predicts_there_as_on_the_cpu(cuda, folder, expected, toy, tmp_path, precision, share):
    found = masks_of(folder, toy, tmp_path / "masks", device=cuda, precision=precision)
    assert found.keys() == expected.keys()
    for case_id, mask in found.items():
        assert np.mean(mask == expected[case_id]) > share, case_id
