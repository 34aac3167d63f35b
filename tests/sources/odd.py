"""Writes odd datasets, at least three for each source. What is odd, each docstring tells; each returns what `-d` says."""

import shutil
import unicodedata

import numpy as np
import pydicom

from tests.dicoms import header, rewrite, save, write_seg, write_series
from tests.sources import layouts


def write_table(folder, text, ids=("a",)):
    layouts.write_images(folder, ids)
    (folder / "manifest.csv").write_text(text, encoding="utf-8", newline="")
    return folder


def csv_with_quotes_and_old_line_ends(folder):
    """Line ends of old Macs, quoted cells with a comma in a path, blanks around names."""
    folder = write_table(folder, 'case_id , T1,label\r" a ","T1/a, first.nii.gz",labels/a.nii.gz\r')
    (folder / "T1/a.nii.gz").rename(folder / "T1/a, first.nii.gz")
    return folder


def csv_of_a_german_spreadsheet(folder):
    """Semicolons, decimal commas, a first line that names the separator, empty rows, a column of numbers without heading."""
    return write_table(folder, "sep=;\r\n;case_id;T1;label;dose\r\n0;a;T1/a.nii.gz;labels/a.nii.gz;1,5\r\n;;;;\r\n")


def csv_whose_path_has_a_line_break(folder):
    """A line break inside a quoted path."""
    return write_table(folder, 'case_id,T1\na,"T1/a\n.nii.gz"\n')


def csv_that_is_html(folder):
    """A page that says that one must log in, saved as manifest.csv."""
    return write_table(folder, "<!DOCTYPE html>\n<html><body>Sign in, please</body></html>\n")


def csv_with_a_label_twice(folder):
    """Two headings give one value to two names."""
    return write_table(folder, "case_id,T1,label,label:a=1,label:b=1\na,T1/a.nii.gz,labels/a.nii.gz,,\n")


def json_with_a_label_twice(folder):
    """One label with two values: readers of JSON keep the last."""
    layouts.write_json_manifest(folder)
    text = (folder / "manifest.json").read_text().replace('"edema": 1', '"et": 1')
    (folder / "manifest.json").write_text(text)
    return folder


def json_with_a_comment(folder):
    """A comment, as in JavaScript."""
    layouts.write_json_manifest(folder)
    (folder / "manifest.json").write_text("// my cases\n" + (folder / "manifest.json").read_text())
    return folder


def json_without_channels(folder):
    """No channel at all, and cases without images."""
    return layouts.write_json_manifest(folder, channels=[], cases=[{"case_id": "a", "images": []}])


def json_with_a_byte_order_mark_and_numbers_as_columns(folder):
    """A byte order mark, a null label, numbers and truth values as columns."""
    cases = [
        {"case_id": "a", "images": {"T2": "T2/a.nii.gz", "T1": "T1/a.nii.gz"}, "label": None, "columns": {"age": 6.5}}
    ]
    layouts.write_json_manifest(folder, ids=("a",), cases=cases)
    (folder / "manifest.json").write_bytes(b"\xef\xbb\xbf" + (folder / "manifest.json").read_bytes())
    return folder


def json_of_cases_by_name(folder):
    """Cases as an object by id instead of a list."""
    return layouts.write_json_manifest(folder, cases={"a": {"images": ["T1/a.nii.gz", "T2/a.nii.gz"]}})


def msd_whose_modality_is_a_list(folder):
    """A list of channels instead of numbers to names."""
    return layouts.edit_json(layouts.write_msd(folder), modality=["FLAIR", "T1w"])


def msd_whose_training_lists_names_only(folder):
    """Training cases without labels, written as test cases are."""
    return layouts.edit_json(layouts.write_msd(folder), training=["./imagesTr/case_a.nii.gz"])


def msd_with_labels_of_fractions(folder):
    """Label values as fractions in quotes."""
    return layouts.edit_json(layouts.write_msd(folder), labels={"0": "background", "1.5": "edema"})


def msd_with_roundabout_paths_and_other_keys(folder):
    """Paths that begin with `././`, doubled slashes, keys of other programs, a wrong count."""
    layouts.write_msd(folder)
    pair = {"image": "././imagesTr//case_a.nii.gz", "label": "./labelsTr/./case_a.nii.gz", "fold": 3}
    return layouts.edit_json(
        folder, training=[pair], numTraining=99, licence="CC", labels={"1": "edema", "4": "core", "2": "x"}
    )


def msd_with_an_endless_name(folder):
    """A path of 5000 letters."""
    return layouts.edit_json(layouts.write_msd(folder), training=[{"image": f"imagesTr/{'x' * 5000}.nii.gz"}])


def nnunet_whose_channels_are_a_list(folder):
    """A list of channels instead of numbers to names."""
    return layouts.write_nnunet(folder, channel_names=["CT", "PET"])


def nnunet_whose_label_bears_a_channel(folder):
    """Labels called `<id>_0000`, as images are."""
    layouts.write_nnunet(folder, ids=("x",))
    (folder / "labelsTr/x.nii.gz").rename(folder / "labelsTr/x_0000.nii.gz")
    return folder


def nnunet_with_region_of_nothing(folder):
    """A region without labels."""
    return layouts.write_nnunet(folder, labels={"background": 0, "whole": []}, regions_class_order=[1])


def nnunet_whose_ids_end_in_numbers(folder):
    """Ids that look as if they had a channel, and a hidden file among them."""
    layouts.write_nnunet(folder, ids=("amos_0001", "amos_0002"))
    (folder / "imagesTr/.nii.gz").write_bytes(b"")
    return folder


