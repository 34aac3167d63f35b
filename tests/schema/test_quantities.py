import pytest

from tumorseg.schema.quantities import bytes_text, duration_text, gb_text


@pytest.mark.parametrize(
    ("done", "total", "text"),
    [
        (0, None, "0 bytes"),
        (1023, None, "1023 bytes"),
        (1536, None, "1.5 kB"),
        (0, 0, "0/0 bytes"),
        (5, 2 * 2**20, "0.0/2.0 MB"),
        (27 * 2**30, 27 * 2**30, "27.0/27.0 GB"),
    ],
)
def test_bytes_are_written_in_one_unit(done, total, text):
    assert bytes_text(done, total) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 kB"), (5 * 2**20, "5 MB"), (3 * 2**29, "1.5 GB")],
)
def test_bytes_are_written_in_the_digits_asked_for(size, text):
    assert bytes_text(size, form=".3g") == text


def test_gigabytes_have_two_digits_or_those_asked_for():
    assert (gb_text(2**29), gb_text(3 * 2**30, 1)) == ("0.50 GB", "3.0 GB")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (61, "1:01"), (3600, "1:00:00"), (90061, "25:01:01")],
)
def test_durations_are_written_as_clocks_do(seconds, text):
    assert duration_text(seconds) == text
