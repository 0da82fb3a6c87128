"""Address -> file: taken up again where it broke off, checked, and under its name only when complete."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import json
import math
import os
import re
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from typing import IO, TYPE_CHECKING, Any

from napari_matseg._version import __version__
from napari_matseg.core.export import make_folder
from napari_matseg.core.locks import lock, unlock
from napari_matseg.core.progress import Progress
from napari_matseg.errors import ModelError, OutputError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

BLOCK = 1 << 20  # bytes read at a time
MEGABYTE = 10**6
PULSE = 0.1  # s between two signs of life, and thereby before a cancel is heard
PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Answers of a server that may be another one a moment later."""


class _BrokenOff(Exception):
    """The transfer ended early, for a reason that may pass."""

    def __init__(self, reason: str, *, offline: bool = False) -> None:
        super().__init__(reason)
        self.offline = offline


def download(
    address: str,
    path: Path,
    sha256: str | None = None,
    *,
    timeout: float = 20.0,
    attempts: int = 5,
    pause: float = 1.0,
) -> Generator[Progress, None, Path]:
    """Fetch a file.

    What arrives is kept as `<name>.part` until it is complete, and a later call goes on from there. Of several
    processes that fetch the same file, one does and the others wait for it.

    Parameters
    ----------
    address : str
        An http or https address; certificates are verified.
    path : Path
        Where the file belongs. One that is there with the right checksum, or with any where none is given, is kept.
    sha256 : str, optional
        Checksum of the file, in hexadecimal digits; the first ones alone, where its makers state no more.
    timeout : float
        Seconds that the server may take to answer, and may fall silent.
    attempts : int
        How often in succession to try without getting any further.
    pause : float
        Seconds before the second attempt; doubled before each one after that.

    Yields
    ------
    Progress
        In megabytes; the last one's note has the checksum of what came.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    ModelError
        If the file cannot be had, or is not the one that the checksum is of.
    OutputError
        If it cannot be written.
    """
    make_folder(path.parent)
    note = path.with_name(f"{path.name}.part.json")
    memo = yield from lock(note, f"waiting for another download of {path.name}")
    try:
        if path.is_file() and (sha256 is None or (yield from hash_file(path)).startswith(sha256)):
            return path
        transfer = _Transfer(address, path, sha256, memo, timeout)
        digest = yield from _persist(transfer, attempts, pause)
        if sha256 is not None and not digest.startswith(sha256) and transfer.resumed:
            transfer.discard()  # the older part may be what is wrong
            digest = yield from _persist(transfer, attempts, pause)
        if sha256 is not None and not digest.startswith(sha256):
            transfer.discard()
            raise ModelError(
                f"{address}: gave another file than expected (sha256 {digest} instead of {sha256}), which was deleted; "
                f"try again later, or {transfer.by_hand}."
            )
        transfer.keep()
        checked = "as expected" if sha256 else "not checked, since its source gives none to compare with"
        if sha256 and len(sha256) < len(digest):
            checked = f"as expected in its first {len(sha256)} digits, which are all that its makers state"
        yield Progress(1, 1, f"{path.name}: sha256 {digest}, {checked}")
        return path
    finally:
        unlock(memo, note, delete=not path.with_name(f"{path.name}.part").exists())


