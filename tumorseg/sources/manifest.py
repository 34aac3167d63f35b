"""A table of files that a user writes: `manifest.csv`, `manifest.json`, or any file of those endings.

CSV has the columns `case_id`, one per channel, `label`, and perhaps `group`, `site` and empty ones headed `label:NAME=VALUE`.
JSON is `{"name", "channels", "labels", "regions", "ignore_label", "cases"}`, of which `channels` and `cases` are required;
a case is `{"case_id", "images": {channel: path} or [path, …], "label", "group", "site"}`. Relative paths start at the
manifest's folder. As the file is the user's own, paths may lead anywhere.
"""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tumorseg.errors import InputError
from tumorseg.schema.base import Record, parse_record, to_json
from tumorseg.schema.dataset import Case, Dataset, Name, NamedChannel, Region, repeated_values
from tumorseg.sources.conversion import CaseFiles, Conversion
from tumorseg.sources.folders import Listing, Problems, build_case, build_dataset, discover_labels, folder_name
from tumorseg.storage.json_files import read_json

NEEDS = "manifest.csv or manifest.json with `case_id`, a path per channel and `label`"
FILE_NAMES = ("manifest.csv", "manifest.json")
TESTS = "manifest_test.json"
"""Manifest of the cases to predict on, beside one that is written: in that one every case is to be trained on."""
RESERVED = ("case_id", "label", "group", "site")
"""CSV columns that are no channel."""
LABEL_PREFIX = "label:"


class ManifestCase(Record):
    """One case as written in a manifest."""

    case_id: Name
    images: dict[str, str] | tuple[str, ...]
    """A path per channel: by name, or in the order of `channels`."""
    label: str | None = None
    group: str | None = None
    site: str | None = None


class Manifest(Record):
    """A manifest as written; a CSV one becomes this too."""

    name: Name | None = None
    """null: the folder's name."""
    channels: tuple[NamedChannel, ...]
    labels: dict[str, int] | None = None
    """null: every value in the label files is a label, called `label_<value>`."""
    regions: tuple[Region, ...] = ()
    ignore_label: int | None = None
    cases: tuple[ManifestCase, ...]


def is_manifest(path: Path) -> bool:
    """Tell whether a path is a CSV or JSON file, or a folder with a manifest.csv or manifest.json."""
    if path.is_dir():
        return any((path / name).is_file() for name in FILE_NAMES)
    return path.is_file() and path.suffix.lower() in (".csv", ".json")


def read_manifest(path: Path, labels: Mapping[str, int] | None = None) -> Dataset:
    """Read a manifest, or the one in a folder; labels that it does not name are looked for, unless they are known.

    Raises:
        InputError: it is malformed.
    """
    file = _find_manifest(path)
    manifest = _parse_manifest(file)
    cases = _cases(file, manifest)
    known = labels if manifest.labels is None else manifest.labels
    found = discover_labels(cases) if known is None else known
    return build_dataset(
        file,
        cases,
        name=manifest.name or folder_name(file.parent),
        channels=manifest.channels,
        labels=found if 0 in found.values() else {"background": 0, **found},
        regions=manifest.regions,
        ignore_label=manifest.ignore_label,
    )


def list_manifest(path: Path) -> Listing:
    """List the cases without looking into their labels.

    Raises:
        InputError: as from `read_manifest`.
    """
    file = _find_manifest(path)
    manifest = _parse_manifest(file)
    return Listing(tuple(channel.name for channel in manifest.channels), tuple(_cases(file, manifest)))


def manifest_files(case_id: str, num_channels: int, *, is_test: bool) -> CaseFiles:
    """Return where the files of a case go."""
    part = "Ts" if is_test else "Tr"
    images = tuple(f"images{part}/{case_id}_{number:04d}.nii.gz" for number in range(num_channels))
    return CaseFiles(images, f"labels{part}/{case_id}.nii.gz")


def manifest_documents(conversion: Conversion) -> dict[str, str]:
    """Return the texts of a manifest of the test cases and of one of the others, which comes last, where there are such cases."""
    tests = {TESTS: _manifest_text(conversion, is_test=True)} if conversion.tests else {}
    main = {FILE_NAMES[1]: _manifest_text(conversion, is_test=False)} if conversion.training else {}
    return {**tests, **main}


def _manifest_text(conversion: Conversion, *, is_test: bool) -> str:
    original = conversion.description
    cases = []
    for case in conversion.tests if is_test else conversion.training:
        files = manifest_files(case.case_id, len(original.channels), is_test=is_test)
        label = None if case.label is None else files.label
        cases.append(
            ManifestCase(case_id=case.case_id, images=files.images, label=label, group=case.group, site=case.site)
        )
    fields = {name: getattr(original, name) for name in type(original).model_fields}
    return to_json(Manifest(**fields, cases=tuple(cases)))


