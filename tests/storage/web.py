"""A web server that serves one file as badly as it is told to."""

import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BLOCK = 4096


class Web:
    """Serves `content` on every path within a `with` block; its fields may be changed while it runs."""

    def __init__(self, content=b""):
        self.content = content
        self.headers = {"ETag": '"one"'}
        self.statuses = []
        """Of the next requests, before good ones."""
        self.cuts = []
        """After how many bytes the next answers end; None for not at all."""
        self.redirects = []
        self.knows_ranges = True
        self.knows_if_range = True
        self.states_length = True
        self.stated_length = None
        """Instead of the true one."""
        self.content_range = None
        """Instead of the true one."""
        self.part_headers = None
        """Of parts, instead of `headers`."""
        self.pause_s = 0.0
        """After each block."""
        self.asked = []
        """`Range` of each request, None where there was none."""
        self.sent = []
        """Bytes of each answer."""

    def __enter__(self):
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # clients that hang up are part of the tests
        self.url = f"http://127.0.0.1:{self._server.server_port}/Task.tar"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def _handler(web):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            web.asked.append(self.headers.get("Range"))
            web.sent.append(0)
            self.number = len(web.sent) - 1
            if web.redirects:
                self._answer(302, {"Location": web.redirects.pop(0), "Content-Length": "0"})
            elif web.statuses:
                self._answer(web.statuses.pop(0), {"Content-Length": "0"})
            else:
                self._send(self._offset())

        def _offset(self):
            """Return where the answer begins, or None for all of the file."""
            fresh = self.headers.get("If-Range") in (None, *web.headers.values()) or not web.knows_if_range
            asked = self.headers.get("Range")
            return int(asked.removeprefix("bytes=").removesuffix("-")) if asked and web.knows_ranges and fresh else None

        def _send(self, offset):
            body, content = web.content[offset or 0 :], web.content
            if offset is not None and offset >= len(content):
                self._answer(416, {"Content-Length": "0"})
                return
            headers = dict(web.headers)
            if offset is not None:
                headers = dict(web.headers if web.part_headers is None else web.part_headers)
                headers["Content-Range"] = web.content_range or f"bytes {offset}-{len(content) - 1}/{len(content)}"
            if web.states_length:
                headers["Content-Length"] = str(web.stated_length or len(body))
            self._answer(200 if offset is None else 206, headers)
            self._body(body[: web.cuts.pop(0)] if web.cuts else body)

        def _answer(self, status, headers):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def _body(self, body):
            with suppress(ConnectionError):
                for start in range(0, len(body), BLOCK):
                    web.sent[self.number] += len(body[start : start + BLOCK])  # before the client can know
                    self.wfile.write(body[start : start + BLOCK])
                    time.sleep(web.pause_s)

        def log_message(self, *_):
            pass

    return Handler
