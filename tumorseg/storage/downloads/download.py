"""Downloads over HTTP that go on where they stopped, and are checked before they are used.

References:
    RFC 9110, HTTP Semantics, sections 13.1.5 (If-Range) and 14 (Range Requests).
"""

import hashlib
import http.client
import re
import ssl
import time
import urllib.error
from pathlib import Path
from typing import IO, NamedTuple

from tumorseg.errors import StorageError
from tumorseg.schema.base import Record
from tumorseg.schema.quantities import bytes_text
from tumorseg.storage.atomic import ADVICE, storage_error
from tumorseg.storage.disk import WatchBytes, require_room
from tumorseg.storage.downloads.addresses import open_address
from tumorseg.storage.json_files import read_record, write_record
from tumorseg.storage.layout import FetchFiles
from tumorseg.workers.outcomes import one_line

READ_TIMEOUT_S = 60.0
"""Longest silence of a server."""
PAUSES_S = (1.0, 2.0, 5.0, 10.0, 20.0)
"""Before new tries, counted from the last one that brought new bytes; after these the download gives up."""
PASSING = {408, 425, 429, 500, 502, 503, 504}
"""HTTP statuses that may be others in a moment."""
BLOCK_BYTES = 1 << 18
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class Version(Record):
    """Version of the file that a partial download is of."""

    url: str
    """Where it comes from."""
    validator: str | None
    """The server's strong ETag, else its date of change; without one a download cannot go on, only start again."""
    total: int | None
    """Bytes of the whole file, if the server says so."""


class _Part(NamedTuple):
    """The rest of a file."""

    offset: int
    """Bytes before its first one."""
    version: Version


class _CutError(Exception):
    """A try ended early, for a reason that may pass."""


def download(url: str, files: FetchFiles, *, watch: WatchBytes) -> None:
    """Download a file to `files.partial`, going on where an earlier start was cut or killed.

    It starts again where the server's file has changed meanwhile or the server sends no parts. A connection that is
    cut is taken up again as long as tries bring new bytes, and five times more; pauses grow.

    Args:
        url: http or https.
        files: where; other processes must be kept out.
        watch: called for every block.

    Raises:
        StorageError: the address is of another scheme, the server refuses or stays silent, or the disk is full; what has come is kept.
    """
    furthest, barren = 0, 0
    while (cut := _try(url, files, watch)) is not None:
        here = _size(files.partial)
        # Furthest of all tries: a server that always cuts at the same place would else be asked for ever.
        barren = 0 if here > furthest else barren + 1
        furthest = max(here, furthest)
        if barren > len(PAUSES_S):
            raise StorageError(
                f"{url}: {cut}; {barren} tries in a row brought nothing new; {bytes_text(here)} are kept; check the "
                "connection, and give the same command again to go on"
            )
        # A try that brought new bytes is followed by the shortest pause.
        pause = PAUSES_S[max(barren - 1, 0)]
        known = _read_version(url, files)
        watch(here, known.total if known else None, f"{cut}; next try in {pause:g} s")
        time.sleep(pause)


def forget(files: FetchFiles) -> None:
    """Remove a partial download.

    Raises:
        StorageError: the folder cannot be written.
    """
    try:
        files.partial.unlink(missing_ok=True)
        files.version.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(files.partial, error) from error


def md5_of(path: Path, *, watch: WatchBytes) -> str:
    """Return a file's MD5 in hex digits, read block by block.

    Raises:
        StorageError: the file cannot be read.
    """
    # Against damage, not forgery; a machine in FIPS mode would refuse it for security.
    digest, done = hashlib.md5(usedforsecurity=False), 0
    try:
        total = path.stat().st_size
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
                done += len(block)
                watch(done, total, "")
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror}); check the disk, or remove the file") from None
    return digest.hexdigest()


def _try(url: str, files: FetchFiles, watch: WatchBytes) -> str | None:
    """Fetch what is missing; return what cut it short, or None when the file is whole."""
    version = _read_version(url, files)
    size = _size(files.partial)
    if version and size == version.total:
        return None
    # Where the length or a mark of the version is missing, nothing tells what the rest would be: all is asked for.
    asked = _Part(size, version) if version and version.validator and size < (version.total or 0) else None
    try:
        with _open(url, asked) as response:
            _receive(response, _begin(url, files, response, asked), files, watch)
    except urllib.error.HTTPError as error:
        with error:
            return _passing(url, error, files)
    except (_CutError, OSError, http.client.HTTPException, ValueError) as error:  # the last: an unreadable redirect
        return _reason(url, error)
    return None


