"""Opening addresses of the web, and nothing else: no files of this machine, and no way from https back to http."""

import http.client
import urllib.request
from collections.abc import Mapping
from typing import IO
from urllib.parse import urlsplit

from tumorseg.errors import StorageError

SCHEMES = ("http", "https")


def open_address(url: str, headers: Mapping[str, str], *, timeout_s: float) -> http.client.HTTPResponse:
    """Ask a server for what is at an address, by way of the user's proxy if there is one.

    Args:
        url: http or https.
        headers: beside the usual ones.
        timeout_s: longest silence of the server.

    Returns:
        The answer, to be closed.

    Raises:
        StorageError: the address, or where the server redirects, has a scheme that is not allowed.
        OSError, http.client.HTTPException, ValueError: as from urllib.
    """
    if urlsplit(url).scheme not in SCHEMES:
        raise StorageError(f"{url}: found another scheme than http or https; give such an address")
    # Compressed on the way, a file's length and ranges would not be those of its bytes here.
    everywhere = {"User-Agent": "tumorseg", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers=everywhere | dict(headers))
    response: http.client.HTTPResponse = _opener().open(request, timeout=timeout_s)
    return response


def _opener() -> urllib.request.OpenerDirector:
    """Return what opens http and https, and not file:, ftp: or data:."""
    # `build_opener` would add the handlers of file:, ftp: and data: unasked.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _SafeRedirects(),
    ):
        opener.add_handler(handler)
    return opener


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https, but not from https to http."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Return the request of the new address.

        Raises:
            StorageError: it has a scheme that is not allowed.
        """
        allowed = ("https",) if urlsplit(req.full_url).scheme == "https" else SCHEMES
        if urlsplit(newurl).scheme not in allowed:
            raise StorageError(
                f"{req.full_url}: the server redirects to {newurl}, expected {' or '.join(allowed)}; it was not followed"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)
