from pathlib import Path

import numpy as np
import pytest

from tests.dicoms import write_series
from tests.sources import layouts
from tumorseg.errors import InputError
from tumorseg.sources.conversion import Conversion
from tumorseg.sources.folders import collecting
from tumorseg.sources.manifest import is_manifest, list_manifest, read_manifest
from tumorseg.sources.registry import open_dataset
from tumorseg.sources.writers import WRITERS
from tumorseg.storage.images import read_images, read_segmentation

REAL = Path(__file__).parents[2].parent / "shared" / "data"


def write_rows(folder, *lines):
    layouts.write_images(folder, ids=("a",))
    (folder / "manifest.csv").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder


def test_csv_columns_give_channels_labels_group_and_site(tmp_path):
    dataset = read_manifest(layouts.write_csv(tmp_path))
    assert [channel.name for channel in dataset.channels] == ["T1", "T2"]
    assert dataset.labels == {"background": 0, "edema": 1, "core": 2, "et": 4}
    assert {(case.group, case.site) for case in dataset.cases} == {("patient", "here")}


def test_without_label_columns_the_values_in_the_files_are_the_labels(tmp_path):
    folder = write_rows(tmp_path, "case_id,T1,label", "a,T1/a.nii.gz,labels/a.nii.gz")
    assert read_manifest(folder).labels == {"background": 0, "label_1": 1, "label_2": 2, "label_4": 4}
    (folder / "labels/a.nii.gz").write_bytes(b"broken")
    assert len(list_manifest(folder).cases) == 1
    (case,) = read_manifest(folder).cases  # fails when it is read, and stops no other
    with pytest.raises(InputError, match="cannot be read as NIfTI"):
        read_segmentation(case.label)


def test_empty_optional_cells_are_none_and_spaces_and_a_byte_order_mark_do_no_harm(tmp_path):
    folder = write_rows(tmp_path, "\ufeffcase_id, T1 ,label,site", " a , T1/a.nii.gz ,,", "")
    (case,) = read_manifest(folder).cases
    assert (case.case_id, case.label, case.group, case.site) == ("a", None, None, None)
    assert read_manifest(folder).labels == {"background": 0}


def test_absolute_paths_are_the_users_own(tmp_path):
    folder = write_rows(tmp_path / "set", "case_id,T1", "a,T1/a.nii.gz")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "list.csv").write_text(f"case_id,T1\na,{folder / 'T1/a.nii.gz'}\nb,../set/T1/a.nii.gz\n")
    dataset = open_dataset(str(elsewhere / "list.csv"), tmp_path)
    assert dataset.name == "list"
    assert [Path(case.images[0].path).resolve() for case in dataset.cases] == [folder / "T1/a.nii.gz"] * 2


def test_json_names_the_dataset_kinds_regions_and_ignore_label(tmp_path):
    folder = layouts.write_json_manifest(
        tmp_path,
        name="Mine",
        labels={"edema": 1, "core": 2, "et": 4, "unsure": 9},
        regions=[{"name": "all", "labels": [1, 2, 4], "value": 1}],
        ignore_label=9,
    )
    dataset = read_manifest(folder)
    assert dataset.name == "Mine"
    assert [channel.kind for channel in dataset.channels] == [None, "mr"]
    assert dataset.regions[0].labels == (1, 2, 4)
    assert dataset.ignore_label == 9
    assert {case.site for case in dataset.cases} == {"there"}


def test_json_images_may_be_a_list_in_channel_order(tmp_path):
    named = read_manifest(layouts.write_json_manifest(tmp_path))
    cases = [
        {"case_id": i, "images": [f"T1/{i}.nii.gz", f"T2/{i}.nii.gz"], "label": f"labels/{i}.nii.gz", "site": "there"}
        for i in layouts.IDS
    ]
    layouts.edit_json(tmp_path, "manifest.json", cases=cases)
    assert read_manifest(tmp_path) == named


