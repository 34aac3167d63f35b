"""A table of files that a user writes: `manifest.csv`, `manifest.json`, or any file of those endings.

CSV has the columns `case_id`, one per channel, `label`, and perhaps `group`, `site`, empty ones headed `label:NAME=VALUE`, and others
that say something of the cases. JSON is `{"name", "channels", "labels", "optional_labels", "regions", "ignore_label", "reading",
"codes", "cases"}`, of which `channels` and `cases` are required; a case is `{"case_id", "images": {channel: path} or [path, …], "label",
"group", "site", "columns"}`. In the place of a path may stand `{"path", "index", "num_volumes"}`, a volume of a 4D file, or
`{"path", "parts"}`, files of a folder that make up a DICOM series. `merged` is `data merge`'s own mark. Relative paths start at the manifest's folder. As the file is the
user's own, paths may lead anywhere.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from tumorseg.errors import InputError
from tumorseg.schema.base import Record, parse_record, to_json
from tumorseg.schema.codes import LabelCode
from tumorseg.schema.dataset import (
    Case,
    Dataset,
    ImageFile,
    Labels,
    Name,
    NamedChannel,
    PlainName,
    Reading,
    Region,
    ShownText,
)
from tumorseg.schema.wording import shown
from tumorseg.sources.conversion import CaseFiles, Conversion
from tumorseg.sources.discovery import Discovered, discover_labels
from tumorseg.sources.folders import Listing, Part, Problems, build_case, build_dataset, folder_name, is_there
from tumorseg.sources.leaving_out import used
from tumorseg.sources.manifest_csv import read_csv_manifest
from tumorseg.storage.json_files import read_json
from tumorseg.storage.paths import impossible_text

NEEDS = "manifest.csv or manifest.json with `case_id`, a path per channel and `label`"
FILE_NAMES = ("manifest.csv", "manifest.json")
SAME = ("case_id", "group", "site", "columns")
"""What a case of a manifest says as a case of a dataset does."""
TESTS = "manifest_test.json"
"""Manifest of the cases to predict on, beside one that is written: in that one every case is to be trained on."""


def _with_texts(columns: Any) -> Any:
    """Return columns whose numbers are texts."""
    if not isinstance(columns, dict):
        return columns
    return {name: str(value) if isinstance(value, int | float) else value for name, value in columns.items()}


class ManifestCase(Record):
    """One case as written in a manifest."""

    case_id: str
    """Becomes the name of files: `build_case` checks it."""
    images: dict[str, str | ImageFile] | tuple[str | ImageFile, ...]
    """A path per channel, or the file of which one volume or some parts are it: by name, or in the order of `channels`."""
    label: str | None = None
    group: PlainName | None = None
    site: PlainName | None = None
    columns: Annotated[dict[PlainName, ShownText], BeforeValidator(_with_texts)] = Field(default_factory=dict)
    """What else is known of the case, such as `age`; numbers become texts."""


class Manifest(Record):
    """A manifest as written; a CSV one becomes this too."""

    name: Name | None = None
    """null: the stem of a file that is not called manifest.csv or manifest.json, else the folder's name."""
    channels: tuple[NamedChannel, ...]
    labels: Labels | None = None
    """null: every value in the label files is a label, called `label_<value>`."""
    optional_labels: tuple[str, ...] = ()
    """Names of labels that may be in no case."""
    regions: tuple[Region, ...] = ()
    ignore_label: int | None = None
    reading: Reading = Reading()
    """How files are read where they leave it open."""
    codes: dict[str, LabelCode] = Field(default_factory=dict)
    """Coded terms of labels, by name."""
    cases: tuple[ManifestCase, ...]
    merged: str | None = None
    """Hash of all the rest, by which `data merge` knows a file that it wrote and nobody has edited; null in all others."""


def is_manifest(path: Path) -> bool:
    """Tell whether a path is a CSV or JSON file, or a folder with a manifest.csv or manifest.json."""
    if path.is_dir():
        table, document = (path / name for name in FILE_NAMES)
        return table.is_file() or (document.is_file() and not _is_of_others(document))
    return path.is_file() and path.suffix.lower() in (".csv", ".json")


