"""Odd datasets, at least three of each source: read right, or refused in one clear line."""

import numpy as np
import pytest

from tests.sources import layouts, odd
from tumorseg.errors import InputError
from tumorseg.sources.registry import open_dataset
from tumorseg.storage.images import read_images


def ids_of(dataset):
    return [case.case_id for case in dataset.cases]


def first_values(dataset, number=0):
    return [found.array.ravel()[0] for found in read_images(dataset.cases[number].images)]


def only_reads(dataset, *ids):
    """Tell whether of the cases only those of some ids can be read."""
    return [case.case_id for case in dataset.cases if is_readable(case)] == list(ids)


def is_readable(case):
    try:
        return bool(read_images(case.images))
    except InputError:
        return False


READ = {
    odd.csv_with_quotes_and_old_line_ends: lambda found: (ids_of(found), first_values(found)) == (["a"], [0]),
    odd.csv_of_a_german_spreadsheet: lambda found: (
        [channel.name for channel in found.channels] == ["T1"] and found.cases[0].columns == {"dose": "1,5"}
    ),
    odd.json_with_a_byte_order_mark_and_numbers_as_columns: lambda found: (
        first_values(found) == [0, 1] and found.cases[0].columns == {"age": "6.5"} and found.cases[0].label is None
    ),
    odd.msd_with_roundabout_paths_and_other_keys: lambda found: (
        ids_of(found) == ["case_a"] and first_values(found) == [10, 11] and found.labels["core"] == 4
    ),
    odd.nnunet_whose_ids_end_in_numbers: lambda found: ids_of(found) == ["amos_0001", "amos_0002"],
    odd.brats_with_a_segmentation_alone: lambda found: only_reads(found, "case_a", "case_b", "case_c"),
    odd.hecktor_without_one_pet: lambda found: only_reads(found, "case_b", "case_c"),
    odd.hecktor_with_a_label_too_many: lambda found: ids_of(found) == sorted(layouts.IDS),
    odd.hecktor_with_ids_of_digits: lambda found: ids_of(found) == ["017", "018"] and found.cases[0].site is None,
    odd.pairs_of_letters_with_marks: lambda found: ids_of(found) == ["Jürgen"] and only_reads(found, "Jürgen"),
    odd.pairs_whose_ids_hold_the_words_themselves: lambda found: (
        ids_of(found) == ["imageless", "labelled_2", "segment_1"] and first_values(found) == [10]
    ),
    odd.dicom_of_which_every_slice_is_there_twice: lambda found: np.array_equal(
        read_images(found.cases[0].images)[0].array, odd.volume()
    ),
    odd.dicom_with_neither_names_nor_dates: lambda found: ids_of(found) == ["patient"],
    odd.dicom_numbered_backwards_without_instance_numbers: lambda found: np.array_equal(
        read_images(found.cases[0].images)[0].array, odd.volume()
    ),
}
REFUSED = {
    odd.csv_whose_path_has_a_line_break: r"case a: found the path 'T1/a\\n\.nii\.gz', expected one without line breaks",
    odd.csv_that_is_html: r"found the columns \['<!DOCTYPE html>'\], expected `case_id`",
    odd.csv_with_a_label_twice: r"label value given twice: \[1\]",
    odd.json_with_a_label_twice: "the key 'et' stands twice in one object",
    odd.json_with_a_comment: "manifest.json: is not JSON",
    odd.json_without_channels: "channels: expected at least 1 entry, found 0",
    odd.json_of_cases_by_name: "cases: expected a list, found an object",
    odd.msd_whose_modality_is_a_list: "modality: expected an object, {…}, found a list",
    odd.msd_whose_training_lists_names_only: r"training\.0: expected an object, {…}, found './imagesTr/case_a\.nii\.gz'",
    odd.msd_with_labels_of_fractions: r"labels\.1\.5: expected a whole number as its key, found '1\.5'",
    odd.msd_with_an_endless_name: "the name has 5000 letters, expected at most 200",
    odd.nnunet_whose_channels_are_a_list: "channel_names: expected an object, {…}, found a list",
    odd.nnunet_whose_label_bears_a_channel: "case x_0000: found a label, but no image in",
    odd.nnunet_with_region_of_nothing: r"label `whole` is \[\], expected a value, or those that the region joins",
    odd.nnunet_whose_dataset_is_a_list: "dataset: expected an object, {…}, found a list",
    odd.brats_of_two_years_in_one_case: "found files called as in 2018 to 2021 and 2023 and later, whose label values differ",
    odd.brats_gzipped_twice_over: r"case a: found .*a_t1\.nii\.gz and .*a_t1\.nii, expected one; move the others away",
    odd.brats_whose_ids_begin_with_dots: "case 'b ': the name ends with a blank; rename the file",
    odd.hecktor_with_a_ct_of_two_files: r"case 017: found .*017__CT\.nii\.gz and .*017__CT\.nii, expected one; move",
    odd.hecktor_with_a_name_that_no_file_can_bear: "case 'CHUM-001 ': the name ends with a blank; rename the file",
    odd.pairs_of_one_folder_of_labels_only: "images/ holds no image file and labels/ holds 1 files such as a.nii.gz",
    odd.pairs_that_differ_in_letters_of_the_id: r"such as P1\.nii\.gz and labels/ holds 1 files such as p1\.nii\.gz",
    odd.pairs_with_two_masks_by_two_readers: r"case a: found a_gt\.nii\.gz and a_mask\.nii\.gz, expected one",
    odd.dicom_one_slice_of_which_is_of_another_series: "found no one series of CT in each study, nor several of the same descriptions",
}


@pytest.mark.parametrize("write", READ, ids=lambda write: write.__name__)
def test_what_can_be_read_is_read_right(tmp_path, write):
    folder = write(tmp_path / "set")
    assert READ[write](open_dataset(str(folder), tmp_path)), write.__doc__


@pytest.mark.parametrize("write", REFUSED, ids=lambda write: write.__name__)
def test_what_cannot_be_read_is_refused_in_one_line_that_names_it(tmp_path, write):
    folder = write(tmp_path / "set")
    with pytest.raises(InputError, match=REFUSED[write]) as refused:
        open_dataset(str(folder), tmp_path)
    assert "\n" not in str(refused.value)
    assert "set" in str(refused.value)
    assert not [word for word in ("should", "pattern", "Input", "^[", "tuple[") if word in str(refused.value)]


@pytest.mark.parametrize(
    ("write", "warning"),
    [
        (
            odd.hecktor_with_a_label_too_many,
            "gone.nii.gz: found a label, but neither CT nor PET of its case; it is left out",
        ),
        (odd.dicom_with_neither_names_nor_dates, ""),
    ],
)
def test_what_is_left_out_is_told(tmp_path, caplog, write, warning):
    open_dataset(str(write(tmp_path / "set")), tmp_path)
    assert warning in caplog.text


def test_echoes_in_one_series_are_refused_when_they_are_read(tmp_path):
    (case,) = open_dataset(str(odd.dicom_of_two_echoes_in_one_series(tmp_path / "set")), tmp_path).cases
    with pytest.raises(
        InputError, match=r"found 4 planes in the place of another, .* differ in EchoTime 10\.0 and 20\.0"
    ) as refused:
        read_images(case.images)
    assert "\n" not in str(refused.value)


def test_there_are_three_of_each_source():
    counts = {}
    for write in (*READ, *REFUSED):
        source = write.__name__.split("_")[0]
        counts[source] = counts.get(source, 0) + 1
    assert min(counts.values()) >= 3
    assert set(counts) == {"csv", "json", "msd", "nnunet", "brats", "hecktor", "pairs", "dicom"}