@pytest.mark.parametrize(
    ("images", "found"), [({"T1": "x"}, "T1"), (["x"], "1 paths"), (["x"] * 3, "3 paths"), ({}, "none")]
)
def test_a_wrong_number_of_images_names_what_was_expected(tmp_path, images, found):
    folder = layouts.write_json_manifest(tmp_path)
    layouts.edit_json(folder, "manifest.json", cases=[{"case_id": "a", "images": images}])
    with pytest.raises(InputError, match=f"case a: found the images {found}, expected T1, T2"):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "expected `case_id`"),
        (("id,T1", "a,T1/a.nii.gz"), r"found the columns \['id', 'T1'\]"),
        (("case_id,T1,T1", "a,x,x"), "'T1' twice"),
        (("case_id,label", "a,labels/a.nii.gz"), "found no column of images"),
        (("case_id,T1", "a,T1/a.nii.gz,x"), r"case a: row 1: found 3 cells, expected 2"),
        (("case_id,T1,label:x", "a,T1/a.nii.gz,"), "expected label:NAME=INTEGER"),
        (("case_id,T1,label:x=one", "a,T1/a.nii.gz,"), "expected label:NAME=INTEGER"),
        (("case_id,T1,label:x=9223372036854775808", "a,T1/a.nii.gz,"), "at most 9223372036854775807"),
        ((f"case_id,T1,label:x={'1' * 5000}", "a,T1/a.nii.gz,"), "expected label:NAME=INTEGER"),
        (("case_id,T1,label:x=1", "a,T1/a.nii.gz,1"), "must be empty"),
        (("case_id,T1", "a,"), "case a: found an empty path"),
        (("case_id,T1", "a/b,T1/a.nii.gz"), r"manifest\.csv: case 'a/b': the name holds /"),
        (("case_id,T1", "a,T1/a.nii.gz", "a,T1/a.nii.gz"), "case_id given twice"),
        (("case_id,T1", '"a,T1'), "is not CSV"),
        (("case_id,T1",), "found no case"),
    ],
)
def test_a_malformed_csv_is_one_clear_line(tmp_path, lines, message):
    with pytest.raises(InputError, match=message) as error:
        read_manifest(write_rows(tmp_path, *lines))
    assert "\n" not in str(error.value)


