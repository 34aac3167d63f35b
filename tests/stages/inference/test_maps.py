import json
import os
import tracemalloc
from typing import NamedTuple

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from scipy.spatial.transform import Rotation
from torch import nn

from tests.stages.models import small_model, write_image
from tests.targets import classes, regions
from tumorseg.engine.restoration import decide
from tumorseg.engine.segmentation import SliceResult
from tumorseg.engine.uncertainty import disagreement, entropy, probabilities
from tumorseg.errors import InputError, StorageError
from tumorseg.ops.geometry import AxisOrder, restore_orientation
from tumorseg.ops.preprocessing import axis_order
from tumorseg.schema.dataset import Case, ImageFile
from tumorseg.schema.targets import targets_of
from tumorseg.stages.inference.maps import STEPS, MapRequest, open_maps, volume_names
from tumorseg.stages.inference.segment_case import RunOptions, segment_case
from tumorseg.stages.opening.reading import CaseImage, read_case_image

ALL = MapRequest(probabilities=True, entropy=True, disagreement=True)
SHAPE = (5, 7, 6)
"""Voxels (Z, Y, X) as stored."""
BOX = (slice(1, 4), slice(1, 5), slice(2, 5))
"""What cropping leaves of an oriented image, in whatever order its axes come."""
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", (12, -7, 17), degrees=True).as_matrix() @ np.diag([0.7, 0.9, -3.1])
OBLIQUE[:3, 3] = [-12.5, 40.25, 7]
AFFINES = {
    "LPS": np.diag([-0.7, -0.9, 3.1, 1.0]),
    "oblique": OBLIQUE,
    "sagittal": OBLIQUE[:, [2, 0, 1, 3]],
}


class Seen(NamedTuple):
    """What a case's maps were shown, and what they wrote."""

    case: Case
    found: CaseImage
    slices: list[SliceResult]
    names: tuple[str, ...]

    def stored(self, make, outside=0.0):
        """Return a map as it should be on the stored grid: (K, Z, Y, X)."""
        planes = {seen.position: np.asarray(make(seen)) for seen in self.slices}
        count = len(next(iter(planes.values())))
        whole = np.zeros((count, *self.found.image.shape[1:]), planes[self.slices[0].position].dtype)
        whole[0] = outside
        for seen in self.slices:
            whole[(slice(None), seen.position, *seen.window)] = planes[seen.position]
        return restore_orientation(whole, self.found.orientation)


def write_case(folder, affine=OBLIQUE, shape=SHAPE, transpose=(0, 1, 2)):
    image = nibabel.Nifti1Image(np.zeros(shape[::-1], np.int16), affine)
    nibabel.save(image, folder / "image.nii.gz")
    case = Case(case_id="a", images=(ImageFile(path=str(folder / "image.nii.gz")),))
    return case, read_case_image(case, order=AxisOrder(transpose))


def slices_of(targets, box=BOX, seed=0):
    rng = np.random.default_rng(seed)
    shape = [part.stop - part.start for part in box[1:]]
    for position in range(box[0].start, box[0].stop):
        members = torch.from_numpy(rng.normal(0, 2, (4, targets.num_outputs, *shape)).astype(np.float32))
        logits = members.mean(dim=0)
        chosen = members > 0
        if not targets.has_regions:
            chosen = torch.nn.functional.one_hot(members.argmax(dim=1), targets.num_outputs).movedim(-1, 1)
        yield SliceResult(position, box[1:], logits, chosen.float().mean(dim=0), decide(logits, targets))


def map_case(folder, targets, *, requested=ALL, box=BOX, **how):
    case, found = write_case(folder, **how)
    slices = list(slices_of(targets, box))
    (folder / "out").mkdir(exist_ok=True)
    with open_maps(requested, found, targets, root=folder / "out", case_id="a") as maps:
        for seen in slices:
            for observe in maps.observers:
                observe(seen)
        names = maps.write(case.images[0], found.affine)
    return Seen(case, found, slices, names)


def read(folder, kind):
    return nibabel.load(folder / "out" / kind / "a.nii.gz")


def steps(image):
    """Return what is stored: (K, Z, Y, X), or (Z, Y, X)."""
    return np.asanyarray(image.dataobj.get_unscaled()).T


def files_in(folder):
    return sorted(name for _, _, names in os.walk(folder) for name in names)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1)])
