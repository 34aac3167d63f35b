"""The viewer's volumes and code: inside the page where they are small, else as files beside it."""

import base64
import gzip
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from tumorseg.reports.figures import class_color
from tumorseg.reports.results.volumes import ViewerCase

INLINE_BYTES = 8 * 2**20
"""Volumes of a page, gzipped, up to which they stand inside it; base64 makes them a third larger."""
FOLDER = "report_files"
"""Of the files beside a page."""
_NAME_DIGITS = 16  # of a hash: 64 bits, which no two files of a folder share by chance
_CODE = Path(__file__).parent / "vendor" / "niivue.umd.js.gz"


class Viewer(NamedTuple):
    """What a page needs to show volumes."""

    cases: list[dict[str, Any]]
    """What the script knows of each case before it is opened."""
    blocks: list[tuple[str, str]]
    """Identifier and text of what stands inside the page."""
    files: dict[str, bytes]
    """What stands beside it, by its path from the page."""


def viewer_of(cases: Sequence[ViewerCase]) -> Viewer:
    """Lay out cases for a page; together they are either all inside it or all beside it."""
    is_inline = sum(case.num_bytes for case in cases) <= INLINE_BYTES
    known, blocks, files = [], [], {}
    for number, case in enumerate(cases):
        layers = {name: base64.b64encode(volume).decode("ascii") for name, volume in case.layers.items()}
        entry = _entry(case)
        if is_inline:
            blocks += [(f"volume-{number}-{name}", text) for name, text in layers.items()]
        else:
            entry["file"], content = _file(layers)
            files[entry["file"]] = content
        known.append(entry)
    return Viewer(known, blocks, files)


def _file(layers: dict[str, str]) -> tuple[str, bytes]:
    """Return the path from the page, and the content, of the file of a case's volumes."""
    text = json.dumps(layers)
    # Named by its content: a later page never puts other volumes under the name that an earlier one, still open, asks for.
    name = f"{FOLDER}/case_{hashlib.sha256(text.encode()).hexdigest()[:_NAME_DIGITS]}.js"
    return name, f"tumorsegVolumes({json.dumps(name)}, {text});\n".encode()


def _entry(case: ViewerCase) -> dict[str, Any]:
    names = case.class_names[1:]
    labels = [{"name": name, "color": class_color(number)} for number, name in enumerate(names)]
    return {"case": case.case_id, "labels": labels, "layers": list(case.layers), "remark": case.remark}


@cache
def viewer_code() -> tuple[str, str]:
    """Return NiiVue's code, and the same gzipped in base64, as which it waits in a page until a volume is opened."""
    packed = _CODE.read_bytes()
    code = gzip.decompress(packed).decode()
    return code, base64.b64encode(packed).decode("ascii")
