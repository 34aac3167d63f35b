"""What tests of losses are given."""

import warnings

import pytest


@pytest.fixture(scope="session")
def monai_losses():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai import losses
    return losses