def test_probabilities_lie_on_the_stored_grid_and_their_largest_is_the_mask(tmp_path, affine, transpose):
    targets = classes(4)
    seen = map_case(tmp_path, targets, affine=affine, transpose=transpose)
    assert seen.names == ("probabilities/a.nii.gz", "entropy/a.nii.gz", "disagreement/a.nii.gz")
    image = read(tmp_path, "probabilities")
    np.testing.assert_array_equal(image.affine, nibabel.load(seen.case.images[0].path).affine)
    assert image.get_data_dtype() == np.uint16
    assert image.shape == (*SHAPE[::-1], 4)
    stored = steps(image)
    expected = seen.stored(lambda slice_: probabilities(slice_.logits, targets), outside=1)
    np.testing.assert_allclose(stored, expected * STEPS, rtol=0, atol=0.51)
    np.testing.assert_allclose(image.get_fdata().T, expected, atol=1e-5)

    mask = seen.stored(lambda slice_: slice_.values[None])[0]
    first, second = np.sort(stored, axis=0)[[-1, -2]].astype(int)
    is_clear = first - second > 2
    assert is_clear.mean() > 0.99
    found = np.array(targets.label_values)[stored.argmax(axis=0)]
    np.testing.assert_array_equal(found[is_clear], mask[is_clear])
    # rounding moves each class by half a step at most
    assert np.abs(stored.sum(axis=0, dtype=int) - STEPS).max() <= len(stored) / 2


def test_what_was_cropped_away_is_certainly_background(tmp_path):
    seen = map_case(tmp_path, classes(3))
    outside = seen.stored(lambda slice_: np.ones_like(slice_.values)[None])[0] == 0
    assert outside.sum() == np.prod(SHAPE) - 3 * 4 * 3
    stored = steps(read(tmp_path, "probabilities"))
    assert (stored[0][outside] == STEPS).all()
    assert not stored[1:, outside].any()
    for kind in ("entropy", "disagreement"):
        assert not steps(read(tmp_path, kind))[outside].any()
        assert steps(read(tmp_path, kind))[~outside].any()


def test_of_regions_each_has_a_volume_and_outside_there_is_none(tmp_path):
    targets = regions(2)
    seen = map_case(tmp_path, targets, transpose=(1, 2, 0))
    expected = seen.stored(lambda slice_: probabilities(slice_.logits, targets))
    np.testing.assert_allclose(steps(read(tmp_path, "probabilities")), expected * STEPS, rtol=0, atol=0.51)
    assert volume_names(targets) == ("region 0", "region 1")


@pytest.mark.parametrize("targets", [classes(3), regions(2)], ids=["classes", "regions"])
def test_entropy_and_disagreement_are_single_volumes(tmp_path, targets):
    seen = map_case(tmp_path, targets, affine=AFFINES["sagittal"])
    makers = {
        "entropy": lambda slice_: entropy(slice_.logits, targets)[None],
        "disagreement": lambda slice_: disagreement(slice_.logits, slice_.votes, targets)[None],
    }
    for kind, make in makers.items():
        image = read(tmp_path, kind)
        assert image.shape == SHAPE[::-1]
        np.testing.assert_allclose(steps(image), seen.stored(make)[0] * STEPS, rtol=0, atol=0.51)
        assert len(np.unique(steps(image))) > 2


def test_a_2d_image_has_2d_maps(tmp_path):
    box = (slice(0, 1), slice(1, 6), slice(0, 4))
    seen = map_case(tmp_path, classes(3), affine=AFFINES["LPS"], shape=(7, 6), box=box)
    assert read(tmp_path, "entropy").shape == (6, 7)
    assert read(tmp_path, "probabilities").shape == (6, 7, 1, 3)
    expected = seen.stored(lambda slice_: probabilities(slice_.logits, classes(3)), outside=1)
    np.testing.assert_allclose(steps(read(tmp_path, "probabilities")), expected * STEPS, rtol=0, atol=0.51)


def test_a_file_says_what_its_volumes_are_and_itk_reads_it(tmp_path):
    map_case(tmp_path, classes(3))
    image = read(tmp_path, "probabilities")
    (extension,) = image.header.extensions
    assert json.loads(extension.get_content()) == {"volumes": ["0", "10", "20"]}
    seen = SimpleITK.ReadImage(str(tmp_path / "out" / "probabilities" / "a.nii.gz"))
    np.testing.assert_allclose(SimpleITK.GetArrayFromImage(seen), image.get_fdata().T, atol=1e-6)


def test_maps_of_another_format_have_its_grid(tmp_path):
    _, found = write_case(tmp_path)
    array = SimpleITK.GetImageFromArray(np.zeros(SHAPE, np.int16))
    array.SetSpacing((0.7, 0.9, 3.1))
    SimpleITK.WriteImage(array, str(tmp_path / "image.nrrd"))
    with open_maps(ALL, found, classes(2), root=tmp_path, case_id="b") as maps:
        maps.write(ImageFile(path=str(tmp_path / "image.nrrd")), OBLIQUE)
    for kind in ALL.kinds:
        np.testing.assert_allclose(nibabel.load(tmp_path / kind / "b.nii.gz").affine, OBLIQUE, atol=1e-6)


