import hashlib
import os
import resource
import socket
import ssl
import urllib.error

import numpy as np
import pytest

from tests.storage.web import Web
from tumorseg.errors import StorageError
from tumorseg.storage.downloads import download as module
from tumorseg.storage.downloads.download import download, forget, md5_of
from tumorseg.storage.layout import FetchFiles

CONTENT = np.random.default_rng(0).bytes(300_001)


class Watch:
    """Remembers what was told."""

    def __init__(self):
        self.bytes, self.texts = [], []

    def __call__(self, done, total, text=""):
        self.bytes.append((done, total))
        self.texts += [text] if text else []


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "PAUSES_S", (0.0, 0.0, 0.0))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def web():
    with Web(CONTENT) as served:
        yield served


@pytest.fixture
def files(tmp_path):
    return FetchFiles(tmp_path / "Task")


@pytest.fixture
def watch():
    return Watch()


def fetch(web, files, watch=None):
    download(web.url, files, watch=watch or Watch())
    return files.partial.read_bytes()


def stop_after(web, files, num_bytes):
    """Leave what a process that was killed after some bytes leaves."""

    def stop(done, total, text):
        if text:
            raise KeyboardInterrupt

    web.cuts = [num_bytes]
    with pytest.raises(KeyboardInterrupt):
        fetch(web, files, stop)
    assert files.partial.stat().st_size == num_bytes
    web.asked.clear()
    web.sent.clear()


def test_a_file_comes_whole_with_its_progress(web, files, watch):
    assert fetch(web, files, watch) == CONTENT
    assert watch.bytes[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in watch.bytes] == sorted(done for done, _ in watch.bytes)
    assert watch.texts == []
    assert web.asked == [None]


def test_a_connection_that_is_cut_again_and_again_is_taken_up_while_bytes_come(web, files, watch):
    web.cuts = [20_000] * 12
    assert fetch(web, files, watch) == CONTENT
    assert web.asked == [None, *(f"bytes={20_000 * number}-" for number in range(1, 13))]
    assert sum(web.sent) == len(CONTENT)
    assert watch.texts[0].startswith("the connection ended after 19.5/293.0 kB; next try in 0 s")


def test_a_later_start_goes_on_where_an_earlier_one_stopped(web, files):
    stop_after(web, files, 123_457)
    assert fetch(web, files) == CONTENT
    assert (web.asked, web.sent) == (["bytes=123457-"], [len(CONTENT) - 123_457])


def test_a_whole_file_is_not_asked_for_again(web, files):
    fetch(web, files)
    web.asked.clear()
    assert fetch(web, files) == CONTENT
    assert web.asked == []


def test_a_date_of_change_is_as_good_as_an_etag(web, files):
    web.headers = {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT", "ETag": 'W/"weak"'}
    stop_after(web, files, 100)
    web.part_headers = {}
    assert fetch(web, files) == CONTENT
    assert web.sent == [len(CONTENT) - 100]


def test_without_a_mark_of_its_version_a_file_is_fetched_anew(web, files):
    web.headers = {}
    stop_after(web, files, 100)
    assert fetch(web, files) == CONTENT
    assert (web.asked, web.sent) == ([None], [len(CONTENT)])


@pytest.mark.parametrize("knows_if_range", [True, False])
@pytest.mark.parametrize("change", [bytes(300_001), bytes(200_000), bytes(50)])
def test_a_file_that_changed_meanwhile_is_fetched_anew(web, files, change, knows_if_range):
    stop_after(web, files, 120)
    web.content, web.headers, web.knows_if_range = change, {"ETag": '"two"'}, knows_if_range
    assert fetch(web, files) == change


def test_a_file_that_changes_between_tries_is_not_mixed(web, files):
    class Change(Watch):
        def __call__(self, done, total, text=""):
            if text:
                web.content, web.headers = bytes(300_001), {"ETag": '"two"'}

    web.cuts = [1000]
    assert fetch(web, files, Change()) == bytes(300_001)


def test_a_server_that_sends_no_parts_is_asked_for_all(web, files):
    stop_after(web, files, 99_000)
    web.knows_ranges = False
    assert fetch(web, files) == CONTENT
    assert web.sent == [len(CONTENT)]


def test_a_server_that_sends_no_parts_and_cuts_always_at_the_same_place_is_given_up(web, files):
    web.knows_ranges, web.cuts = False, [70_000] * 20
    with pytest.raises(StorageError, match=r"ended after 68.4/293.0 kB; 4 tries in a row brought nothing new"):
        fetch(web, files)
    assert len(web.cuts) == 15


@pytest.mark.parametrize(
    "content_range", ["bytes 5-300000/300001", "bytes 100-300000/300002", "lines 1-2/3", "bytes 100-/300001"]
)
def test_another_part_than_was_asked_for_is_not_appended(web, files, content_range):
    stop_after(web, files, 100)
    web.content_range = content_range
    assert fetch(web, files) == CONTENT
    assert web.asked == ["bytes=100-", None]


def test_a_part_need_not_say_how_long_the_file_is(web, files):
    stop_after(web, files, 100)
    web.content_range = "bytes 100-300000/*"
    assert fetch(web, files) == CONTENT
    assert web.asked == ["bytes=100-"]


def test_a_part_that_nobody_asked_for_is_refused(web, files):
    web.statuses = [206] * 9
    with pytest.raises(StorageError, match="another part than was asked for"):
        fetch(web, files)


def test_a_file_of_unknown_length_is_read_to_its_end(web, files, watch):
    web.states_length = False
    assert fetch(web, files, watch) == CONTENT
    assert watch.bytes[-1] == (len(CONTENT), None)


def test_a_file_longer_than_what_is_kept_of_it_is_not_believed(web, files):
    stop_after(web, files, 100)
    files.partial.write_bytes(bytes(400_000))
    assert fetch(web, files) == CONTENT


@pytest.mark.parametrize("content", ["{", '{"url": "x"}', ""])
def test_a_damaged_note_of_the_version_starts_anew(web, files, content):
    stop_after(web, files, 100)
    files.version.write_text(content)
    assert fetch(web, files) == CONTENT
    assert web.asked == [None]


def test_a_partial_file_of_another_address_is_not_gone_on_from(web, files):
    stop_after(web, files, 100)
    web.url += "2"
    assert fetch(web, files) == CONTENT
    assert web.asked == [None]


def test_a_length_that_is_never_reached_is_given_up(web, files):
    web.stated_length = len(CONTENT) + 7
    with pytest.raises(StorageError, match=r"HTTP 416|ended after 293.0/293.0 kB"):
        fetch(web, files)


def test_a_length_that_is_too_small_gives_a_short_file_for_the_checksum_to_find(web, files):
    web.stated_length = 1000
    assert fetch(web, files) == CONTENT[:1000]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 501])
