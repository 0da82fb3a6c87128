from __future__ import annotations

import errno
import hashlib
import json
import re
import shutil
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from napari_matseg.core import download as module
from napari_matseg.core.download import download, hash_file
from napari_matseg.core.progress import Progress, finish
from napari_matseg.errors import ModelError, OutputError

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
BY_HAND = "get it with a browser and save it as model.pth in "


class Server(ThreadingHTTPServer):
    """Serves `content` and misbehaves as its flags say; keeps the headers of the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.tag: str | None = '"1"'
        self.changed: str | None = None
        self.ranges = True
        self.statuses: list[int] = []
        self.cuts: list[int] = []
        self.length: int | None = None
        self.silence = 0.0
        self.redirect = ""
        self.requests: list[dict[str, str]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/files/vit_b.pt"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients of these tests hang up."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version: ClassVar = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        server.requests.append(dict(self.headers))
        if server.statuses and (status := server.statuses.pop(0)) != 200:
            self.send_error(status)
            return
        if server.redirect and self.path == "/files/vit_b.pt":
            self.send_response(302)
            self.send_header("Location", server.redirect)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start, total = 0, len(server.content)
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") in (None, server.tag)
        if wanted and server.ranges and same:
            start = int(wanted[1])
            if start >= total:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{total}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", server.changed or f"bytes {start}-{total - 1}/{total}")
        else:
            self.send_response(200)
        if server.tag:
            self.send_header("ETag", server.tag)
        body = server.content[start:]
        self.send_header("Content-Length", str(server.length or len(body)))
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else len(body)
        self.wfile.write(body[: server.length or len(body)][:cut])
        self.wfile.flush()
        if cut < len(body):
            time.sleep(server.silence)
            self.close_connection = True


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server() -> Iterator[Server]:
    serving = Server()
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield serving
    serving.shutdown()
    serving.server_close()
    thread.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "models" / "model.pth"


def fetch(server: Server, path: Path, sha256: str | None = SHA256, **options: float) -> Path:
    return finish(download(server.address, path, sha256, **({"timeout": 2.0, "pause": 0.01} | options)))


def start(server: Server, path: Path, sent: int, sha256: str | None = SHA256) -> None:
    """Fetch the first bytes in a call that fails."""
    server.cuts.append(sent)
    with pytest.raises(ModelError, match="the connection was lost"):
        fetch(server, path, sha256, attempts=1)
    server.requests.clear()


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


class TestServed:
    def test_whole(self, server: Server, path: Path) -> None:
        assert fetch(server, path) == path
        assert path.read_bytes() == CONTENT
        assert names(path) == ["model.pth"]
        (headers,) = server.requests
        assert headers["User-Agent"].startswith("napari-matseg/")
        assert "Range" not in headers

    def test_progress_is_in_megabytes_and_ends_with_the_checksum(
        self, server: Server, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "PULSE", 0)
        server.content = CONTENT * 8
        *steps, last = list(download(server.address, path, None))
        assert steps
        assert all(isinstance(step, Progress) and step.total == 3 and step.done <= 2 for step in steps)
        assert steps[-1].note == "fetching model.pth: 2 of 2 MB"
        digest = hashlib.sha256(server.content).hexdigest()
        assert last.note == f"model.pth: sha256 {digest}, not checked, since its source gives none to compare with"

    def test_checked(self, server: Server, path: Path) -> None:
        *_, last = list(download(server.address, path, SHA256))
        assert last == Progress(1, 1, f"model.pth: sha256 {SHA256}, as expected")

    def test_nothing_is_fetched_that_is_there(self, server: Server, path: Path) -> None:
        fetch(server, path)
        server.requests.clear()
        assert fetch(server, path) == fetch(server, path, None) == path
        assert not server.requests
        assert names(path) == ["model.pth"]

    def test_a_damaged_file_is_replaced(self, server: Server, path: Path) -> None:
        path.parent.mkdir()
        path.write_bytes(b"damaged")
        fetch(server, path)
        assert path.read_bytes() == CONTENT

    def test_redirection(self, server: Server, path: Path) -> None:
        server.redirect = "/elsewhere"
        assert fetch(server, path).read_bytes() == CONTENT

    def test_no_length(self, server: Server, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Handler, "protocol_version", "HTTP/1.0")
        send = Handler.send_header
        monkeypatch.setattr(
            Handler, "send_header", lambda self, key, value: key != "Content-Length" and send(self, key, value)
        )
        assert fetch(server, path).read_bytes() == CONTENT

    def test_empty(self, server: Server, path: Path) -> None:
        server.content = b""
        assert fetch(server, path, None).read_bytes() == b""


class TestResumed:
    def test_within_a_call(self, server: Server, path: Path) -> None:
        server.cuts = [100_000, 50_000]
        fetch(server, path)
        assert path.read_bytes() == CONTENT
        assert [headers.get("Range") for headers in server.requests] == [None, "bytes=100000-", "bytes=150000-"]
        assert server.requests[1]["If-Range"] == '"1"'

    def test_by_a_later_call(self, server: Server, path: Path) -> None:
        start(server, path, 100_000)
        assert names(path) == ["model.pth.part", "model.pth.part.json"]
        fetch(server, path)
        assert [headers.get("Range") for headers in server.requests] == ["bytes=100000-"]
        assert path.read_bytes() == CONTENT
        assert names(path) == ["model.pth"]

    def test_after_a_cancel(self, server: Server, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "PULSE", 0)
        monkeypatch.setattr(module, "BLOCK", 10_000)
        work = download(server.address, path, SHA256)
        for _ in range(5):
            next(work)
        work.close()
        kept = path.with_name("model.pth.part").stat().st_size
        assert 0 < kept < len(CONTENT)
        server.requests.clear()
        fetch(server, path)
        assert server.requests[0]["Range"] == f"bytes={kept}-"
        assert path.read_bytes() == CONTENT

    def test_all_there_but_the_name(self, server: Server, path: Path) -> None:
        start(server, path, 100_000)
        path.with_name("model.pth.part").write_bytes(CONTENT)
        fetch(server, path)
        assert path.read_bytes() == CONTENT
        assert not server.requests

    @pytest.mark.parametrize("tag", ['"2"', None])
    def test_file_that_changed_is_fetched_anew(self, server: Server, path: Path, tag: str | None) -> None:
        start(server, path, 100_000, None)
        server.tag, server.content = tag, CONTENT[::-1]
        assert fetch(server, path, None).read_bytes() == CONTENT[::-1]

    def test_without_a_tag_and_a_checksum_nothing_is_trusted(self, server: Server, path: Path) -> None:
        server.tag = None
        start(server, path, 100_000, None)
        fetch(server, path, None)
        assert "Range" not in server.requests[0]
        assert path.read_bytes() == CONTENT

    @pytest.mark.parametrize("tag", [None, 'W/"1"'])
    def test_without_a_strong_tag_the_checksum_will_tell(self, server: Server, path: Path, tag: str | None) -> None:
        server.tag = tag
        start(server, path, 100_000)
        fetch(server, path)
        assert server.requests[0]["Range"] == "bytes=100000-"
        assert "If-Range" not in server.requests[0]
        assert path.read_bytes() == CONTENT

    def test_server_that_ignores_ranges(self, server: Server, path: Path) -> None:
        server.ranges = False
        start(server, path, 100_000)
        fetch(server, path)
        assert len(server.requests) == 1
        assert path.read_bytes() == CONTENT

    @pytest.mark.parametrize("answer", ["bytes 0-299999/300000", "bytes 100000-1/5", "nonsense"])
    def test_range_that_was_not_asked_for(self, server: Server, path: Path, answer: str) -> None:
        start(server, path, 100_000)
        server.changed = answer
        fetch(server, path)
        assert [headers.get("Range") for headers in server.requests] == ["bytes=100000-", None]
        assert path.read_bytes() == CONTENT

    def test_shorter_file_than_was_kept(self, server: Server, path: Path) -> None:
        server.tag = None
        start(server, path, 100_000)
        server.content = CONTENT[:1000]
        assert fetch(server, path, hashlib.sha256(CONTENT[:1000]).hexdigest()).stat().st_size == 1000

    def test_damaged_part_is_fetched_anew(self, server: Server, path: Path) -> None:
        start(server, path, 100_000)
        path.with_name("model.pth.part").write_bytes(b"x" * 100_000)
        fetch(server, path)
        assert path.read_bytes() == CONTENT

    def test_part_of_another_address(self, server: Server, path: Path) -> None:
        start(server, path, 100_000)
        memo = path.with_name("model.pth.part.json")
        memo.write_text(json.dumps(json.loads(memo.read_text()) | {"address": "http://elsewhere"}))
        fetch(server, path)
        assert "Range" not in server.requests[0]

    @pytest.mark.parametrize("note", ["", "{", "[]", "\0" * 100])
    def test_damaged_note(self, server: Server, path: Path, note: str) -> None:
        start(server, path, 100_000)
        path.with_name("model.pth.part.json").write_text(note)
        assert fetch(server, path).read_bytes() == CONTENT


class TestFaults:
    def test_passing_ones_are_sat_out(self, server: Server, path: Path) -> None:
        server.statuses = [500, 503, 429]
        notes = [step.note for step in download(server.address, path, SHA256, pause=0.05)]
        assert "model.pth (the server says 500 Internal Server Error; trying again): 0 MB" in notes
        assert path.read_bytes() == CONTENT

    def test_lasting_ones_are_told(self, server: Server, path: Path) -> None:
        server.statuses = [500] * 9
        with pytest.raises(ModelError, match=re.escape("(the server says 500 Internal Server Error); check the")):
            fetch(server, path, attempts=3)
        assert len(server.requests) == 3
        assert names(path) == []

    def test_missing_file(self, server: Server, path: Path) -> None:
        server.statuses = [404] * 9
        with pytest.raises(ModelError) as caught:
            fetch(server, path)
        assert str(caught.value) == (
            f"{server.address}: cannot be fetched (the server says 404 Not Found); {BY_HAND}{path.parent}."
        )
        assert len(server.requests) == 1

    def test_silence(self, server: Server, path: Path) -> None:
        server.cuts, server.silence = [1000] * 9, 0.5
        with pytest.raises(
            ModelError, match=r"cannot be fetched \(no answer for 0\.1 s\).*0 MB have come and are kept"
        ):
            fetch(server, path, timeout=0.1, attempts=1)

    def test_cut_again_and_again_without_getting_on(self, server: Server, path: Path) -> None:
        server.cuts, server.ranges = [1000] * 99, False
        with pytest.raises(ModelError, match="the connection was lost"):
            fetch(server, path, attempts=3)
        assert len(server.requests) == 3

    def test_cut_again_and_again_but_getting_on(self, server: Server, path: Path) -> None:
        server.cuts = [50_000] * 5
        fetch(server, path, attempts=2)
        assert path.read_bytes() == CONTENT

    @pytest.mark.parametrize("length", [1000, 299_999])
    def test_length_that_is_too_short(self, server: Server, path: Path, length: int) -> None:
        server.length = length
        with pytest.raises(ModelError, match="gave another file than expected"):
            fetch(server, path)
        assert names(path) == []

    def test_length_that_is_too_long(self, server: Server, path: Path) -> None:
        server.length, server.ranges, server.cuts = 400_000, False, [299_999] * 9
        with pytest.raises(ModelError, match="the connection was lost"):
            fetch(server, path, attempts=2)
        assert not path.exists()

    def test_wrong_bytes(self, server: Server, path: Path) -> None:
        server.content = b"<html>log in first</html>"
        with pytest.raises(ModelError) as caught:
            fetch(server, path)
        found = hashlib.sha256(server.content).hexdigest()
        assert str(caught.value) == (
            f"{server.address}: gave another file than expected (sha256 {found} instead of {SHA256}), which was "
            f"deleted; try again later, or {BY_HAND}{path.parent}."
        )
        assert names(path) == []
        assert len(server.requests) == 1

    def test_wrong_bytes_leave_the_file_that_was_there(self, server: Server, path: Path) -> None:
        path.parent.mkdir()
        path.write_bytes(b"older")
        server.content = b"wrong"
        with pytest.raises(ModelError, match="gave another file"):
            fetch(server, path)
        assert path.read_bytes() == b"older"

    def test_nobody_there(self, server: Server, path: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            address = f"http://127.0.0.1:{taken.getsockname()[1]}/a"
            with pytest.raises(ModelError, match="the connection was lost, or refused"):
                finish(download(address, path, attempts=2, pause=0.01))

    def test_offline(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def resolve(*_: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        before = time.monotonic()
        with pytest.raises(ModelError) as caught:
            finish(download("https://server/a.pth", path))
        assert time.monotonic() - before < 1
        assert str(caught.value) == (
            "https://server/a.pth: cannot be fetched (this computer is offline, or there is no such server); check "
            f"the connection and try again, or {BY_HAND}{path.parent}."
        )

    def test_certificate(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def handshake(*_: object, **__: object) -> None:
            error = ssl.SSLCertVerificationError(1, "certificate verify failed")
            error.verify_message = "self-signed certificate"
            raise urllib.error.URLError(error)

        monkeypatch.setattr(urllib.request.HTTPSHandler, "https_open", handshake)
        with pytest.raises(ModelError, match=r"certificate that cannot be verified \(self-signed certificate\)"):
            finish(download("https://server/a.pth", path))

    def test_certificates_are_asked_for(self, server: Server, path: Path) -> None:
        contexts = []
        handler = urllib.request.HTTPSHandler

        class Spy(handler):
            def __init__(self, context: ssl.SSLContext) -> None:
                contexts.append(context)
                super().__init__(context=context)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(urllib.request, "HTTPSHandler", Spy)
            fetch(server, path)
        (context,) = contexts
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname

    def test_never_from_https_to_http(self) -> None:
        request = urllib.request.Request("https://server/a")
        redirect = module._NeverToPlain().redirect_request
        with pytest.raises(urllib.error.URLError, match="which is not encrypted"):
            redirect(request, None, 302, "Found", {}, "http://server/a")
        assert redirect(request, None, 302, "Found", {}, "https://server/b").full_url == "https://server/b"

    @pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://server/a", "data:,a"])
    def test_other_protocols(self, path: Path, address: str) -> None:
        with pytest.raises(ModelError, match=r"cannot be fetched .*unknown url type"):
            finish(download(address, path))

    def test_redirection_to_itself(self, server: Server, path: Path) -> None:
        server.redirect = "/files/vit_b.pt"
        with pytest.raises(ModelError) as caught:
            fetch(server, path)
        assert "infinite loop" in str(caught.value)
        assert "\n" not in str(caught.value)


class TestWriting:
    def test_file_in_place_of_the_folder(self, server: Server, path: Path) -> None:
        path.parent.write_text("")
        with pytest.raises(OutputError, match="cannot be made"):
            fetch(server, path)

    def test_folder_in_place_of_the_note(self, server: Server, path: Path) -> None:
        path.with_name("model.pth.part.json").mkdir(parents=True)
        with pytest.raises(OutputError, match=r"model\.pth\.part\.json: cannot be written .*choose a folder"):
            fetch(server, path)

    def test_folder_in_place_of_the_file(self, server: Server, path: Path) -> None:
        path.mkdir(parents=True)
        with pytest.raises(OutputError, match=r"model\.pth: cannot be written"):
            fetch(server, path)

    def test_too_little_room(self, server: Server, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
        server.content = CONTENT * 7
        with pytest.raises(OutputError, match=r"model\.pth: needs 2 MB more than the disk has; free some space"):
            fetch(server, path)

    def test_disk_that_fills_up(self, server: Server, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        opened = Path.open

        def full(self: Path, mode: str = "r", *args: object) -> object:
            if not self.name.endswith(".part"):
                return opened(self, mode, *args)
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "open", full)
        with pytest.raises(OutputError, match="the disk is full; free some space and try again"):
            fetch(server, path)


class TestTogether:
    def test_one_fetches_and_the_others_wait(self, server: Server, path: Path) -> None:
        server.cuts, server.silence = [100_000], 0.3
        done: list[Path] = []
        threads = [threading.Thread(target=lambda: done.append(fetch(server, path))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert done == [path] * 4
        assert len(server.requests) == 2
        assert path.read_bytes() == CONTENT
        assert names(path) == ["model.pth"]

    def test_waiting_can_be_cancelled(self, server: Server, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "PULSE", 0)
        first = download(server.address, path, SHA256)
        next(first)
        second = download(server.address, path, SHA256)
        assert next(second).note == "waiting for another download of model.pth"
        second.close()
        assert finish(first) == path


class TestHashing:
    def test_is_sha256(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(CONTENT)
        assert finish(hash_file(tmp_path / "a")) == SHA256

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="a: cannot be read"):
            finish(hash_file(tmp_path / "a"))
