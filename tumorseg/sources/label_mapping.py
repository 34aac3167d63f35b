"""Files by which users state which labels of two datasets are the same."""

from pathlib import Path

from tumorseg.errors import InputError
from tumorseg.schema.mapping import LabelMapping, parse_mapping
from tumorseg.storage.json_files import read_json


def read_mapping(path: Path) -> LabelMapping:
    """Read a JSON file of `--labels`: `{"WT": {"prediction": [1, 2, 4], "reference": ["edema", 3]}}`.

    Raises:
        InputError: it cannot be read, or is malformed; one line names every field that is wrong.
    """
    return parse_mapping(read_json(path, InputError), source=str(path))
