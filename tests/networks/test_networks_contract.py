"""What every network of the registry promises."""

import io
import itertools

import pytest
import torch
from torch import Tensor, nn

from tests.networks.rows import FAMILY_ROWS, KINDS, OWN, ROWS, SUBJECTS
from tumorseg.engine.averaging import NetworkForward
from tumorseg.engine.moments import draws_random_numbers
from tumorseg.engine.sliding_window import Tiling, predict_slabs
from tumorseg.engine.weights import place
from tumorseg.errors import InputError, PlanError
from tumorseg.networks.registry import BUILDERS
from tumorseg.planning.families.registry import FAMILIES
from tumorseg.planning.presets import PRESETS
from tumorseg.schema.networks import NETWORKS, StagedNetwork
from tumorseg.schema.networks_monai import Unetr

CPU = torch.device("cpu")


def as_list(outputs):
    return [outputs] if isinstance(outputs, Tensor) else outputs


def awake(network):
    """Return a network none of whose weights begins at 0, as a residual block's last norm does, which would stop gradients."""
    for name, parameter in network.named_parameters():
        # Of a few hidden features of an attention, it may be that none responds.
        if (name.endswith("weight") and not parameter.any()) or name.endswith("squeeze.bias"):
            nn.init.ones_(parameter)
    return network


def backward(network, images):
    outputs = as_list(network(images))
    sum(logits.square().mean() for logits in outputs).backward()
    return outputs


def gradients_of(network):
    return {name: parameter.grad for name, parameter in network.named_parameters()}


