"""docs/augmentation.md names every preset and every transform, with the defaults that they have."""

from tests.docs.augmentation_page import PAGE, page
from tumorseg.schema.augmentation import KnownTransform
from tumorseg.schema.extensions import records_of


def test_the_tables_are_what_presets_and_records_say():
    text = PAGE.read_text()
    assert page(text) == text


def test_every_transform_is_in_a_table():
    text = PAGE.read_text()
    assert not [name for name in records_of(KnownTransform) if text.count(f"\n| `{name}` |") != 1]
