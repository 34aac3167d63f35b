import pytest
import torch

from tests.networks.transfer.nets import net
from tumorseg.errors import PlanError
from tumorseg.networks.transfer.deciding import decide, transfer
from tumorseg.networks.transfer.fitting import ALL_IMAGES, Images
from tumorseg.networks.transfer.kinds import FOREIGN, STAGED, kind_of

KINDS = ("plain_unet", "residual_unet")


def moved(own, given, *, has_same_outputs=True, images=ALL_IMAGES):
    """Return the transfer into a network, and its decisions by name."""
    found = transfer(
        own.state_dict(), given.state_dict(), kind=STAGED, has_same_outputs=has_same_outputs, images=images
    )
    assert list(found.weights) == list(own.state_dict())
    own.load_state_dict(found.weights)
    return found, {one.name: one for one in found.tensors}


def outcomes(found, beginning):
    return {one.outcome for one in found.tensors if one.name.startswith(beginning)}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_network_takes_every_bit(kind):
    given = net(1, kind=kind)
    found, _ = moved(own := net(2, kind=kind), given)
    assert outcomes(found, "") == {"matched"}
    assert all(torch.equal(own.state_dict()[name], tensor) for name, tensor in given.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_heads_begin_anew_where_the_labels_are_others(kind):
    own = net(2, kind=kind, outputs=2)
    before = own.heads[0].weight.clone()
    found, by_name = moved(own, net(1, kind=kind, outputs=2), has_same_outputs=False)
    assert outcomes(found, "heads.") == {"skipped"}
    assert "new head" in by_name["heads.0.bias"].note
    assert torch.equal(own.heads[0].weight, before)
    assert outcomes(found, ("stages.", "decoder.", "upsamplings.")) == {"matched"}


@pytest.mark.parametrize(("kind", "first"), [("plain_unet", "stages.0.0.0.weight"), ("residual_unet", "stem.0.weight")])
def test_only_the_convolution_that_sees_the_image_gets_other_channels(kind, first):
    given, own = net(1, kind=kind, channels=1), net(2, kind=kind, channels=3)
    found, by_name = moved(own, given)
    assert [one.name for one in found.tensors if one.outcome != "matched"] == [first]
    assert by_name[first].outcome == "adapted"
    assert by_name[first].note == "1 input channels repeated for 3"
    image = torch.randn(1, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(own.eval()(image.expand(-1, 3, -1, -1)), given.eval()(image))


@pytest.mark.parametrize(("before", "after"), [(1, 1), (1, 2), (2, 2), (3, 2)])
def test_a_cascade_sees_the_images_as_before_and_no_segmentation_at_first(before, after):
    given, own = net(1, channels=before), net(2, channels=after + 2)
    _, by_name = moved(own, given, images=Images(after, before))
    assert by_name["stem.0.weight"].note.endswith("zeros for the 2 channels of the previous segmentation")
    image, shown = torch.randn(1, 1, 8, 8), torch.rand(1, 2, 8, 8).round()
    with torch.no_grad():
        expected = given.eval()(image.expand(-1, before, -1, -1))
        torch.testing.assert_close(own.eval()(torch.cat((image.expand(-1, after, -1, -1), shown), dim=1)), expected)


def test_channels_of_one_number_that_show_other_things_are_no_match():
    own, given = net(2, channels=3), net(1, channels=3)
    _, by_name = moved(own, given, images=Images(1, 3))
    assert by_name["stem.0.weight"].outcome == "adapted"
    torch.testing.assert_close(own.stem[0].weight[:, 0], given.stem[0].weight.sum(1))
    assert not own.stem[0].weight[:, 1:].any()


@pytest.mark.parametrize("known", [1, None])
def test_a_cascade_takes_every_bit_of_a_cascade(known):
    found, _ = moved(net(2, channels=3), net(1, channels=3), images=Images(1, known))
    assert outcomes(found, "") == {"matched"}


def test_kernels_that_were_centred_make_the_same_network():
    given, own = net(1, kernel=(1, 3)), net(2, kernel=(3, 3))
    found, _ = moved(own, given)
    assert outcomes(found, "") == {"matched", "adapted"}
    image = torch.randn(1, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(own.eval()(image), given.eval()(image))


def test_strides_on_other_axes_repeat_the_upsampling():
    found, by_name = moved(net(2, stride=(2, 2)), net(1, stride=(1, 2)))
    assert by_name["upsamplings.0.weight"].outcome == "adapted"
    assert outcomes(found, ("stem.", "stages.", "decoder.")) == {"matched"}


def test_a_deeper_network_takes_all_stages_from_the_shallow_end():
    own, given = net(2, stages=4), net(1, stages=3)
    found, by_name = moved(own, given)
    assert by_name["stages.3.0.first.0.weight"].outcome == "skipped"
    # Decoder stages are numbered from the bottleneck: the given first is the second here.
    assert by_name["decoder.1.0.0.weight"].source == "decoder.0.0.0.weight"
    assert torch.equal(own.decoder[1][0][0].weight, given.decoder[0][0][0].weight)
    # The deepest upsampling begins as it was drawn; the others have nothing to do with it.
    for number in (0, 1):
        assert torch.equal(own.upsamplings[number + 1].weight, given.upsamplings[number].weight)
        assert torch.equal(own.upsamplings[number + 1].bias, given.upsamplings[number].bias)
    assert torch.equal(own.heads[0].weight, given.heads[0].weight)
    assert outcomes(found, ("stages.2.", "decoder.2.", "heads.1.")) == {"matched"}


def test_a_shallower_network_leaves_the_deepest_stages():
    own, given = net(2, stages=3), net(1, stages=4)
    found, _ = moved(own, given)
    assert outcomes(found, "") == {"matched"}
    assert torch.equal(own.decoder[0][0][0].weight, given.decoder[1][0][0].weight)
    unused = given.state_dict().keys() - {one.source for one in found.tensors}
    assert "stages.3.0.first.0.weight" in unused
    assert "decoder.0.0.0.weight" in unused


def test_further_blocks_begin_as_they_were_drawn():
    own, given = net(2, blocks=3), net(1, blocks=2)
    before = own.stages[1][2].first[0].weight.clone()
    _, by_name = moved(own, given)
    assert by_name["stages.1.2.first.0.weight"].outcome == "skipped"
    assert "lacks" in by_name["stages.1.2.first.0.weight"].note
    assert torch.equal(own.stages[1][2].first[0].weight, before)


def test_norms_and_biases_of_a_convolution_that_is_skipped_are_skipped_with_it():
    # The first stage is wider here, so that the convolution into the second one does not fit, though its norm would.
    _, by_name = moved(net(2, features=(5, 6, 8)), net(1, features=(4, 6, 8)))
    assert "another width" in by_name["stages.1.0.first.0.weight"].note
    for name in ("stages.1.0.first.0.bias", "stages.1.0.first.1.weight", "stages.1.0.first.1.bias"):
        assert by_name[name].outcome == "skipped"
        assert by_name[name].note == "belongs to stages.1.0.first.0.weight, which is skipped"
    assert by_name["stages.1.0.second.0.weight"].outcome == "matched"


def test_other_networks_match_by_name_and_shape_alone():
    own = {"a.weight": torch.zeros(3, 1, 3, 3), "a.bias": torch.zeros(3), "b.weight": torch.zeros(2, 3, 1, 1)}
    given = {"a.weight": torch.ones(3, 2, 3, 3), "a.bias": torch.ones(3), "b.weight": torch.ones(2, 3, 1, 1)}
    found = transfer(own, given, kind=FOREIGN, has_same_outputs=False)
    assert [one.outcome for one in found.tensors] == ["skipped", "skipped", "matched"]
    assert found.tensors[0].note == "is of [3, 2, 3, 3] there, of [3, 1, 3, 3] here"
    assert torch.equal(found.weights["b.weight"], given["b.weight"])
    assert torch.equal(found.weights["a.bias"], own["a.bias"])


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float64])
def test_another_precision_becomes_the_networks_own(kind):
    given = {name: tensor.to(kind) for name, tensor in net(1).state_dict().items()}
    found = transfer(net(2).state_dict(), given, kind=STAGED, has_same_outputs=True)
    assert {tensor.dtype for tensor in found.weights.values()} == {torch.float32}
    assert {one.outcome for one in found.tensors} == {"matched"}


def test_values_that_are_not_finite_are_refused_by_name():
    given = net(1).state_dict()
    given["stem.0.bias"][1] = torch.nan
    with pytest.raises(PlanError, match=r"weight stem\.0\.bias holds values that are not finite"):
        transfer(net(2).state_dict(), given, kind=STAGED, has_same_outputs=True)


@pytest.mark.parametrize(
    ("norm", "convolution"),
    [
        ("stages.1.0.norm.weight", "stages.1.0.spatial.weight"),
        ("downsamples.0.norm2.bias", "downsamples.0.conv2.conv.weight"),
        ("up_layers.0.blocks.0.norm2.weight", "up_layers.0.blocks.0.conv2.weight"),
        ("model.0.conv.1.adn.N.weight", "model.0.conv.1.conv.weight"),
        ("model.1.attention.W_g.1.bias", "model.1.attention.W_g.0.conv.weight"),
        ("dints_space.a.norm.weight", "dints_space.a.conv.weight"),
    ],
)
def test_norms_of_other_networks_are_skipped_with_their_convolution(norm, convolution):
    own = {convolution: (4, 8, 3, 3), norm: (4,), "norm.weight": (4,)}
    given = own | {convolution: (4, 6, 3, 3)}
    found = decide(own, given, kind=kind_of("attention_unet"), has_same_outputs=True)
    assert [one.outcome for one in found] == ["skipped", "skipped", "matched"]
    assert found[1].note == f"belongs to {convolution}, which is skipped"


def dynunet(downsamples, climbing):
    names = ["input_block", "bottleneck", *(f"downsamples.{number}" for number in range(downsamples))]
    shapes = {f"{name}.conv1.conv.weight": (4, 4, 3, 3) for name in names}
    return shapes | {f"upsamples.{number}.transp_conv.conv.weight": (4, 4, 2, 2) for number in range(climbing)}


@pytest.mark.parametrize(("ours", "theirs"), [(5, 6), (6, 5), (5, 5)])
def test_the_bottleneck_of_another_depth_begins_anew(ours, theirs):
    own, given = dynunet(ours - 2, ours - 1), dynunet(theirs - 2, theirs - 1)
    found = {one.name: one for one in decide(own, given, kind=kind_of("dynunet"), has_same_outputs=True)}
    bottleneck = found["bottleneck.conv1.conv.weight"]
    assert bottleneck.outcome == ("matched" if ours == theirs else "skipped")
    assert bottleneck.note == ("" if ours == theirs else "lies at another depth there")
    assert found["downsamples.0.conv1.conv.weight"].outcome == "matched"


def test_an_encoder_alone_gives_its_bottleneck():
    found = decide(dynunet(3, 4), dynunet(3, 0), kind=kind_of("dynunet"), has_same_outputs=True)
    assert [one.outcome for one in found if one.name.startswith("bottleneck")] == ["matched"]


def test_which_token_is_how_far_from_another_follows_from_the_own_window():
    name = "swinViT.layers1.0.blocks.0.attn.relative_position_index"
    (found,) = decide({name: (98, 98)}, {name: (98, 98)}, kind=kind_of("swin_unetr"), has_same_outputs=True)
    assert (found.outcome, found.note) == ("skipped", "belongs to the network's own window or patch")
