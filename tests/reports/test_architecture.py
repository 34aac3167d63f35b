import io
import re

import numpy as np
import pytest

from tests.planning.measured import fingerprint, planned
from tumorseg.planning.reading.anatomy import plan_anatomy
from tumorseg.reports.architecture import (
    Drawing,
    anatomy_facts,
    architecture_png,
    architecture_svg,
    convolutions_text,
    count_text,
    size_text,
    times,
)

PLAN = planned(fingerprint())
FULL = Drawing("3d_fullres", plan_anatomy(PLAN, "3d_fullres"), "residual_unet")
PLANE = Drawing("2d", plan_anatomy(PLAN, "2d"), "residual_unet")
OTHER = Drawing("other", None, "my_net")


def pixels(png):
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png)).convert("L"))


def test_a_picture_is_the_same_bytes_each_time_and_refers_to_nothing():
    svg = architecture_svg([FULL, OTHER])
    assert svg == architecture_svg([FULL, OTHER])
    assert architecture_png([FULL]) == architecture_png([FULL])
    assert re.findall(rb'(?:href|src)="[^#]', svg) == []
    assert b"<script" not in svg


def test_the_svg_holds_every_stage_as_a_comment_beside_its_letters():
    svg = architecture_svg([FULL]).decode()
    for stage in FULL.anatomy.stages:
        assert f"<!-- {times(stage.shape)} voxels, {stage.features} features -->" in svg
    for stage in FULL.anatomy.encoder:
        assert f"<!-- sees {times(stage.receptive_field.voxels)} voxels" in svg
    assert "<!-- my_net is another package's network" in architecture_svg([OTHER]).decode()


def test_nothing_is_cut_off_at_the_edges():
    image = pixels(architecture_png([FULL, PLANE, OTHER]))
    for edge in (image[:2], image[-2:], image[:, :2], image[:, -2:]):
        assert edge.min() > 200


def test_each_network_has_its_own_room():
    one, two = (pixels(architecture_png(drawings)) for drawings in ([FULL], [FULL, PLANE]))
    assert one.shape[1] == two.shape[1]
    assert two.shape[0] > 1.5 * one.shape[0]
    assert pixels(architecture_png([OTHER])).min() < 100


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 kB"), (5 * 2**20, "5 MB"), (3 * 2**29, "1.5 GB")],
)
def test_sizes_are_told_in_a_unit_that_suits_them(size, text):
    assert size_text(size) == text


@pytest.mark.parametrize(("count", "text"), [(12, "12"), (1500, "1.5 k"), (30_500_000, "30.5 M"), (2 * 10**9, "2 G")])
def test_weights_are_counted_in_few_digits(count, text):
    assert count_text(count) == text


def test_words_for_stages_and_networks():
    first, second = FULL.anatomy.encoder[:2]
    assert convolutions_text(first, "residual_unet") == "a convolution and 1 residual block of 3 × 3 × 3"
    assert convolutions_text(second, "residual_unet") == "3 residual blocks of 3 × 3 × 3"
    assert convolutions_text(first, "plain_unet") == "1 convolution of 3 × 3 × 3"
    facts = anatomy_facts(FULL.anatomy)
    assert f"keeps {size_text(FULL.anatomy.saved_bytes)} of fp16 activations" in facts
    assert facts.endswith(f"sees {times(FULL.anatomy.encoder[-1].receptive_field.voxels)} voxels")