def test_unreadable_manifests_are_input_errors(tmp_path):
    (tmp_path / "manifest.csv").write_bytes(b"case_id,\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        read_manifest(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        read_manifest(tmp_path / "none.csv")


def test_two_manifests_in_one_folder_are_refused(tmp_path):
    layouts.write_csv(tmp_path)
    layouts.write_json_manifest(tmp_path)
    with pytest.raises(InputError, match="found both"):
        read_manifest(tmp_path)


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real data in {REAL}")
def test_the_real_manifests_are_read():
    oasis, brats = read_manifest(REAL / "NIfTI_2D_OASIS"), read_manifest(REAL / "BraTS2018_FLAIR_T1")
    assert max(oasis.labels.values()) == 2035
    assert oasis.labels["label_2035"] == 2035
    assert brats.labels == {"background": 0, "WT": 1}
    assert brats.cases[0].site == "CBICA"


ROW = "a,T1/a.nii.gz,T2/a.nii.gz,labels/a.nii.gz"
HEADER = "case_id,T1,T2,label"


def test_columns_that_name_no_images_are_kept_with_the_cases(tmp_path, caplog):
    caplog.set_level("INFO", "tumorseg")
    folder = write_rows(
        tmp_path,
        f"{HEADER},age,sex,scanner",
        f"{ROW},63,f,GE/Discovery 3.0T",
    )
    (case,) = read_manifest(folder).cases
    assert case.columns == {"age": "63", "sex": "f", "scanner": "GE/Discovery 3.0T"}
    assert [channel.name for channel in read_manifest(folder).channels] == ["T1", "T2"]
    assert "channels are the columns T1, T2; kept with the cases are: age, sex, scanner" in caplog.text
    assert list_manifest(folder).channels == ("T1", "T2")


@pytest.mark.parametrize("cell", ["T3/a.nii.gz", "T2/a.mha", "IMAGES/A.DCM", "T1/no such folder of DICOM"])
def test_a_column_whose_paths_are_all_wrong_stays_a_channel(tmp_path, cell):
    folder = write_rows(tmp_path, f"{HEADER},T3", f"{ROW},{cell}")
    assert [channel.name for channel in read_manifest(folder).channels] == ["T1", "T2", "T3"]


def test_folders_and_files_of_dicom_are_channels_other_files_and_folders_are_not(tmp_path):
    write_series(tmp_path / "ct", np.zeros((2, 4, 5), np.int16), name="{index}")
    (tmp_path / "63").mkdir()
    (tmp_path / "a.pdf").write_text("report")
    (tmp_path / "a.mgz").write_text("of a format that is not known")
    folder = write_rows(
        tmp_path, f"{HEADER},CT,PT,age,report,here,mgz", f"{ROW},./ct,ct/0,63,a.pdf,.,a.mgz", "b,,,,,,,,,"
    )
    found = list_of(folder)
    assert found == ("T1", "T2", "CT", "PT", "mgz")


def test_words_that_happen_to_be_folders_of_dicom_are_no_images_beside_paths(tmp_path):
    for name in ("2", "p0"):
        write_series(tmp_path / name, np.zeros((2, 4, 5), np.int16), name="{index}")
    folder = write_rows(tmp_path, f"{HEADER},sex,patient", f"{ROW},2,p0", f"b{ROW[1:]},1,p1")
    first, second = read_manifest(folder).cases
    assert (first.columns, second.columns) == ({"sex": "2", "patient": "p0"}, {"sex": "1", "patient": "p1"})
    assert list_manifest(folder).channels == ("T1", "T2")


def test_bare_names_of_dicom_are_images_in_one_column_and_in_doubt_in_several(tmp_path):
    for name in ("2", "p0"):
        write_series(tmp_path / name, np.zeros((2, 4, 5), np.int16), name="{index}")
    assert list_manifest(write_rows(tmp_path, "case_id,CT,sex", "a,p0,f")).channels == ("CT",)
    with pytest.raises(InputError, match=r"columns of names of DICOM, CT, sex, .* write \./ before .*, as in \./p0"):
        list_manifest(write_rows(tmp_path, "case_id,CT,sex", "a,p0,2"))
    assert list_manifest(write_rows(tmp_path, "case_id,CT,sex", "a,./p0,2")).channels == ("CT",)


def test_a_remark_that_ends_in_a_files_name_is_no_image_and_told(tmp_path, caplog):
    rows = [f"{name}{ROW[1:]},{comment}" for name, comment in (("a", ""), ("b", "same patient as i1.nii.gz"))]
    folder = write_rows(tmp_path, f"{HEADER},comment", *rows)
    assert read_manifest(folder).cases[1].columns == {"comment": "same patient as i1.nii.gz"}
    assert "column 'comment' is kept with the cases, as it names images in 1 of 2 only" in caplog.text


def list_of(folder):
    with collecting():  # case b lacks all
        return list_manifest(folder).channels


def test_empty_columns_and_rows_of_spreadsheets_are_left_out(tmp_path, caplog):
    folder = write_rows(tmp_path, f"{HEADER},notes,,", f"{ROW},,,", ",,,,,,", f"b{ROW[1:]},,,,,", "", ",,,,,,")
    dataset = read_manifest(folder)
    assert [(case.case_id, case.columns) for case in dataset.cases] == [("a", {}), ("b", {})]
    assert [channel.name for channel in dataset.channels] == ["T1", "T2"]
    assert "columns without any cell are left out: notes" in caplog.text


@pytest.mark.parametrize(("separator", "first"), [(";", ()), ("\t", ()), (";", ("sep=;",)), ("|", ("sep=|",))])
def test_other_separators_are_read_where_the_heading_leaves_no_doubt(tmp_path, caplog, separator, first):
    caplog.set_level("INFO", "tumorseg")
    expected = read_manifest(write_rows(tmp_path, f"{HEADER},age", f"{ROW},6"))
    rows = [f"{HEADER},age".replace(",", separator), f"{ROW},6".replace(",", separator)]
    assert read_manifest(write_rows(tmp_path, *first, *rows)) == expected
    assert "the cells are separated by" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id;T1\na;T1/a.nii.gz\n", r"found the columns \['id', 'T1'\] \(the cells are separated by semicolons\)"),
        ("case_id,T1\nä,T1/a.nii.gz\n".encode("latin-1"), "not UTF-8 at position 11, as in Latin-1; save it as CSV in UTF-8"),
        ("case_id,T1\na,T1/a.nii.gz\n".encode("utf-16"), "is in UTF-16, expected UTF-8"),
        ("case_id,T1\na,T1/a.nii.gz\n".encode("utf-16-le"), "is in UTF-16, expected UTF-8"),
        (b"PK\x03\x04\x14", "is a spreadsheet or an archive, expected text"),
        (b"case_id,T1\na,T1\\a.nii.gz\n", r"case a: found the path 'T1.*a\.nii\.gz' with backslashes, expected it with /"),
        (b"case_id,age\na,63\n", "found no column of images, expected one for each channel; other columns are age"),
        (b"case_id,T1,\na,T1/a.nii.gz,T2/a.nii.gz\n", "column 3 has no heading, but names images such as 'T2/a.nii.gz'"),
        (b"case_id,T1\n,T1/a.nii.gz\n", r"manifest\.csv: case '': the name is empty"),
    ],
)  # fmt: skip
def test_a_table_that_is_no_manifest_is_told_in_words(tmp_path, content, message):
    layouts.write_images(tmp_path, ids=("a",))
    (tmp_path / "manifest.csv").write_bytes(content)
    with pytest.raises(InputError, match=message) as refused:
        read_manifest(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_column_that_sounds_like_the_reference_is_told(tmp_path, caplog):
    read_manifest(write_rows(tmp_path, "case_id,T1,Mask", "a,T1/a.nii.gz,labels/a.nii.gz"))
    assert "column 'Mask' is taken for a channel; if it is the reference, call it `label`" in caplog.text


READING = {"assumed_orientation": "LPS", "paint_order": ["core", "edema"], "grid_channel": "T2"}


def test_json_states_how_files_are_read_and_what_is_known_of_cases(tmp_path):
    folder = layouts.write_json_manifest(tmp_path, reading=READING)
    cases = [
        {"case_id": i, "images": [f"T1/{i}.nii.gz", f"T2/{i}.nii.gz"], "columns": {"age": 63, "sex": "f"}}
        for i in layouts.IDS
    ]
    layouts.edit_json(folder, "manifest.json", cases=cases)
    dataset = read_manifest(folder)
    assert dataset.reading.model_dump(mode="json") == READING
    assert dataset.cases[0].columns == {"age": "63", "sex": "f"}


@pytest.mark.parametrize("to", ["manifest", "nnunet", "msd"])
def test_what_is_written_keeps_reading_and_columns(tmp_path, to):
    dataset = read_manifest(layouts.write_json_manifest(tmp_path / "in", reading=READING))
    cases = tuple(case.model_copy(update={"columns": {"age": case.case_id}}) for case in dataset.cases)
    (tmp_path / "out").mkdir()
    for name, text in WRITERS[to].make_documents(Conversion(dataset.description(), cases, ())).items():
        (tmp_path / "out" / name).write_text(text)
    for case in cases:
        for channel in range(2):
            layouts.save(tmp_path / f"out/imagesTr/{case.case_id}_{channel:04d}.nii.gz", layouts.image(0, channel))
        layouts.save(tmp_path / f"out/labelsTr/{case.case_id}.nii.gz", layouts.label(0))
    found = open_dataset(str(tmp_path / "out"), tmp_path)
    assert found.reading == dataset.reading
    assert [case.columns for case in found.cases] == [{"age": case_id} for case_id in sorted(layouts.IDS)]


def test_a_manifest_of_another_program_is_none(tmp_path):
    (tmp_path / "manifest.json").write_text('{"name": "viewer", "start_url": "index.html"}')
    assert not is_manifest(tmp_path)
    assert is_manifest(tmp_path / "manifest.json")  # named by the user
    (tmp_path / "manifest.json").write_text('[{"src": "index.html"}]')
    assert not is_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    assert is_manifest(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cases": {}}, "cases: expected a list, found an object"),
        ({"channel": ["T1"]}, "channel: unknown key"),
        ({"channels": None}, "channels: expected a list, found null"),
        ({"channels": [{"name": "T1", "kind": "xray"}, "T2"]}, "channels.0.kind: expected 'ct', 'mr', 'pet', 'rgb' or 'other', found 'xray'"),
        ({"labels": ["a"]}, "labels: expected an object, {…}, found a list"),
        ({"labels": {"edema": "one"}}, "labels.edema: expected a whole number, found 'one'"),
        ({"labels": {"edema": "1"}}, "labels.edema: expected a whole number, found '1'"),
        ({"labels": {"edema": True}}, "labels.edema: expected a whole number, found true"),
        ({"labels": {" ": 1}}, "expected a name of at least one letter for each label"),
        ({"reading": {"assumed_orientation": "RAR"}}, "reading.assumed_orientation: expected where axes x, y and z point to"),
        ({"reading": {"grid_channel": "PET"}}, "grid_channel is 'PET', channels are T1, T2"),
        ({"cases": [{"case_id": "a", "images": "T1/a.nii.gz"}]}, "case a: images: expected an object, {…} or a list, found 'T1/a.nii.gz'"),
        ({"cases": [{"case_id": 7, "images": []}]}, "case 7: case_id: expected text, found 7"),
    ],
)  # fmt: skip
def test_wrong_keys_of_json_are_told_in_words(tmp_path, changes, message):
    folder = layouts.write_json_manifest(tmp_path, **changes)
    with pytest.raises(InputError) as refused:
        read_manifest(folder)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_manifest_of_another_name_is_a_dataset_of_its_own(tmp_path):
    folder = tmp_path / "Toy"
    folder.mkdir()
    for name in ("image.nii.gz", "label.nii.gz"):
        layouts.save(folder / name, layouts.label(0))
    row = "a,image.nii.gz,label.nii.gz\n"
    for name in ("train_a", "train_b", "manifest"):
        (folder / f"{name}.csv").write_text("case_id,MR,label\n" + row)
    names = [read_manifest(folder / f"{name}.csv").name for name in ("train_a", "train_b", "manifest")]
    assert names == ["train_a", "train_b", "Toy"]


