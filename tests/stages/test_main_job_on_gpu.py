import nibabel
import numpy as np
import pytest

from tumorseg.stages.inference.predict import PredictRequest, predict
from tumorseg.stages.opening.fold_folders import TrainOptions
from tumorseg.stages.training.train import TrainRequest, train

pytestmark = pytest.mark.gpu


def test_a_training_on_the_gpu_predicts_alike_on_the_cpu(cuda, toy, tmp_path):
    options = TrainOptions(epochs=3, iterations=10, seed=5)
    request = TrainRequest(roots=toy.roots, plan=toy.plan, fold="1", device=cuda, options=options, restart=True, jobs=1)
    folder = train(request).folder.root
    found = {
        device: predict(
            PredictRequest(models=(folder,), inputs=(toy.data,), output=tmp_path / device, device=device)
        ).files
        for device in (cuda, "cpu")
    }
    for case_id, path in found[cuda].items():
        first, second = (np.asanyarray(nibabel.load(file).dataobj) for file in (path, found["cpu"][case_id]))
        assert np.mean(first == second) > 0.995, case_id