def read_manifest(path: Path, labels: Mapping[str, int] | None = None) -> Dataset:
    """Read a manifest, or the one in a folder; labels that it does not name are looked for, unless they are known.

    Raises:
        InputError: it is malformed.
    """
    file = _find_manifest(path)
    manifest = _parse_manifest(file)
    cases = _cases(file, manifest)
    # Known labels only spare a look into every label file; what the manifest itself states counts.
    known = labels if manifest.labels is None else manifest.labels
    found = discover_labels(cases) if known is None else Discovered(dict(known))
    values = found.labels
    if 0 not in values.values():
        values = {"background": 0, **values}
    # A folder may hold several manifests of names of their own, each a dataset.
    usual_name = folder_name(file.parent) if file.name in FILE_NAMES else file.stem
    return build_dataset(
        file,
        cases,
        name=manifest.name or usual_name,
        channels=manifest.channels,
        labels=values,
        optional_labels=manifest.optional_labels,
        doubts=found.doubts,
        regions=manifest.regions,
        ignore_label=manifest.ignore_label,
        reading=manifest.reading,
        codes=manifest.codes,
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
        cases.append(ManifestCase(images=files.images, label=label, **{name: getattr(case, name) for name in SAME}))
    fields = {name: getattr(original, name) for name in type(original).model_fields}
    return to_json(Manifest(**fields, cases=tuple(cases)))


def _is_of_others(file: Path) -> bool:
    """Tell whether a manifest.json is another program's, as of a viewer in a browser: it speaks of neither channels nor cases."""
    try:
        content = read_json(file, InputError)
    except InputError:  # is reported when it is read
        return False
    return not isinstance(content, dict) or not {"channels", "cases"} & set(content)


def _find_manifest(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = [path / name for name in FILE_NAMES if (path / name).is_file()]
    if len(found) > 1:
        raise InputError(f"found both {' and '.join(FILE_NAMES)}; name the one that is meant", file=path)
    return found[0] if found else path / FILE_NAMES[0]


def _parse_manifest(file: Path) -> Manifest:
    content = read_csv_manifest(file) if file.suffix.lower() == ".csv" else read_json(file, InputError)
    # Entries are checked one by one before the whole, so that a bad one fails alone, and not at all if it is left out.
    if isinstance(content, dict) and isinstance(content.get("cases"), list):
        content = {**content, "cases": _sound_entries(file, used(file, content["cases"], _id_of))}
    return parse_record(Manifest, content, source=str(file), error=InputError)


def _sound_entries(file: Path, entries: list[Any]) -> list[ManifestCase]:
    """Return the entries that have the form of a case; the others are noted."""
    problems, sound = Problems(file), []
    for number, entry in enumerate(entries, start=1):
        case_id = _id_of(entry) or f"entry {number}"
        try:
            sound.append(parse_record(ManifestCase, entry, source=str(file), error=InputError))
        except InputError as error:
            problems.add(error.reason, case_id=case_id, is_closed=True)
    problems.check()
    return sound


def _id_of(entry: Any) -> str:
    """Return the id of a case as it is written, whatever else is wrong with it."""
    case_id = entry.get("case_id") if isinstance(entry, dict) else None
    return "" if case_id is None else str(case_id)


def _cases(file: Path, manifest: Manifest) -> list[Case]:
    """Return the cases sorted by id, their paths no longer relative to the manifest."""
    problems = Problems(file)
    cases = [_case(file, case, manifest, problems=problems) for case in manifest.cases]
    problems.check()
    return sorted(cases, key=lambda case: case.case_id)


def _case(file: Path, case: ManifestCase, manifest: Manifest, *, problems: Problems) -> Case:
    files = _image_files(case, [channel.name for channel in manifest.channels], problems)
    stated: list[tuple[Part, Path, str]] = [("label", file.parent, case.label)] if case.label else []
    for image in files:
        stated.append(("image", file.parent, image.path))
        stated += [("image", file.parent / image.path, name) for name in image.parts]
    for part, folder, path in stated:
        if (problem := _problem_of(folder, path)) is not None:
            problems.add(f"{problem}; mend it", case_id=case.case_id, part=part, is_closed=True)
    images = [image.changed(path=str(file.parent / image.path)) for image in files]
    label = str(file.parent / case.label) if case.label else None
    return build_case(file, images=images, label=label, **{name: getattr(case, name) for name in SAME})


def _problem_of(folder: Path, stated: str) -> str | None:
    """Return why a text of a manifest cannot be the path of a file that starts at a folder, or None."""
    if not stated:
        return "found an empty path, expected an image"
    if not stated.isprintable():
        return f"found the path {stated!r}, expected one without line breaks and other control characters"
    if (fault := impossible_text(str(folder / stated))) is not None:
        return f"found the path {shown(stated)}, which {fault}"
    # A backslash may be part of a name; only what is not there was written on Windows.
    if "\\" in stated and not is_there(folder / stated):
        return f"found the path {stated!r} with backslashes, expected it with /"
    return None


def _image_files(case: ManifestCase, channels: list[str], problems: Problems) -> list[ImageFile]:
    """Return a case's images in channel order, their paths as stated."""
    # Not strict: lists of other lengths are reported below. Pairing drops what a list has too much of, so its length is asked too.
    named = case.images if isinstance(case.images, dict) else dict(zip(channels, case.images, strict=False))
    if set(named) != set(channels) or len(case.images) != len(channels):
        found = ", ".join(named) if isinstance(case.images, dict) else f"{len(case.images)} paths"
        problems.add(
            f"found the images {found or 'none'}, expected {', '.join(channels)}; mend it",
            case_id=case.case_id,
            part="image",
        )
    stated = [named[channel] for channel in channels if channel in named]
    return [ImageFile(path=image) if isinstance(image, str) else image for image in stated]
