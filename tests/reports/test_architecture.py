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
    times,
)
from tumorseg.schema.quantities import bytes_text

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
    assert "<!-- my_net has no stages that are known here" in architecture_svg([OTHER]).decode()


def test_nothing_is_cut_off_at_the_edges():
    image = pixels(architecture_png([FULL, PLANE, OTHER]))
    for edge in (image[:2], image[-2:], image[:, :2], image[:, -2:]):
        assert edge.min() > 200


def test_each_network_has_its_own_room():
    one, two = (pixels(architecture_png(drawings)) for drawings in ([FULL], [FULL, PLANE]))
    assert one.shape[1] == two.shape[1]
    assert two.shape[0] > 1.5 * one.shape[0]
    assert pixels(architecture_png([OTHER])).min() < 100


@pytest.mark.parametrize(("count", "text"), [(12, "12"), (1500, "1.5 k"), (30_500_000, "30.5 M"), (2 * 10**9, "2 G")])
def test_weights_are_counted_in_few_digits(count, text):
    assert count_text(count) == text


def test_words_for_stages_and_networks():
    first, second = FULL.anatomy.encoder[:2]
    assert convolutions_text(first) == "a convolution and 1 residual block of 3 × 3 × 3"
    assert convolutions_text(second) == "3 residual blocks of 3 × 3 × 3"
    assert convolutions_text(FULL.anatomy.decoder[0]) == "1 convolution of 3 × 3 × 3"
    facts = anatomy_facts(FULL.anatomy)
    assert f"keeps {bytes_text(FULL.anatomy.saved_bytes, form='.3g')} of fp16 activations" in facts
    assert facts.endswith(f"sees {times(FULL.anatomy.encoder[-1].receptive_field.voxels)} voxels")