def hash_file(path: Path) -> Generator[Progress, None, str]:
    """Sha256 of a file, in hexadecimal digits.

    Raises
    ------
    ModelError
        If the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            yield from _digest(digest, file, path.stat().st_size, f"checking {path.name}")
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); check its permissions.") from error
    return digest.hexdigest()


def _digest(digest: Any, file: IO[bytes], length: int, note: str) -> Generator[Progress, None, None]:
    done = 0
    while done < length and (block := file.read(min(BLOCK, length - done))):
        digest.update(block)
        done += len(block)
        yield _progress(done, length, note)


def _progress(done: int, total: int | None, note: str) -> Progress:
    """Progress in megabytes, for a Qt progress bar counts only up to 2^31."""
    whole = math.ceil((total or done) / MEGABYTE)
    of = f" of {total / MEGABYTE:.0f}" if total else ""
    return Progress(done // MEGABYTE, max(whole, 1), f"{note}: {done / MEGABYTE:.0f}{of} MB")


def _persist(transfer: _Transfer, attempts: int, pause: float) -> Generator[Progress, None, str]:
    """Try until all has come, or no more comes; returns the checksum of what did."""
    start = farthest = transfer.kept()
    failures = 0
    while True:
        try:
            return (yield from transfer.run())
        except _BrokenOff as error:
            kept = transfer.kept()
            failures = 1 if kept > farthest else failures + 1
            farthest = max(kept, farthest)
            if failures >= attempts or (error.offline and farthest == start):
                part = f" {kept / MEGABYTE:.0f} MB have come and are kept for another try." if kept else ""
                raise ModelError(
                    f"{transfer.address}: cannot be fetched ({error}); check the connection and try again, "
                    f"or {transfer.by_hand}.{part}"
                ) from error
            until = time.monotonic() + pause * 2 ** (failures - 1)
            while (left := until - time.monotonic()) > 0:
                yield _progress(kept, transfer.total, f"{transfer.path.name} ({error}; trying again)")
                time.sleep(min(PULSE, left))


class _Transfer:
    """One file on its way, over as many connections as it takes."""

    def __init__(self, address: str, path: Path, sha256: str | None, memo: IO[bytes], timeout: float) -> None:
        self.address = address
        self.path = path
        self.part = path.with_name(f"{path.name}.part")
        self.sha256 = sha256
        self.memo = memo
        self.timeout = timeout
        self.resumed = False
        self.by_hand = f"get it with a browser and save it as {path.name} in {path.parent}"
        self.total: int | None = None
        self.validator: str | None = None
        known = _read_json(memo)
        if known.get("address") == address:
            self.total, self.validator = known.get("total"), known.get("validator")
        else:
            self.discard()

    def kept(self) -> int:
        """Bytes that have come and can be used."""
        return self.part.stat().st_size if self.part.exists() else 0

    def discard(self) -> None:
        """Forget what has come."""
        self.resumed = False
        self.total = self.validator = None
        with self._writing():
            self.part.unlink(missing_ok=True)

    def keep(self) -> None:
        """Give the file its name."""
        with self._writing():
            with self.part.open("rb+") as written:
                os.fsync(written.fileno())
            self.part.replace(self.path)

    def run(self) -> Generator[Progress, None, str]:
        """Fetch what is missing; returns the checksum of the whole."""
        kept = self.kept()
        if kept and not (self.validator or self.sha256):
            kept = 0  # nothing would tell if the file on the server is another one by now
        if kept and kept == self.total:
            self.resumed = True
            return (yield from hash_file(self.part))
        try:
            with self._open(kept) as response:
                kept = self._match(response, kept)
                return (yield from self._receive(response, kept))
        except urllib.error.HTTPError as error:
            with error:  # it holds the connection
                raise self._refusal(error) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._failure(error) from error

    def _open(self, kept: int) -> http.client.HTTPResponse:
        headers = {"User-Agent": f"napari-matseg/{__version__}", "Accept-Encoding": "identity"}
        if kept:
            headers["Range"] = f"bytes={kept}-"
            if self.validator:
                headers["If-Range"] = self.validator
        opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(context=ssl.create_default_context()),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.UnknownHandler(),
            _NeverToPlain(),
        ):
            opener.add_handler(handler)
        request = urllib.request.Request(self.address, headers=headers)  # noqa: S310
        response: http.client.HTTPResponse = opener.open(request, timeout=self.timeout)
        return response

    def _match(self, response: http.client.HTTPResponse, kept: int) -> int:
        """Find how much of what was kept the answer goes on from, and note what the file is."""
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        if response.status == http.client.PARTIAL_CONTENT:
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            total = int(span[2]) if span and span[2] != "*" else None
            if not span or int(span[1]) != kept or (self.total and total != self.total):
                self.discard()
                raise _BrokenOff("the file has changed since the last attempt")
        else:
            kept = 0
        self.resumed = self.resumed or kept > 0
        self.total = total
        tag = response.headers.get("ETag", "")
        self.validator = response.headers.get("Last-Modified") if not tag or tag.startswith("W/") else tag
        with self._writing():
            _write_json(self.memo, {"address": self.address, "total": total, "validator": self.validator})
        if total is not None and shutil.disk_usage(self.path.parent).free < total - kept:
            raise OutputError(
                f"{self.path}: needs {(total - kept) / MEGABYTE:.0f} MB more than the disk has; free some space."
            )
        return kept

    def _receive(self, response: http.client.HTTPResponse, kept: int) -> Generator[Progress, None, str]:
        digest = hashlib.sha256()
        with self._writing():
            file = self.part.open("rb+" if kept else "wb")
        with file:
            yield from _digest(digest, file, kept, f"checking what came of {self.path.name}")
            done, shown = kept, 0.0
            while block := response.read1(BLOCK):
                digest.update(block)
                done += len(block)
                with self._writing():
                    file.write(block)
                if time.monotonic() - shown > PULSE:
                    yield _progress(done, self.total, f"fetching {self.path.name}")
                    shown = time.monotonic()
            with self._writing():
                file.truncate()
                file.flush()
        if self.total is not None and done < self.total:
            raise _BrokenOff("the connection was lost")
        return digest.hexdigest()

    def _refusal(self, error: urllib.error.HTTPError) -> Exception:
        reason = f"the server says {error.code} {str(error.reason).partition(chr(10))[0]}".rstrip()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            self.discard()
            return _BrokenOff("the file has changed since the last attempt")
        if error.code in PASSING:
            return _BrokenOff(reason)
        return ModelError(f"{self.address}: cannot be fetched ({reason}); {self.by_hand}.")

    def _failure(self, error: OSError | http.client.HTTPException) -> Exception:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, str):
            return ModelError(f"{self.address}: cannot be fetched ({cause}); {self.by_hand}.")
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ModelError(
                f"{self.address}: has a certificate that cannot be verified ({cause.verify_message}); check this "
                f"computer's clock and network, or {self.by_hand}."
            )
        if isinstance(cause, TimeoutError):
            return _BrokenOff(f"no answer for {self.timeout:g} s")
        if isinstance(cause, socket.gaierror):
            return _BrokenOff("this computer is offline, or there is no such server", offline=True)
        return _BrokenOff("the connection was lost, or refused")

    @contextlib.contextmanager
    def _writing(self) -> Generator[None, None, None]:
        try:
            yield
        except OSError as error:
            raise _unwritable(self.path, error) from error


class _NeverToPlain(urllib.request.HTTPRedirectHandler):
    """Follows redirections, but not from an encrypted address to one that is not."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if req.type == "https" and not newurl.startswith("https:"):
            raise urllib.error.URLError(f"it is redirected to {newurl}, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _unwritable(path: Path, error: OSError) -> OutputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(f"{path}: cannot be written, since the disk is full; free some space and try again.")
    return OutputError(f"{path}: cannot be written ({error.strerror or error}); choose a folder that you may write to.")


def _read_json(file: IO[bytes]) -> dict[str, Any]:
    file.seek(0)
    try:
        content = json.loads(file.read() or b"{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _write_json(file: IO[bytes], content: dict[str, Any]) -> None:
    file.seek(0)
    file.truncate()
    file.write(json.dumps(content).encode())
    file.flush()