def _open(url: str, asked: _Part | None) -> http.client.HTTPResponse:
    """Ask for the rest of a file, or for all of it, as the server does if it has another version now."""
    part: dict[str, str] = {}
    if asked and asked.version.validator:
        part = {"Range": f"bytes={asked.offset}-", "If-Range": asked.version.validator}
    return open_address(url, part, timeout_s=READ_TIMEOUT_S)


def _begin(url: str, files: FetchFiles, response: http.client.HTTPResponse, asked: _Part | None) -> _Part:
    """Return what a server sends, having made the partial file ready for it."""
    if response.status == 206:
        if asked is None or not _continues(response, asked):
            forget(files)
            raise _CutError("the server sent another part than was asked for")
        return asked
    if response.status != 200:
        raise StorageError(f"{url}: the server answered HTTP {response.status}, expected the file (200)")
    forget(files)
    # A weak ETag (W/…) vouches for the meaning of a file, not for its bytes; If-Range takes none.
    etag = response.headers.get("ETag", "")
    validator = etag if etag.startswith('"') else response.headers.get("Last-Modified")
    version = Version(url=url, validator=validator, total=response.length)
    # Before the first byte, so that a kill never leaves bytes of which no version is known.
    write_record(files.version, version)
    return _Part(0, version)


def _continues(response: http.client.HTTPResponse, asked: _Part) -> bool:
    """Tell whether a part is the one that was asked for, of the same version, also where the server passes over If-Range."""
    found = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if found is None or int(found[1]) != asked.offset:
        return False
    # `*` stands for a length that is not told: then the part must end where the file does.
    total = int(found[2]) + 1 if found[3] == "*" else int(found[3])
    stated = (response.headers.get("ETag"), response.headers.get("Last-Modified"))
    return total == asked.version.total and (stated == (None, None) or asked.version.validator in stated)


def _receive(response: http.client.HTTPResponse, part: _Part, files: FetchFiles, watch: WatchBytes) -> None:
    """Append what a server sends to the partial file."""
    done, total = part.offset, part.version.total
    if total is not None:
        # A tar that is not compressed unpacks to its own size.
        require_room(files.partial.parent, total - done + total, what="the archive with its unpacked files")
    with _open_partial(files.partial) as file:
        # `read` would wait for a whole block, and lose what had come of it when the connection is cut.
        while block := response.read1(BLOCK_BYTES):
            _write(files.partial, file, block)
            done += len(block)
            watch(done, total, "")
    if total is not None and done < total:
        raise _CutError(f"the connection ended after {bytes_text(done, total)}")


def _open_partial(partial: Path) -> IO[bytes]:
    try:
        # Without a buffer what has come is in the file even if this process is killed.
        return partial.open("ab", buffering=0)
    except OSError as error:
        raise storage_error(partial, error) from error


def _write(partial: Path, file: IO[bytes], block: bytes) -> None:
    rest = memoryview(block)
    try:
        while rest:
            # A file without a buffer may take only a part at once.
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise StorageError(
            f"{partial}: cannot write: {error.strerror}; what has come is kept; {ADVICE.get(error.errno or 0, 'check the disk')}, "
            "and give the same command again"
        ) from error


def _passing(url: str, error: urllib.error.HTTPError, files: FetchFiles) -> str:
    """Return what a server answered instead of the file if that may pass; raise it otherwise."""
    said = f"the server answered HTTP {error.code} {one_line(error.reason)}".rstrip()
    if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
        # What is here is at least as long as the server's file, so it is of another version.
        forget(files)
    elif error.code not in PASSING:
        raise StorageError(f"{url}: {said}, expected the file; check whether it is still there, or try again later")
    return said


def _reason(url: str, error: Exception) -> str:
    """Return in words what cut a try short; raise what will not pass."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        raise StorageError(
            f"{url}: the server's certificate is not trusted ({cause.verify_message}); check the clock, the proxy, and "
            "the certificates of this machine (SSL_CERT_FILE)"
        )
    if isinstance(error, _CutError):
        return str(error)
    return f"the connection failed ({one_line(str(cause)) or type(cause).__name__})"


def _read_version(url: str, files: FetchFiles) -> Version | None:
    """Return which version a partial download is of; None where there is none, or it is of another address."""
    try:
        found = read_record(Version, files.version, error=StorageError)
    except StorageError:
        return None
    return found if found.url == url else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
