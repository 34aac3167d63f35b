import io
import re

import numpy as np
import pytest

from tests.planning.measured import fingerprint, planned
from tumorseg.planning.reading.anatomy import Anatomy, plan_anatomy
from tumorseg.planning.reading.stages import IMAGE, Flow, Stage, Work
from tumorseg.reports.architecture import ATTENTION as ATTENTION_COLOUR
from tumorseg.reports.architecture import (
    Drawing,
    anatomy_facts,
    architecture_png,
    architecture_svg,
    count_text,
    work_text,
)
from tumorseg.reports.architecture_flows import times
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
    assert work_text(first.work) == "1 convolution, 1 residual block of 3 × 3 × 3"
    assert work_text(second.work) == "3 residual blocks of 3 × 3 × 3"
    assert work_text(FULL.anatomy.decoder[0].work) == "1 convolution of 3 × 3 × 3"
    assert work_text(()) == "no convolution"
    facts = anatomy_facts(FULL.anatomy)
    assert f"keeps {bytes_text(FULL.anatomy.saved_bytes, form='.3g')} of fp16 activations" in facts
    assert facts.endswith(f"sees {times(FULL.anatomy.encoder[-1].receptive_field.voxels)} voxels")


def stage(side, level, **fields):
    edge = 32 // 2**level
    usual = {"shape": (edge,) * 3, "features": 8, "stride": (2,) * 3, "parameters": 10, "saved_bytes": 100}
    return Stage(side=side, level=level, receptive_field=None, **{**usual, "work": (CONVOLUTIONS,), **fields})


CONVOLUTIONS = Work(count=2, unit="convolution", kernel_size=(3, 3, 3), has_smaller=True)
ATTENTION = Work(count=2, unit="attention block", kernel_size=(), num_tokens=343)
STAGES = (
    stage("encoder", 0),
    stage("encoder", 1),
    stage("encoder", 2, work=(ATTENTION,)),
    stage("decoder", 1),
    stage("decoder", 0),
)


def drawing_of(*flows):
    pairs = tuple(Flow(source=source, target=target) for source, target in flows)
    about = {
        "network": "net",
        "parts": ("norm batch",),
        "axes": "ZYX",
        "spacing_mm": (1.0,) * 3,
        "batch_size": 2,
        "precision": "fp16",
    }
    return Drawing("3d", Anatomy(**about, stages=STAGES, flows=pairs), "net")


def labels(drawing):
    return re.findall(r"<!-- ([÷×i].*) -->", architecture_svg([drawing]).decode())


def test_attention_is_marked_in_words_and_in_its_own_colour():
    drawing = drawing_of()
    svg = architecture_svg([drawing]).decode()
    assert "<!-- 2 attention blocks over 343 tokens -->" in svg
    assert "<!-- 8 × 8 × 8 tokens, 8 features -->" in svg
    assert "<!-- 2 convolutions of up to 3 × 3 × 3; 10 weights -->" in svg
    assert "<!-- net with norm batch, on 32 × 32 × 32 voxels" in svg
    assert ATTENTION_COLOUR in svg
    assert ATTENTION_COLOUR not in architecture_svg([FULL]).decode()
    assert anatomy_facts(drawing.anatomy).endswith("tokens pay attention in 1 of 5 stages")


@pytest.mark.parametrize(
    ("flows", "expected"),
    [
        ([(IMAGE, 0), (0, 1), (1, 2)], ["÷ 2 × 2 × 2", "÷ 2 × 2 × 2"]),
        ([(IMAGE, 2)], ["image ÷ 4 × 4 × 4"]),
        ([(2, 1), (2, 3), (3, 4)], ["× 2 × 2 × 2"] * 3),
        ([(4, 3)], ["÷ 2 × 2 × 2"]),
        ([(0, 4), (0, 2), (0, 3)], []),
    ],
    ids=["down", "the image deeper down", "up on both sides", "down again", "skips and long ways"],
)
def test_arrows_tell_by_how_much_sizes_change(flows, expected):
    assert labels(drawing_of(*flows)) == expected
    bare = architecture_svg([drawing_of()])
    assert len(architecture_svg([drawing_of(*flows)])) > len(bare)
