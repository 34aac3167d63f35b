import pytest

from tests.stages.models import small_model, write_image
from tumorseg.sources.inputs import open_inputs


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture
def cases(tmp_path):
    for seed, name in enumerate("ab"):
        write_image(tmp_path / "in", name, seed)
    return open_inputs([tmp_path / "in"], ["T1", "T2"]).cases
