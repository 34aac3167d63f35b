from tests.docs.losses_page import PAGE, PICTURE, gradients, page
from tumorseg.schema.losses import COMPONENTS


def test_the_page_of_losses_is_current():
    assert PAGE.read_text("utf-8") == page(), "run make losses-page"
    assert PICTURE.stat().st_size > 10_000


def test_every_loss_pulls_where_the_prediction_is_wrong():
    found = gradients()
    reference, prediction = found.pop("") > 0
    assert set(found) == set(COMPONENTS)
    for name, gradient in found.items():
        missed, invented = gradient[reference & ~prediction], gradient[prediction & ~reference]
        assert missed.mean() < 0 < invented.mean(), name
