"""Tables of what networks cost."""

from tumorseg.planning.reading.costs import Costs, Sight
from tumorseg.reports.network_tables import compared_text, sight_text

COSTS = Costs(
    network="plain_unet",
    patch_size=(112, 112, 112),
    batch_size=2,
    precision="fp16",
    parameters=1,
    flops=1,
    activations_bytes=1,
    memory_bytes=1,
    sight=Sight(voxels=(3, 3, 3), whole="patch"),
)


def test_a_patch_that_was_not_asked_for_is_told_with_its_reason():
    others = [COSTS.changed(network="mednext"), COSTS.changed(network="segresnet", patch_size=(104, 104, 104))]
    divisors = {"plain_unet": (16, 16, 16), "mednext": (16, 16, 16), "segresnet": (8, 8, 8)}
    text = compared_text([COSTS, *others], {"dints": "no"}, divisors)
    reason = "counted on {0} × {0} × {0}, as edges of a patch must be multiples of {1} × {1} × {1}\n"
    assert f"\nplain_unet, mednext: {reason.format(112, 16)}segresnet: {reason.format(104, 8)}dints: no\n" in text
    assert "counted on" not in compared_text([COSTS], {}, {})


def test_a_network_that_was_not_timed_stands_beside_those_that_were():
    timed = COSTS.changed(network="mednext", step_s=1.25, tile_s=0.5, device="cpu")
    header, _, first, second, *_ = compared_text([COSTS, timed], {}, {}).splitlines()
    assert header.split()[-2:] == ["step", "tile"]
    assert first.split()[-2:] == ["–", "–"]
    assert second.split()[-4:] == ["1.25", "s", "0.5", "s"]
    assert "step" not in compared_text([COSTS], {}, {}).splitlines()[0]


def test_what_pools_the_patch_says_so():
    assert sight_text(COSTS.sight) == "3 × 3 × 3 voxels, the whole patch by pooling"
    assert sight_text(Sight(voxels=None, whole="window")) == "the whole window"
