"""Coded terms of labels, as a dataset states them in any layout that can."""

import json

import pytest

from tests.ops.matching.described import described
from tests.sources import layouts
from tests.sources.test_pooling import dataset
from tumorseg.errors import InputError
from tumorseg.schema.codes import CodedTerm, LabelCode
from tumorseg.sources.conversion import Conversion
from tumorseg.sources.manifest import manifest_documents, read_manifest
from tumorseg.sources.msd import msd_documents, read_msd
from tumorseg.sources.nnunet import nnunet_documents, read_nnunet
from tumorseg.sources.pooling import pool_datasets

LIVER = LabelCode(type=CodedTerm(value="10200004", meaning="Liver"))
LEFT_LUNG = LabelCode(type=CodedTerm(value="39607008", meaning="Lung"), side=CodedTerm(value="7771000", meaning="Left"))
OTHER = LabelCode(type=CodedTerm(value="1", scheme="99OWN", meaning="Gizmo"))
CASE = {"case_id": "a", "images": ["a.nii"]}
WRITTEN = {"lesion": {"type": {"value": "10200004", "meaning": "Liver"}}}


def edit(file, **content):
    file.write_text(json.dumps(json.loads(file.read_text()) | content))
    return file.parent


def test_a_dataset_json_may_state_codes(tmp_path):
    name = next(iter(read_msd(layouts.write_msd(tmp_path / "names")).foreground))
    stated = {name: WRITTEN["lesion"]}
    msd = edit(layouts.write_msd(tmp_path / "msd") / "dataset.json", codes=stated)
    assert read_msd(msd).codes == {name: LIVER}
    folder = layouts.write_nnunet(tmp_path / "nnunet")
    label = next(iter(read_nnunet(folder).foreground))
    assert read_nnunet(edit(folder / "dataset.json", codes={label: WRITTEN["lesion"]})).codes == {label: LIVER}


def test_a_manifest_may_state_codes(tmp_path):
    content = {"channels": ["CT"], "labels": {"lesion": 1}, "cases": [CASE], "codes": WRITTEN}
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert read_manifest(tmp_path / "a.json").codes == {"lesion": LIVER}


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ({"spleen": WRITTEN["lesion"]}, r"codes names \['spleen'\], labels are background, lesion"),
        ({"lesion": {"type": {"value": "1" * 17, "meaning": "x"}}}, "16"),
        ({"lesion": {"type": {"value": "1"}}}, "meaning"),
        ({"lesion": {"type": {"value": "1", "meaning": "a\nb"}}}, "expected some text on one line"),
        ({"background": WRITTEN["lesion"]}, r"codes names \['background'\], which are background or ignored"),
    ],
)
def test_codes_that_make_no_sense_are_refused(tmp_path, codes, message):
    content = {"channels": ["CT"], "labels": {"lesion": 1}, "cases": [CASE], "codes": codes}
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        read_manifest(tmp_path / "a.json")


def nothing(folder):
    """Write no file: a manifest's paths are looked at when images are read."""


@pytest.mark.parametrize(
    ("documents", "read", "write_files"),
    [
        (manifest_documents, read_manifest, nothing),
        (msd_documents, read_msd, layouts.write_msd),
        (nnunet_documents, read_nnunet, layouts.write_nnunet),
    ],
)
def test_codes_survive_another_layout(tmp_path, documents, read, write_files):
    own = described("A", {"liver": 2, "lung": 5}, codes={"liver": LIVER, "lung": LEFT_LUNG})
    write_files(tmp_path)
    conversion = Conversion(own, dataset(own, "case_a").cases, ())
    for name, text in documents(conversion).items():
        (tmp_path / name).write_text(text)
    assert read(tmp_path).codes == own.codes


def test_codes_beside_kept_ones_count(tmp_path):
    own = described("A", {"liver": 1}, codes={"liver": OTHER})
    layouts.write_msd(tmp_path)
    (text,) = msd_documents(Conversion(own, dataset(own, "case_a").cases, ())).values()
    (tmp_path / "dataset.json").write_text(text)
    assert read_msd(edit(tmp_path / "dataset.json", codes={"liver": WRITTEN["lesion"]})).codes == {"liver": LIVER}


def test_a_pool_has_the_codes_on_which_its_datasets_agree():
    first = described("A", {"liver": 2, "lung": 5}, codes={"liver": LIVER, "lung": LEFT_LUNG})
    second = described("B", {"lung": 1, "liver": 7}, codes={"lung": OTHER})
    pool = pool_datasets("P", [dataset(first, "a"), dataset(second, "b")])
    assert pool.description.codes == {"liver": LIVER}


def test_labels_that_a_pool_joins_have_no_code():
    first = described("A", {"left": 1, "right": 2}, {"lung": (1, 2)}, codes={"left": LEFT_LUNG})
    second = described("B", {"lung": 1})
    pool = pool_datasets("P", [dataset(first, "a"), dataset(second, "b")])
    assert pool.description.codes == {}