def _find_manifest(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = [path / name for name in FILE_NAMES if (path / name).is_file()]
    if len(found) > 1:
        raise InputError(f"{path}: found both {' and '.join(FILE_NAMES)}; name the one that is meant")
    return found[0] if found else path / FILE_NAMES[0]


def _parse_manifest(file: Path) -> Manifest:
    content = _read_csv(file) if file.suffix.lower() == ".csv" else read_json(file, InputError)
    return parse_record(Manifest, content, source=str(file), error=InputError)


def _read_csv(file: Path) -> dict[str, Any]:
    """Return a CSV manifest as a JSON one."""
    header, *rows = _csv_rows(file) or [[]]
    header = [name.strip() for name in header]
    if "case_id" not in header or (repeated := repeated_values(header)):
        found = f"{', '.join(map(repr, repeated))} twice" if "case_id" in header else f"{header}"
        raise InputError(
            f"{file}: found the columns {found}, expected `case_id`, one per channel, `label`; mend line 1"
        )
    channels = [name for name in header if name not in RESERVED and not name.startswith(LABEL_PREFIX)]
    labels = dict(_parse_label(file, name) for name in header if name.startswith(LABEL_PREFIX))
    cases = [_csv_case(file, dict(zip(header, row, strict=True)), channels) for row in _check_rows(file, header, rows)]
    return {"channels": channels, "labels": labels or None, "cases": cases}


def _csv_rows(file: Path) -> list[list[str]]:
    try:
        text = file.read_bytes().decode("utf-8-sig")
        return [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}), expected a manifest; check the path") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file}: found bytes that are not UTF-8 at position {error.start}; save it as UTF-8"
        ) from None
    except csv.Error as error:
        raise InputError(f"{file}: is not CSV ({error}); mend the file") from None


def _check_rows(file: Path, header: list[str], rows: list[list[str]]) -> list[list[str]]:
    problems = Problems(file)
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            problems.add(
                f"case {row[0]}: row {number}: found {len(row)} cells, expected {len(header)} as in the header"
            )
    problems.check()
    return [row for row in rows if len(row) == len(header)]


def _parse_label(file: Path, header: str) -> tuple[str, int]:
    """Return name and value of a `label:NAME=VALUE` header."""
    name, _, value = header.removeprefix(LABEL_PREFIX).rpartition("=")
    try:
        return name.strip(), int(value)
    except ValueError:
        raise InputError(f"{file}: found the column {header!r}, expected label:NAME=INTEGER; mend line 1") from None


def _csv_case(file: Path, row: dict[str, str], channels: list[str]) -> dict[str, Any]:
    cells = {name: cell.strip() for name, cell in row.items()}
    if filled := [name for name, cell in cells.items() if name.startswith(LABEL_PREFIX) and cell]:
        raise InputError(f"{file}: case {cells['case_id']}: column {filled[0]!r} must be empty; its header says it all")
    optional = {name: cells.get(name) or None for name in ("label", "group", "site")}
    return {"case_id": cells["case_id"], "images": {name: cells[name] for name in channels}, **optional}


def _cases(file: Path, manifest: Manifest) -> list[Case]:
    """Return the cases sorted by id, their paths no longer relative to the manifest."""
    problems = Problems(file)
    cases = [_case(file, case, manifest, problems=problems) for case in manifest.cases]
    problems.check()
    return sorted(cases, key=lambda case: case.case_id)


def _case(file: Path, case: ManifestCase, manifest: Manifest, *, problems: Problems) -> Case:
    paths = _image_paths(case, [channel.name for channel in manifest.channels], problems)
    for stated in (*paths, *([case.label] if case.label else [])):
        if not stated:
            problems.add(f"case {case.case_id}: found an empty path, expected an image; mend it", closes=case.case_id)
    images = [{"path": str(file.parent / path)} for path in paths]
    label = str(file.parent / case.label) if case.label else None
    return build_case(file, case_id=case.case_id, images=images, label=label, group=case.group, site=case.site)


def _image_paths(case: ManifestCase, channels: list[str], problems: Problems) -> list[str]:
    """Return a case's paths in channel order."""
    named = case.images if isinstance(case.images, dict) else dict(zip(channels, case.images, strict=False))
    if set(named) != set(channels) or len(case.images) != len(channels):
        found = ", ".join(named) if isinstance(case.images, dict) else f"{len(case.images)} paths"
        problems.add(
            f"case {case.case_id}: found the images {found or 'none'}, expected {', '.join(channels)}; mend it"
        )
    return [named[channel] for channel in channels if channel in named]
