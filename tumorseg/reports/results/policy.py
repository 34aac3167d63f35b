"""What a page may run and load: its own scripts, known by their hashes, and nothing from anywhere else."""

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Any

_ALLOWED = (
    "default-src 'none'",
    "style-src 'unsafe-inline'",
    "img-src data:",
    "base-uri 'none'",
    "form-action 'none'",
)


def content_policy(scripts: Sequence[str], *, loads_files: bool = False) -> str:
    """Return the Content-Security-Policy of a page.

    Args:
        scripts: text of each script that it may run, exactly as it stands between the tags.
        loads_files: whether these scripts may add others, from files beside the page. A page opened as a file has no origin by
            which those could be named, and browsers do not check the hash of such a file.

    References:
        W3C, Content Security Policy Level 3, 2025, `strict-dynamic`.
    """
    sources = [f"'{script_hash(script)}'" for script in scripts]
    if loads_files:
        sources.append("'strict-dynamic'")
    return "; ".join((*_ALLOWED, "script-src " + (" ".join(sources) or "'none'")))


def script_hash(script: str) -> str:
    """Return a script's hash as a policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def script_json(value: Any) -> str:
    """Return a value as JSON that can stand in a script element, whatever its texts hold.

    Raises:
        ValueError: it holds NaN or infinity, which are no JSON.
    """
    # ASCII alone: U+2028 ends a line in older scripts, and half of a surrogate pair cannot be written as UTF-8.
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    # Within JSON these stand in texts only. `</script` would end the element, and `<!--` change how it ends.
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