@pytest.mark.parametrize("subject", SUBJECTS)
class TestEveryNetwork:
    def test_training_gives_logits_from_full_resolution_down_and_gradients_to_all_weights(self, subject):
        spec, network, images = subject.spec, awake(subject.build()).train(), subject.images()
        generator = torch.get_rng_state()
        outputs = network(images)
        assert draws_random_numbers(network) != torch.equal(torch.get_rng_state(), generator)
        assert isinstance(outputs, list) == getattr(spec, "deep_supervision", False)
        sizes, strides = subject.patch, getattr(spec, "strides", ((1,) * spec.num_axes,))
        assert len(as_list(outputs)) == spec.num_supervised <= len(strides)
        for logits, stride in zip(as_list(outputs), strides, strict=False):
            sizes = tuple(size // step for size, step in zip(sizes, stride, strict=True))
            assert logits.shape == (2, subject.num_outputs, *sizes)
        sum(logits.square().mean() for logits in as_list(outputs)).backward()
        for name, gradient in gradients_of(network).items():
            assert gradient is not None, name
            assert gradient.isfinite().all(), name
            if name.endswith("weight"):
                assert gradient.abs().max() > 0, name

    def test_evaluation_gives_the_same_finite_logits_each_time(self, subject):
        network, images = subject.build().eval(), subject.images()
        with torch.inference_mode():
            first, second = network(images), network(images)
        assert first.dtype == torch.float32
        assert first.shape == (2, subject.num_outputs, *subject.patch)
        assert first.isfinite().all()
        assert torch.equal(first, second)

    def test_evaluation_repeats_the_full_resolution_of_training(self, subject):
        if subject.row.differs:
            pytest.skip(subject.row.differs)
        network, images = subject.build(), subject.images()
        training = as_list(network.train()(images))[0]
        torch.testing.assert_close(network.eval()(images), training, atol=1e-5, rtol=1e-4)

    def test_state_dict_round_trips_through_safe_loading(self, subject):
        first, second = subject.build(seed=0).eval(), subject.build(seed=1).eval()
        file = io.BytesIO()
        torch.save(first.state_dict(), file)
        file.seek(0)
        second.load_state_dict(torch.load(file, weights_only=True))
        images = subject.images(batch=1)
        assert torch.equal(first(images), second(images))

    def test_the_same_seed_gives_the_same_weights(self, subject):
        first, second = subject.build(seed=3).state_dict(), subject.build(seed=3).state_dict()
        assert all(torch.equal(first[key], second[key]) for key in first)

    def test_samples_of_a_batch_do_not_see_each_other(self, subject):
        network, images = subject.exact()
        network.eval()
        torch.testing.assert_close(network(images)[:1], network(images[:1]), atol=1e-5, rtol=1e-5)

    def test_recomputed_activations_give_the_same_gradients(self, subject):
        kept, recomputed = subject.build().train(), subject.build().train()
        recomputed.activation_checkpointing = True
        for network in (kept, recomputed):
            torch.manual_seed(5)
            backward(network, subject.images())
        torch.testing.assert_close(gradients_of(recomputed), gradients_of(kept), atol=1e-5, rtol=1e-4)

    def test_weights_in_the_order_of_a_cpu_give_the_same(self, subject):
        network, images = subject.exact()
        usual = network.eval()(images)
        placed = place(network, CPU)
        torch.testing.assert_close(placed(images), usual, atol=1e-5, rtol=1e-5)
        backward(placed.train(), images)
        assert all(gradient is not None for gradient in gradients_of(placed).values())

    def test_patches_beside_the_divisors_are_refused_with_reason(self, subject):
        network = subject.build().eval()
        for axis, divisor in enumerate(subject.spec.divisors):
            changed = list(subject.patch)
            changed[axis] += 1
            if divisor > 1:
                assert "\n" not in subject.spec.patch_problem(tuple(changed))
                with pytest.raises(InputError, match=rf"{changed[axis]}.*multiple"):
                    network(subject.images(1, changed))
        with pytest.raises(InputError, match="multiple"):
            network(subject.images(1, (32,)))

    def test_no_smaller_divisor_would_do(self, subject):
        network = subject.build().eval()
        divisors, network.divisors = subject.spec.divisors, (1,) * len(subject.patch)
        for axis, divisor in enumerate(divisors):
            changed = list(subject.patch)
            changed[axis] += divisor // 2
            if divisor > 1:
                assert not is_segmented(network, subject.images(1, changed))

    def test_a_larger_multiple_is_segmented_whole(self, subject):
        if isinstance(subject.spec, Unetr):
            pytest.skip("takes the one patch whose positions it has learned")
        larger = (subject.patch[0] + subject.spec.divisors[0], *subject.patch[1:])
        assert subject.spec.patch_problem(larger) is None
        assert is_segmented(subject.build().eval(), subject.images(1, larger))

    def test_tiles_and_mirrored_views_make_one_image(self, subject):
        (network, (seen, _)), axes = subject.exact(), tuple(range(len(subject.patch)))
        network.eval()
        image = seen[:, None] if len(axes) == 2 else seen
        tile = tuple(image.shape[1:])
        tiling = Tiling(tile, 0.5, 0.125, is_planar=len(axes) == 2)
        forward = NetworkForward((network,), axes, len(axes), lambda: torch.autocast("cpu", enabled=False), CPU)
        alone = whole(image, forward, tiling, subject.num_outputs)
        turned = []
        for count in range(len(axes) + 1):
            for view in itertools.combinations([axis + 2 for axis in axes], count):
                with torch.no_grad():
                    turned.append(network(seen[None].flip(view)).flip(view))
        torch.testing.assert_close(
            alone, torch.stack(turned).mean(0).reshape(alone.shape).float(), atol=1e-5, rtol=1e-4
        )
        larger = torch.cat((image, image[..., :3]), dim=-1)
        assert whole(larger, forward, tiling, subject.num_outputs).isfinite().all()


def whole(image, forward, tiling, num_outputs):
    logits = torch.cat([slab.logits for slab in predict_slabs(image, forward, tiling, num_outputs=num_outputs)], dim=1)
    assert logits.shape == (num_outputs, *image.shape[1:])
    return logits


def is_segmented(network, images):
    try:
        return network(images).shape[2:] == images.shape[2:]
    except (RuntimeError, ValueError, InputError):
        return False


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_a_row_for_each_kind_of_grid_or_is_refused_there_in_one_line(name, kind):
    if (row := ROWS.get(name + kind)) is not None:
        assert row.spec.name == name
        assert row.spec.num_axes == len(row.patch) == len(KINDS[kind].spacing_mm)
        return
    preset = PRESETS["optimized"].model_copy(update={"network": name})
    with pytest.raises(PlanError, match=rf"{name} .*plan with --network") as raised:
        next(FAMILIES[name].networks(KINDS[kind], preset))
    assert "\n" not in str(raised.value)


def test_registry_schema_and_rows_name_the_same_networks():
    assert set(NETWORKS) == set(BUILDERS) == set(FAMILY_ROWS)
    assert all(issubclass(NETWORKS[name], StagedNetwork) for name in OWN)
