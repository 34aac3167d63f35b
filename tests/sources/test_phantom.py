import nibabel
import numpy as np
import pytest

from tumorseg.sources.msd import read_msd
from tumorseg.sources.phantom import write_phantom
from tumorseg.sources.phantom_volume import CHANNELS, LABELS, make_phantom
from tumorseg.sources.regions import choose_regions
from tumorseg.storage.images import read_images, read_segmentation

EDGE = 28


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return read_msd(write_phantom(tmp_path_factory.mktemp("phantom") / "Phantom", num_cases=6, edge=EDGE))


def labels_of(case):
    return set(np.unique(read_segmentation(case.label).array).tolist())


def test_it_is_a_decathlon_dataset_of_a_glioma(dataset):
    assert tuple(channel.name for channel in dataset.channels) == CHANNELS
    assert dataset.labels == LABELS
    assert [region.name for region in choose_regions(dataset, "brats").regions] == ["WT", "TC", "ET"]


def test_every_case_but_one_has_every_label(dataset):
    assert [labels_of(case) for case in dataset.cases] == [{0, 1, 2, 3}, {0, 1, 2}, *[{0, 1, 2, 3}] * 4]


def test_stored_orientations_and_spacings_vary(dataset):
    affines = [nibabel.load(case.label).affine for case in dataset.cases]
    assert ["".join(nibabel.aff2axcodes(affine)) for affine in affines] == ["RAS", "LPS", "PIR", "RAS", "RAS", "LPS"]
    assert np.count_nonzero(affines[3][:3, :3]) > 3
    assert len({tuple(np.round(np.linalg.norm(affine[:3, :3], axis=0), 3)) for affine in affines}) >= 5


def test_image_and_label_lie_on_one_grid_and_air_is_exactly_zero(dataset):
    for case in dataset.cases:
        volumes = read_images(case.images)
        segmentation = read_segmentation(case.label)
        image = np.stack([volume.array for volume in volumes])
        np.testing.assert_array_equal(volumes[0].affine, segmentation.affine)
        assert image.shape[1:] == segmentation.array.shape
        is_air = image[0] == 0
        assert 0.3 < is_air.mean() < 0.9
        assert (image[:, is_air] == 0).all()
        assert (image[:, ~is_air] > 0).all()
        assert not segmentation.array[is_air].any()


def test_contrasts_are_those_of_the_sequences():
    phantom = make_phantom(np.random.default_rng(5), edge=40, spacing_mm=(1.1, 1.1, 1.1))
    inside = phantom.image[0] > 0

    def rank(channel, label):
        image = phantom.image[CHANNELS.index(channel)]
        return (image[inside] < np.median(image[phantom.segmentation == LABELS[label]])).mean()

    assert rank("FLAIR", "edema") > 0.9
    assert rank("T2w", "edema") > 0.8
    assert rank("t1gd", "enhancing tumour") > 0.9
    assert rank("T1w", "non-enhancing tumor") < 0.3


def test_equal_seeds_give_equal_bytes_and_others_do_not(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_phantom(tmp_path / name, num_cases=1, seed=seed, edge=16)
    first, again, other = ((tmp_path / name / "imagesTr/phantom_001.nii.gz").read_bytes() for name in "abc")
    assert first == again
    assert first != other
    assert (tmp_path / "a/dataset.json").read_bytes() == (tmp_path / "b/dataset.json").read_bytes()
