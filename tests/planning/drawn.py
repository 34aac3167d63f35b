"""Fingerprints of all kinds, drawn by hypothesis."""

from hypothesis import strategies as st

from tests.planning.measured import CT, MR, case, fingerprint


@st.composite
def fingerprints(draw):
    """Draw from flat pictures to 1000 slices of 512 x 512, 1 to 8 channels, 2 to 118 labels, spacing 0.2 to 10 mm."""
    is_flat = draw(st.booleans()) and draw(st.booleans())
    depth = 1 if is_flat else draw(st.integers(12, 1000))
    plane = (draw(st.integers(32, 512)), draw(st.integers(32, 512)))
    spacing = tuple(round(draw(st.floats(0.2, 10.0)), 3) for _ in range(3))
    num_labels = draw(st.one_of(st.integers(2, 8), st.integers(2, 118)))
    channels = tuple(f"C{number}" for number in range(draw(st.integers(1, 8))))
    cases = [case(f"case_{number:03}", spacing, (depth, *plane)) for number in range(draw(st.integers(1, 200)))]
    return fingerprint(
        cases,
        channels=channels,
        labels={"background": 0} | {f"label_{value}": value for value in range(1, num_labels)},
        intensities=draw(st.sampled_from([CT, MR])),
    )