def test_a_volume_of_a_4d_file_may_stand_in_the_place_of_a_path(tmp_path):
    layouts.save(tmp_path / "a.nii.gz", np.stack([layouts.image(0, channel) for channel in range(3)], axis=-1))
    layouts.save(tmp_path / "seg.nii.gz", layouts.label(0))
    images = {"T2": {"path": "a.nii.gz", "index": 2, "num_volumes": 3}, "T1": {"path": "a.nii.gz", "index": 0}}
    case = {"case_id": "a", "images": images, "label": "seg.nii.gz"}
    layouts.write_json(tmp_path / "manifest.json", {"channels": ["T1", "T2"], "cases": [case]})
    (read,) = read_manifest(tmp_path).cases
    assert [volume.array.flat[0] for volume in read_images(read.images)] == [0, 2]
    assert [image.path for image in read.images] == [str(tmp_path / "a.nii.gz")] * 2


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ({"path": "ct", "parts": ["1", "\x1b[2J2"]}, r"found the path '\\x1b\[2J2'"),
        ({"path": "ct", "parts": ["1", ""]}, "found an empty path"),
        ({"path": "ct", "parts": ["a\\1"]}, "with backslashes"),
        ({"path": "a.nii.gz", "index": -1}, "index"),
        ({"path": "a.nii.gz", "index": True}, "index"),
        ({"path": "a.nii.gz", "index": "1"}, "index"),
        ({"path": "a.nii.gz", "index": 1.0}, "index"),
        ({"path": "a.nii.gz", "num_volumes": 0}, "num_volumes"),
        ({"path": "ct", "parts": ["1"], "index": 0}, r"images.CT.index: expected none beside `parts`, .* found 0"),
    ],
)
def test_a_wrong_volume_or_part_is_one_line_without_control_characters(tmp_path, image, message):
    case = {"case_id": "a", "images": {"CT": image}}
    layouts.write_json(tmp_path / "manifest.json", {"channels": ["CT"], "labels": {"x": 1}, "cases": [case]})
    with pytest.raises(InputError, match=message) as error:
        read_manifest(tmp_path)
    assert str(error.value).isprintable()


