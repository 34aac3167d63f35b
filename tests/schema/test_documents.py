"""The JSON Schemas under docs/ are those of the records. `make schema` rewrites them."""

import json
from pathlib import Path

import jsonschema
import pytest

from tests.planning.measured import fingerprint, planned
from tumorseg.schema.base import Record, json_text, to_json
from tumorseg.schema.dataset import Dataset
from tumorseg.schema.fingerprint import Fingerprint
from tumorseg.schema.plan import Plan

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENTS: dict[str, type[Record]] = {
    "plan.schema.json": Plan,
    "dataset.schema.json": Dataset,
    "fingerprint.schema.json": Fingerprint,
}
CASE = {"case_id": "a", "images": [{"path": "a.nii.gz"}], "label": "a_label.nii.gz"}
DATASET = Dataset(name="Toy", channels=[{"name": "CT"}], labels={"background": 0, "tumour": 1}, cases=[CASE])
EXAMPLES = {
    "plan.schema.json": planned(),
    "dataset.schema.json": DATASET,
    "fingerprint.schema.json": fingerprint(),
}


def current_schema(name):
    return json_text(DOCUMENTS[name].model_json_schema())


def published(name):
    return json.loads((DOCS / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_published_schema_is_current(name):
    path = DOCS / name
    assert path.exists(), "run make schema"
    assert path.read_text(encoding="utf-8") == current_schema(name), "run make schema"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_that_tumorseg_writes_is_valid(name):
    schema = published(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(to_json(EXAMPLES[name])), schema, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_an_unknown_key_is_invalid(name):
    document = json.loads(to_json(EXAMPLES[name])) | {"colour": 1}
    with pytest.raises(jsonschema.ValidationError, match="colour"):
        jsonschema.validate(document, published(name))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_channels_may_be_names(name):
    document = json.loads(to_json(EXAMPLES[name]))
    description = document.get("dataset", document)
    description["channels"] = [channel["name"] for channel in description["channels"]]
    DOCUMENTS[name].model_validate(document)
    jsonschema.validate(document, published(name))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_field_says_what_it_is(name):
    schema = published(name)
    records = [schema, *schema["$defs"].values()]
    silent = [
        f"{record['title']}.{field}"
        for record in records
        for field, about in record.get("properties", {}).items()
        if "description" not in about and "const" not in about
    ]
    assert silent == []


def write_documents():
    for name in DOCUMENTS:
        (DOCS / name).write_text(current_schema(name), encoding="utf-8")


if __name__ == "__main__":
    write_documents()