def test_a_refusal_is_told_at_once(web, files, status):
    web.statuses = [status]
    with pytest.raises(
        StorageError, match=f"{web.url}: the server answered HTTP {status} .*, expected the file"
    ) as error:
        fetch(web, files)
    assert "\n" not in str(error.value)
    assert len(web.asked) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_trouble_is_asked_again_and_then_given_up(web, files, status):
    web.statuses = [status] * 2
    assert fetch(web, files) == CONTENT
    forget(files)
    web.statuses = [status] * 9
    with pytest.raises(StorageError, match=f"HTTP {status} .*4 tries in a row"):
        fetch(web, files)


def test_an_empty_answer_without_a_file_is_refused(web, files):
    web.statuses = [204]
    with pytest.raises(StorageError, match=r"HTTP 204, expected the file \(200\)"):
        fetch(web, files)


def test_a_refusal_keeps_what_has_come(web, files):
    stop_after(web, files, 100)
    web.statuses = [404]
    with pytest.raises(StorageError):
        fetch(web, files)
    assert files.partial.read_bytes() == CONTENT[:100]


def test_a_server_that_is_not_there_is_given_up_in_one_line(files):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(StorageError, match=r"the connection failed \(.*refused\); 4 tries in a row") as error:
        download(f"http://127.0.0.1:{port}/a.tar", files, watch=Watch())
    assert "\n" not in str(error.value)


def test_a_silent_server_is_given_up(files, monkeypatch):
    monkeypatch.setattr(module, "READ_TIMEOUT_S", 0.05)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(StorageError, match=r"the connection failed \(timed out\)"),
    ):
        download(f"http://127.0.0.1:{silent.getsockname()[1]}/a.tar", files, watch=Watch())


def test_a_redirect_is_followed(web, files):
    web.redirects = [f"{web.url}?elsewhere"]
    assert fetch(web, files) == CONTENT


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/a", "data:,a"])
def test_a_redirect_to_another_scheme_is_not_followed(web, files, target):
    web.redirects = [target]
    with pytest.raises(StorageError, match=r"is not allowed|was not followed"):
        fetch(web, files)
    assert not files.partial.exists()


def test_a_redirect_that_cannot_be_read_is_one_line(web, files):
    web.redirects = ["http://[bad"] * 9
    with pytest.raises(StorageError, match="Invalid IPv6 URL"):
        fetch(web, files)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/a.tar", "/etc/hostname", ""])
def test_only_http_addresses_are_opened(files, url):
    with pytest.raises(StorageError, match="another scheme than http or https"):
        download(url, files, watch=Watch())


def test_a_certificate_that_is_not_trusted_is_not_tried_again():
    error = ssl.SSLCertVerificationError("no")
    error.verify_message = "self-signed certificate"
    with pytest.raises(StorageError, match=r"not trusted \(self-signed certificate\)"):
        module._reason("https://a.example", urllib.error.URLError(error))


def test_what_does_not_fit_on_the_disk_is_not_begun(web, files):
    web.stated_length = 10**18
    with pytest.raises(StorageError, match=r"the archive with its unpacked files needs 1862645149\.2 GB, .* are free"):
        fetch(web, files)
    assert not files.partial.exists()


def test_a_disk_that_fills_up_meanwhile_keeps_what_has_come(web, files):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(StorageError, match="File too large; what has come is kept; free disk space"):
            fetch(web, files)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert files.partial.read_bytes() == CONTENT[:100_000]
    assert fetch(web, files) == CONTENT
    assert web.sent[-1] == 200_001


def test_a_folder_in_the_way_is_a_storage_error(web, files):
    files.partial.mkdir()
    with pytest.raises(StorageError, match="cannot write"):
        fetch(web, files)


def test_an_interrupt_in_the_middle_is_gone_on_from(web, files):
    def interrupt(done, total, text):
        if done > 150_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(web, files, interrupt)
    here = files.partial.stat().st_size
    assert here > 150_000
    assert fetch(web, files) == CONTENT
    assert web.sent[-1] == len(CONTENT) - here


def test_md5_is_that_of_the_file(tmp_path, watch):
    (tmp_path / "a").write_bytes(CONTENT * 10)
    assert md5_of(tmp_path / "a", watch=watch) == hashlib.md5(CONTENT * 10).hexdigest()
    assert watch.bytes[-1] == (3_000_010, 3_000_010)
    with pytest.raises(StorageError, match="cannot be read"):
        md5_of(tmp_path / "none", watch=watch)


def test_forgetting_leaves_nothing(web, files):
    fetch(web, files)
    forget(files)
    forget(files)
    assert os.listdir(files.target.parent) == []