def test_only_what_is_wanted_is_made(tmp_path):
    assert map_case(tmp_path, classes(2), requested=MapRequest()).names == ()
    assert files_in(tmp_path / "out") == []
    assert map_case(tmp_path, classes(2), requested=MapRequest(entropy=True)).names == ("entropy/a.nii.gz",)
    assert os.listdir(tmp_path / "out") == ["entropy"]


def test_the_same_slices_give_the_same_bytes_even_if_they_were_shown_twice(tmp_path):
    map_case(tmp_path, classes(3))
    first = {kind: (tmp_path / "out" / kind / "a.nii.gz").read_bytes() for kind in ALL.kinds}
    case, found = write_case(tmp_path)
    with open_maps(ALL, found, classes(3), root=tmp_path / "out", case_id="a") as maps:
        # memory ran out after two slices, and all began anew
        for seen in [*list(slices_of(classes(3), seed=1))[:2], *slices_of(classes(3))]:
            for observe in maps.observers:
                observe(seen)
        maps.write(case.images[0], found.affine)
    assert {kind: (tmp_path / "out" / kind / "a.nii.gz").read_bytes() for kind in ALL.kinds} == first


def test_a_case_that_fails_leaves_nothing(tmp_path):
    _, found = write_case(tmp_path)
    (tmp_path / "out").mkdir()

    def fail():
        with open_maps(ALL, found, classes(3), root=tmp_path / "out", case_id="a") as maps:
            maps.observers[0](next(slices_of(classes(3))))
            raise InputError("the network's logits are not finite")

    with pytest.raises(InputError, match="not finite"):
        fail()
    assert files_in(tmp_path / "out") == []


def test_maps_that_cannot_all_be_written_are_not_there(tmp_path):
    case, found = write_case(tmp_path)
    # a folder stands where the last map would have to
    (tmp_path / "out" / "disagreement" / "a.nii.gz").mkdir(parents=True)
    with (
        open_maps(ALL, found, classes(3), root=tmp_path / "out", case_id="a") as maps,
        pytest.raises(StorageError, match="cannot write"),
    ):
        maps.write(case.images[0], found.affine)
    assert files_in(tmp_path / "out") == []


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1)])
def test_memory_holds_one_volume_not_all_classes(tmp_path, transpose):
    shape, targets = (40, 64, 72), classes(24)
    case, found = write_case(tmp_path, affine=AFFINES["LPS"], shape=shape, transpose=transpose)
    depth, *plane = found.image.shape[1:]
    window = (slice(0, plane[0]), slice(0, plane[1]))
    noise = torch.randn((24, *plane), generator=torch.Generator().manual_seed(0))
    tracemalloc.start()
    try:
        with open_maps(MapRequest(probabilities=True), found, targets, root=tmp_path, case_id="a") as maps:
            for position in range(depth):
                maps.observers[0](SliceResult(position, window, noise, None, np.zeros(plane, np.uint8)))
            maps.write(case.images[0], found.affine)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The volume, a copy on its way into the file, and the planes of a slice; noise can hardly be packed.
    assert peak < 8 * 2 * np.prod(shape)


class Blurred(nn.Module):
    """A network whose logits are made of its image, so that mirrored views agree but on rounding."""

    def forward(self, images):
        return torch.cat((torch.zeros_like(images[:, :1]) + 0.3, images), dim=1)


def test_a_models_probabilities_have_their_largest_where_its_mask_is(tmp_path):
    model = small_model(tmp_path / "model", Blurred())
    write_image(tmp_path / "in", "a")
    files = [ImageFile(path=str(tmp_path / "in" / f"a_{number:04d}.nii.gz")) for number in range(2)]
    case = Case(case_id="a", images=tuple(files))
    found, targets = read_case_image(case, order=axis_order(model.plan)), targets_of(model.plan.dataset)
    (tmp_path / "out").mkdir()
    with open_maps(ALL, found, targets, root=tmp_path / "out", case_id="a") as maps:
        options = RunOptions(with_votes=True)
        mask = segment_case(model, found, options=options, observers=maps.observers)
        maps.write(files[0], found.affine)
    stored = steps(read(tmp_path, "probabilities"))
    first, second = np.sort(stored, axis=0)[[-1, -2]].astype(int)
    is_clear = first - second > 2
    assert is_clear.mean() > 0.9
    assert len(np.unique(mask)) == 3
    np.testing.assert_array_equal(np.array(targets.label_values)[stored.argmax(axis=0)][is_clear], mask[is_clear])
    assert (steps(read(tmp_path, "disagreement"))[is_clear] == 0).all()
