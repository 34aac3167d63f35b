import pytest
import torch
from torch.nn import functional as F

from tests.networks.monai import specs
from tests.networks.rows import Subject
from tests.networks.transfer.nets import net, spec_of
from tumorseg.networks.transfer.kinds import KINDS
from tumorseg.networks.transfer.layouts import NOTHING
from tumorseg.networks.transfer.naming import naming_of
from tumorseg.networks.transfer.turning import TOKENS, other_positions, told, turned, with_kernels
from tumorseg.schema.initial_weights import TakenTensor


def test_a_unet_does_to_turned_images_what_it_did():
    given, own = net(1, kernel=(1, 3), stride=(1, 2)), net(2, kernel=(3, 1), stride=(2, 1))
    spec = spec_of(kernel=(3, 1), stride=(2, 1))
    own.load_state_dict(turned(given.state_dict(), (1, 0), spec))
    image = torch.randn(1, 1, 4, 8)
    with torch.no_grad():
        torch.testing.assert_close(own.eval()(image.mT).mT, given.eval()(image))


def test_the_same_order_leaves_the_same_tensors():
    given = net(1).state_dict()
    found = turned(given, (0, 1), spec_of())
    assert all(found[name] is tensor for name, tensor in given.items())


def test_what_was_turned_is_told_as_adapted_and_what_was_skipped_stays_so():
    decided = (
        TakenTensor(name="a", outcome="skipped", source="a", note="why"),
        TakenTensor(name="b", outcome="matched", source="b"),
        TakenTensor(name="c", outcome="adapted", source="c", note="how"),
        TakenTensor(name="d", outcome="matched", source="d"),
    )
    found = told(decided, dict.fromkeys("abc", "axes turned"))
    assert [(one.outcome, one.note) for one in found] == [
        ("skipped", "why"),
        ("adapted", "axes turned"),
        ("adapted", "axes turned; how"),
        ("matched", ""),
    ]


def test_the_matrix_that_makes_tokens_in_the_published_unetr_is_a_convolution_here():
    names = ["vit.patch_embedding.patch_embeddings.1.weight", "vit.patch_embedding.patch_embeddings.1.bias"]
    kind = KINDS["unetr"]
    own = [TOKENS, TOKENS.replace("weight", "bias")]
    naming = naming_of(names, kind, own)
    assert set(naming.names) == set(own)
    matrix = torch.randn(5, 16 * 16 * 2)
    spec = specs.ROWS["unetr 2d"].spec
    kernel = with_kernels({TOKENS: matrix}, spec)[TOKENS]
    image = torch.randn(1, 2, 32, 16)
    tokens = image.unflatten(2, (2, 16)).permute(0, 2, 3, 4, 1).reshape(2, -1)  # "b c (h p1) p2 -> b h (p1 p2 c)"
    torch.testing.assert_close(
        F.conv2d(image, kernel, stride=16)[0, :, :, 0].T, tokens @ matrix.T, atol=1e-4, rtol=1e-4
    )
    # What a convolution made already, or of other tokens, stays.
    for other in (kernel, torch.ones(5, 100)):
        assert with_kernels({TOKENS: other}, spec)[TOKENS] is other


@pytest.mark.parametrize(
    ("own", "given", "order", "is_other"),
    [
        (specs._swin((2, 7, 7)), specs._swin((7, 2, 7)), (0, 1, 2), True),
        (specs._swin((2, 7, 7)), specs._swin((7, 7, 2)), (2, 1, 0), False),
        (specs._swin((2, 7, 7)), None, (0, 1, 2), False),
        (specs._unetr((16, 48, 32)), specs._unetr((48, 16, 32)), (0, 1, 2), True),
        (specs._unetr((16, 48, 32)), specs._unetr((48, 16, 32)), (1, 0, 2), False),
        (specs._unetr((16, 48)), specs._unetr((16, 48, 32)), (0, 1), True),
    ],
)
def test_positions_are_those_of_one_window_or_patch(own, given, order, is_other):
    assert (other_positions(own, given, order) != NOTHING) is is_other


def test_positions_that_are_not_of_the_networks_own_grid_are_not_turned():
    name = "vit.patch_embedding.position_embeddings"
    places = torch.randn(1, 7, 24)
    assert turned({name: places}, (1, 0), specs._unetr((32, 48)))[name] is places


X_FIRST = {
    "swin_unetr": (specs._swin((1, 2, 2)), specs._swin((2, 2, 1)), (32, 32, 64)),
    "swin_unetr 2d": (specs._swin((2, 1)), specs._swin((1, 2)), (64, 32)),
    "unetr": (specs._unetr((16, 32, 48)), specs._unetr((48, 32, 16)), (16, 32, 48)),
    "segresnet": (specs._segresnet((0, 1, 1)), specs._segresnet((1, 1, 0)), (4, 8, 12)),
}
"""A network for images (Z, Y, X), the same one for (X, Y, Z), and a patch of the first."""


@pytest.mark.slow
@pytest.mark.parametrize("name", X_FIRST)
def test_weights_of_images_with_x_first_do_the_same_where_it_is_last(name):
    own, given, patch = X_FIRST[name]
    ours = Subject(specs.Row(own, patch))
    network, theirs = ours.build(1).double().eval(), Subject(specs.Row(given, patch[::-1])).build(2).double().eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    order = tuple(reversed(range(own.num_axes)))
    weights = turned(theirs.state_dict(), order, own)
    index = {name: tensor for name, tensor in network.state_dict().items() if name.endswith("position_index")}
    network.load_state_dict(weights | index)
    images = ours.images(1).double()
    axes = (0, 1, *(2 + axis for axis in order))
    with torch.inference_mode():
        found, expected = network(images), theirs(images.permute(axes)).permute(axes)
    assert expected.std() > 1e-2
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_one_order_of_three_axes_is_not_taken_for_its_inverse():
    # The first axis here is the second there, the second the third, the third the first.
    order, spec = (1, 2, 0), specs._swin((1, 2, 3))
    there = torch.randn(5, 1, 3)
    given = {"kernel": there[None, None], "a.relative_position_bias_table": there.reshape(-1, 1)}
    merged = torch.tensor([0.0, 1, 2, 3, 4, 5, 6, 7])  # 1, 2 and 3: one further along the first, second, third axis
    found = turned(given | {"swinViT.layers1.0.downsample.norm.weight": merged}, order, spec)
    expected = there.permute(1, 2, 0)
    assert torch.equal(found["kernel"][0, 0], expected)
    assert torch.equal(found["a.relative_position_bias_table"], expected.reshape(-1, 1))
    assert found["swinViT.layers1.0.downsample.norm.weight"].tolist() == [0, 2, 3, 1, 6, 4, 5, 7]
