"""A sample of what benchmarks/inference.py shows, and of what it is measured with."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from benchmarks.agreement import Pair, agreement, scores
from benchmarks.inference_memory import memory
from benchmarks.inference_models import Prepared, nnunet_weights, prepare_sixty, write_body
from benchmarks.own_inference import covered
from benchmarks.preprocessing import Bench
from benchmarks.watching import MIB
from tumorseg.networks.nnunet_weights import from_nnunet
from tumorseg.networks.registry import build_network
from tumorseg.planning.nnunet.networks import read_network
from tumorseg.schema.nnunet import Architecture

FROZEN = Path(__file__).parents[1] / "nnunet"
LABELS = {"one": 1, "two": 2}


@pytest.mark.parametrize("name", ["plain_2d", "plain_3d", "residual_2d", "residual_3d"])
def test_weights_get_the_names_and_values_that_nnunet_gives_them_duplicates_included(name):
    frozen = torch.load(FROZEN / f"{name}.pt", weights_only=True)
    spec = read_network(Architecture.model_validate(frozen["architecture"]), frozen["images"].ndim - 2, "plans.json")
    network = build_network(spec, num_channels=2, num_outputs=3)
    own = from_nnunet(frozen["weights"], network.state_dict(), spec.num_stages)
    found = nnunet_weights(own, spec.num_stages)
    assert found.keys() == frozen["weights"].keys()
    assert all(torch.equal(tensor, frozen["weights"][key]) for key, tensor in found.items())


def test_passes_side_by_side_count_once():
    assert covered([]) == 0
    assert covered([(5.0, 6.0), (0.0, 2.0), (1.0, 3.0), (1.5, 1.75)]) == 4.0


def write_masks(folder, masks):
    folder.mkdir()
    for case_id, mask in masks.items():
        nibabel.save(nibabel.Nifti1Image(mask, np.diag([1.0, 2.0, 3.0, 1.0])), folder / f"{case_id}.nii.gz")


def test_agreement_is_of_the_union_of_foregrounds_and_pools_dsc_over_cases(tmp_path):
    first, second = np.zeros((5, 3, 7), np.uint8), np.zeros((5, 3, 7), np.uint8)
    first[0, 0, :4], second[0, 0, 1:5] = 1, 1
    first[1, 1, 0], second[1, 1, 0] = 2, 1
    alike = np.zeros((2, 3, 1), np.uint8)
    alike[0, 0, 0] = 2
    write_masks(tmp_path / "a", {"x": first, "y": alike})
    write_masks(tmp_path / "b", {"x": second, "y": alike})
    pair = Pair(tmp_path / "a", tmp_path / "b", ("x", "y"), LABELS)
    found = agreement(pair)
    # Case x has 6 foreground voxels in either mask, of which 3 agree; case y has one, which does.
    assert (found["union_voxels"], found["share_of_union"]) == (7, 4 / 7)
    assert found["dsc"] == {"one": round(6 / 9, 6), "two": round(2 / 3, 6)}
    assert found["least_dsc_of_a_case"] == 0
    # Case by case: 6 / 9 and 1 (both empty) of label one, 0 and 1 of label two.
    assert scores(pair) == {"one": round((6 / 9 + 1) / 2, 5), "two": 0.5}


def test_masks_of_two_shapes_are_not_compared(tmp_path):
    write_masks(tmp_path / "a", {"x": np.zeros((5, 3, 7), np.uint8)})
    write_masks(tmp_path / "b", {"x": np.zeros((5, 3, 1), np.uint8)})
    with pytest.raises(ValueError, match=r"x: label maps of \(5, 3, 7\) and \(5, 3, 1\)"):
        agreement(Pair(tmp_path / "a", tmp_path / "b", ("x",), LABELS))


def test_nothing_of_the_large_image_is_cropped_away(tmp_path):
    write_body(tmp_path / "inputs" / "body_0000.nii.gz", (3, 15, 21))
    image = nibabel.load(tmp_path / "inputs" / "body_0000.nii.gz")
    assert image.shape == (21, 15, 3)
    assert np.asarray(image.dataobj).all()
    np.testing.assert_allclose(image.header.get_zooms(), [0.8, 0.8, 1.0], rtol=1e-6)


@pytest.mark.slow
def test_three_times_the_slices_of_sixty_classes_add_little_more_than_image_and_result(tmp_path):
    edge, few, many = 96, 32, 96
    prepared = Prepared(tmp_path / "sixty")
    bench = Bench(tmp_path, "python", tmp_path)
    prepare_sixty(bench, prepared, grid=(few, edge, edge), patch=(32, 64, 64), num_classes=60)
    found = memory(prepared, edge=edge, slices=(few, many))
    # The logits of the further slices would take 135 MiB; two copies of the image and the result take 5.
    logits_mib = 4 * 60 * (many - few) * edge * edge / MIB
    assert found["growth_mib"] < logits_mib / 2
    assert not list(prepared.folder.glob("out_*"))
