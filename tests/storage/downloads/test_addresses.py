import urllib.request
from http.client import HTTPMessage

import pytest

from tests.storage.web import Web
from tumorseg.errors import StorageError
from tumorseg.storage.downloads import addresses as module
from tumorseg.storage.downloads.addresses import open_address


def test_an_answer_can_be_read(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Web(b"abcdef") as web, open_address(web.url, {"Range": "bytes=2-"}, timeout_s=5) as response:
        assert response.read() == b"cdef"


def test_the_users_proxy_is_asked(monkeypatch):
    monkeypatch.setenv("no_proxy", "")
    with Web(b"by proxy") as web:
        monkeypatch.setenv("http_proxy", web.url)
        with open_address("http://elsewhere.invalid/a", {}, timeout_s=5) as response:
            assert response.read() == b"by proxy"


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/a.tar", "/etc/hostname", ""])
def test_only_http_addresses_are_opened(url):
    with pytest.raises(StorageError, match="another scheme than http or https"):
        open_address(url, {}, timeout_s=5)


def test_redirects_keep_encryption():
    request = urllib.request.Request("https://a.example/x")
    follow = module._SafeRedirects().redirect_request
    with pytest.raises(StorageError, match="expected https; it was not followed"):
        follow(request, None, 302, "Found", HTTPMessage(), "http://a.example/x")
    assert follow(request, None, 302, "Found", HTTPMessage(), "https://b.example/x").full_url == "https://b.example/x"