def nnunet_whose_dataset_is_a_list(folder):
    """The key `dataset` holds a list."""
    return layouts.write_nnunet(folder, dataset=[{"images": ["imagesTr/case_a_0000.nii.gz"]}])


def brats_of_two_years_in_one_case(folder):
    """Files of one case by the names of both 2021 and 2023."""
    layouts.write_brats(folder, ids=("a",))
    return layouts.write_brats_2023(folder, ids=("a",))


def brats_with_a_segmentation_alone(folder):
    """A case folder with a segmentation and no image, beside sound ones."""
    layouts.write_brats(folder)
    layouts.save(folder / "lost" / "lost_seg.nii.gz", layouts.label(0))
    return folder


def brats_gzipped_twice_over(folder):
    """A channel both as .nii and as .nii.gz; notes and pictures beside the cases."""
    layouts.write_brats(folder, ids=("a", "b"))
    layouts.save(folder / "a" / "a_t1.nii", layouts.image(9, 9))
    (folder / "name_mapping.csv").write_text("a,b\n")
    (folder / "a" / "notes.txt").write_text("fine")
    return folder


def brats_whose_ids_begin_with_dots(folder):
    """A hidden case folder, and one whose name ends in a blank."""
    layouts.write_brats(folder, ids=("b ", ".a"))
    return folder


def hecktor_without_one_pet(folder):
    """A case whose PET was not unpacked: it fails alone."""
    layouts.write_hecktor(folder)
    (folder / "imagesTr/case_a__PT.nii.gz").unlink()
    return folder


def hecktor_with_a_label_too_many(folder):
    """A label of a case that has no images."""
    layouts.write_hecktor(folder)
    layouts.save(folder / "labelsTr/gone.nii.gz", layouts.label(0))
    return folder


def hecktor_with_ids_of_digits(folder):
    """Ids without a centre's letters."""
    return layouts.write_hecktor(folder, ids=("017", "018"))


def hecktor_with_a_ct_of_two_files(folder):
    """A CT both as .nii and .nii.gz."""
    hecktor_with_ids_of_digits(folder)
    layouts.save(folder / "imagesTr/017__CT.nii", layouts.image(9, 9))
    return folder


def hecktor_with_a_name_that_no_file_can_bear(folder):
    """An id that ends in a blank."""
    return layouts.write_hecktor(folder, ids=("CHUM-001 ",))


def pairs_of_letters_with_marks(folder):
    """Names with an umlaut, in one sign for the image and in two for the label, as archives from Macs have them."""
    name = "Jürgen"
    layouts.save(folder / "images" / f"{unicodedata.normalize('NFC', name)}.nii.gz", layouts.image(0, 0))
    layouts.save(folder / "labels" / f"{unicodedata.normalize('NFD', name)}.nii.gz", layouts.label(0))
    return folder


def pairs_of_one_folder_of_labels_only(folder):
    """Only labels in both folders' places: the images have been left at the hospital."""
    layouts.save(folder / "labels" / "a.nii.gz", layouts.label(0))
    (folder / "images").mkdir()
    return folder


def pairs_whose_ids_hold_the_words_themselves(folder):
    """An image called `segment_1`, one called `imageless`, one called `labelled_2`."""
    for number, case_id in enumerate(("segment_1", "imageless", "labelled_2")):
        layouts.save(folder / f"{case_id}.nii.gz", layouts.image(number, 0))
        layouts.save(folder / f"{case_id}_seg.nii.gz", layouts.label(number))
    return folder


def pairs_that_differ_in_letters_of_the_id(folder):
    """`P1` in one folder, `p1` in the other."""
    layouts.save(folder / "images" / "P1.nii.gz", layouts.image(0, 0))
    layouts.save(folder / "labels" / "p1.nii.gz", layouts.label(0))
    return folder


def pairs_with_two_masks_by_two_readers(folder):
    """Two masks of one image."""
    layouts.save(folder / "a.nii.gz", layouts.image(0, 0))
    for suffix in ("mask", "gt"):
        layouts.save(folder / f"a_{suffix}.nii.gz", layouts.label(0))
    return folder


def volume():
    return np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


def dicom_of_which_every_slice_is_there_twice(folder):
    """A disc copied onto itself: every file again in a folder `copy`."""
    paths = write_series(folder / "ct", volume(), study="1.5")
    shutil.copytree(folder / "ct", folder / "copy")
    write_seg(folder / "seg.dcm", paths, {"GTV": volume() > 60})
    return folder


def dicom_one_slice_of_which_is_of_another_series(folder):
    """One slice was sent again and got a series of its own."""
    paths = write_series(folder, volume(), study="1.5")
    rewrite(paths[1], SeriesInstanceUID="1.2.77")
    return folder


def dicom_of_two_echoes_in_one_series(folder):
    """Two echoes under one series."""
    for echo in (1, 2):
        write_series(folder / str(echo), volume() + echo, kind="MR", study="1.5", EchoTime=10 * echo)
    return folder


def dicom_with_neither_names_nor_dates(folder):
    """Everything that tells of the patient was removed; no file has an ending; an empty file lies among them."""
    write_series(folder / "0", volume(), name="{index}", patient="", study="1.5", StudyDate="", SeriesDescription="")
    (folder / "0" / "void").write_bytes(b"")
    save(header("SR", patient="", study="1.5", series="9"), folder / "0" / "report")
    return folder


def dicom_numbered_backwards_without_instance_numbers(folder):
    """Files in the reverse order, without InstanceNumber."""
    for number, path in enumerate(reversed(write_series(folder / "a", volume(), study="1.5"))):
        dataset = pydicom.dcmread(path)
        del dataset.InstanceNumber
        save(dataset, folder / "b" / f"{number}.dcm")
    shutil.rmtree(folder / "a")
    return folder