EVIL = "\x1b[31mred\x1b[2J"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": {"background": 0, EVIL: 1}}, "holds control or format"),
        ({"x\nerror: y": 1}, "holds control or format"),
        ({"channels": ["M\x9bR"]}, "without control characters"),
        ({"regions": [{"name": "W\u202eT", "labels": [1], "value": 1}]}, "without control characters"),
        ({"labels": {"\u2028t": 1}}, "holds control or format"),
        ({"case": {"case_id": "a\u200b"}}, "a line break or another control or format character"),
        ({"case": {"group": EVIL}}, "without control and format characters"),
        ({"case": {"site": "x\n"}}, "without control and format characters"),
        ({"case": {"columns": {"x\t": "1"}}}, "holds control or format"),
        ({"case": {"label": "x" * 300}}, "is longer than a name can be"),
        ({"case": {"label": "a\0b"}}, "without line breaks and other control characters"),
        ({"case": {"label": "caf\udce9.nii.gz"}}, "half a character"),
    ],
)
def test_names_speak_to_no_terminal_and_paths_can_be_some(tmp_path, change, message):
    case = {"case_id": "a", "images": {"CT": "a.nii.gz"}} | change.pop("case", {})
    document = {"channels": ["CT"], "labels": {"x": 1}, "cases": [case]} | change
    if "channels" in change:
        case["images"] = ["a.nii.gz"]
    layouts.write_json(tmp_path / "manifest.json", document)
    with pytest.raises(InputError, match=message) as error:
        read_manifest(tmp_path)
    assert str(error.value).isprintable()


def test_notes_of_several_lines_are_kept_with_their_line_ends_escaped(tmp_path):
    write_rows(tmp_path, "case_id,CT,label:x=1,note", 'a,a.nii.gz,,"one\ntwo"')
    assert read_manifest(tmp_path).cases[0].columns == {"note": "one\\ntwo"}


def test_a_heading_that_speaks_to_a_terminal_is_refused(tmp_path):
    write_rows(tmp_path, f"case_id,CT,label:{EVIL}=1", "a,a.nii.gz,")
    with pytest.raises(InputError, match="without control characters") as error:
        read_manifest(tmp_path)
    assert str(error.value).isprintable()
