"""One mutant in a process of its own, with bounds on memory and time, and with nothing that it does unseen."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.read import read
from napari_matseg.errors import MatsegError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fuzz_files import Case

MOST_CPU_SECONDS = 20
MOST_SECONDS = 90
"""By the clock; a mutant that waits for something uses no CPU."""
MOST_BYTES = 2**30
"""Of memory beyond what the program takes with its libraries."""
ADDRESSES = 8 * 2**30
"""Of address space beyond that, so that a mutant that breaks the bound does not break the machine."""
MOST_READ = 64 * 2**20
"""Larger images are read in parts."""
LONGEST_LINE = 500

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
NETWORK = {"socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto", "urllib.Request"}
PROGRAMS = {"os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "ctypes.dlopen"}
OWN = tuple(os.path.realpath(one) for one in {sys.prefix, sys.base_prefix, *filter(None, sys.path)})
SYSTEM = ("/proc/", "/sys/", "/dev/null", "/dev/urandom", "/usr/", "/lib", "/etc/")
CANARY = "/etc/hostname"
"""A file that mutants name, and that no image may be read from."""


@dataclass(frozen=True)
class Result:
    """What became of a mutant.

    Attributes
    ----------
    outcome : str
        "error" (a clear one), "image" (a right one) or "fault".
    detail : str
        The error's message, what the image is, or what went wrong.
    seconds : float
        Of CPU.
    n_bytes : int
        Peak memory beyond what the program takes with its libraries.
    """

    outcome: str
    detail: str
    seconds: float
    n_bytes: int


def run(case: Case) -> Result:
    """Read a mutant in a fork of this process, which must have no threads."""
    before = _snapshot(case.folder)
    ours, theirs = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        os.close(ours)
        _child(case, theirs)
    os.close(theirs)
    raw, late = _answer(ours)
    if late:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    _, status, used = os.wait4(pid, 0)
    seconds = used.ru_utime + used.ru_stime
    outcome, detail, base = json.loads(raw) if raw else ("fault", _end(status, late=late), 0)
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) - base
    if outcome != "fault":
        changed = sorted(set(_snapshot(case.folder).items()) ^ set(before.items()))
        if changed:
            outcome, detail = "fault", f"changed {changed[0][0]}"
        elif peak > MOST_BYTES:
            outcome, detail = "fault", f"took {peak / 2**20:.0f} MiB: {detail}"
        elif seconds > MOST_CPU_SECONDS:
            outcome, detail = "fault", f"took {seconds:.0f} s: {detail}"
    return Result(outcome, detail, seconds, max(peak, 0))


def _answer(pipe: int) -> tuple[bytes, bool]:
    """Wait for what the child says; and whether it was too late."""
    end = time.monotonic() + MOST_SECONDS
    raw = b""
    with os.fdopen(pipe, "rb", 0) as file:
        while select.select([file], [], [], max(end - time.monotonic(), 0))[0]:
            more = file.read(65536)
            if not more:
                return raw, False
            raw += more
    return b"", True


def _end(status: int, *, late: bool) -> str:
    if late:
        return f"hung for {MOST_SECONDS} s"
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if number == signal.SIGXCPU:
        return f"took more than {MOST_CPU_SECONDS} s"
    return f"crashed ({signal.Signals(number).name})" if number else "ended without a word"


def _child(case: Case, pipe: int) -> None:
    """Read a mutant, say what came of it, and end."""
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_SECONDS + 5, MOST_CPU_SECONDS + 10))
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit = pages * resource.getpagesize() + ADDRESSES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    seen: list[str] = []
    os.chdir(case.folder)
    base = _resident()
    sys.addaudithook(_watch(case.folder, seen))
    try:
        outcome, detail = _look(case)
    except BaseException as error:  # noqa: BLE001
        outcome, detail = "fault", f"{type(error).__name__}: {str(error)[:300]}"
    if seen:
        outcome, detail = "fault", seen[0]
    os.write(pipe, json.dumps([outcome, detail, base]).encode())
    os._exit(0)


def _watch(folder: Path, seen: list[str]) -> Any:
    """Note what a reader of images has no reason to do."""
    inside = (str(folder.resolve()), *OWN, *SYSTEM)

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes):
            path, _, flags = arguments
            name = os.path.realpath(os.fsdecode(path))
            if (flags or 0) & WRITES and name != os.devnull:
                seen.append(f"wrote {name}")
            elif name == CANARY or not name.startswith(inside):
                seen.append(f"read {name}")
        elif event in CHANGES or event in NETWORK:
            seen.append(f"{event} {arguments}"[:200])
        elif event in PROGRAMS and "hdf5_probe.py" not in str(arguments):
            seen.append(f"{event} {arguments}"[:200])

    return look


def _look(case: Case) -> tuple[str, str]:
    """Outcome and detail of a mutant that is read to its ends."""
    try:
        micrograph = read(case.path)
        known = json.dumps([micrograph.describe(), micrograph.metadata, micrograph.vendor], allow_nan=False)
        known.encode("utf-8")
        if micrograph.pixel_size_nm is not None and not all(1e-5 < size < 1e8 for size in micrograph.pixel_size_nm):
            return "fault", f"a pixel size of {micrograph.pixel_size_nm}"
        if micrograph.data_bar is not None and not 0 <= micrograph.data_bar[0] < micrograph.data_bar[1]:
            return "fault", f"a data bar of {micrograph.data_bar}"
        whole = None
        if micrograph.pixels.size * micrograph.pixels.dtype.itemsize <= MOST_READ:
            whole = np.asarray(micrograph.pixels)
            parts: list[Any] = [whole]
        else:
            parts = [_part(micrograph.pixels, where) for where in (0, -1)]
        parts += [_part(level, 0) for level in micrograph.levels]
    except MatsegError as error:
        message = str(error)
        if not message.startswith(str(case.path)) or not message.isprintable() or len(message) > LONGEST_LINE:
            return "fault", f"not a clear line: {message!r}"
        return ("fault", f"refused: {message}") if case.rule == "image" else ("error", message)
    if any(part.dtype != micrograph.pixels.dtype for part in parts):
        return "fault", "parts of another type"
    if case.rule == "error":
        return "fault", f"an image of {micrograph.pixels.shape}, though {case.what}"
    if case.expected is not None and (whole is None or not _equal(whole, case.expected)):
        return "fault", f"a wrong image of {micrograph.pixels.shape}, {case.what}"
    return "image", f"{micrograph.pixels.shape} {micrograph.axes} {micrograph.pixels.dtype}"


def _equal(image: np.ndarray, expected: np.ndarray) -> bool:
    return image.shape == expected.shape and np.array_equal(image, expected, equal_nan=image.dtype.kind == "f")


def _part(pixels: Any, where: int) -> np.ndarray:
    """Read a corner of the first or the last plane."""
    ends = tuple(slice(0, 64) if where == 0 else slice(max(length - 64, 0), None) for length in pixels.shape[-3:])
    return np.asarray(pixels[(*[where] * (pixels.ndim - len(ends)), *ends)])


def _snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    """All that is in a folder, with size and time of change."""

    def entries() -> Iterator[tuple[str, tuple[int, int, int]]]:
        for place, folders, files in os.walk(folder):
            for name in (*folders, *files):
                path = os.path.join(place, name)
                known = os.lstat(path)
                yield path, (known.st_mode, known.st_size, known.st_mtime_ns)

    return dict(entries())


def _resident() -> int:
    """Bytes of memory that this process takes."""
    if sys.platform == "linux":
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def prepare() -> None:
    """Load now what reading needs, so that no mutant pays for it."""
    import h5py  # noqa: F401
    import imagecodecs  # noqa: F401
    import zarr  # noqa: F401
    from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin  # noqa: F401
    from rsciio import digitalmicrograph, emd, tia  # noqa: F401

    from napari_matseg.core import read_formats, read_mrc, read_tiff, read_zarr  # noqa: F401
