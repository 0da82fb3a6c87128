"""Keep the C library from giving memory back between tiles."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Parameters of mallopt, and glibc's own values, from its malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
DEFAULTS = {M_TRIM_THRESHOLD: 128 * 1024, M_TOP_PAD: 128 * 1024, M_MMAP_MAX: 65536}
KEEPING = {M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 64 << 20, M_MMAP_MAX: 0}

_holders: list[None] = []  # one entry for each; the C library's state is the process's, and so is this
_lock = RLock()  # a generator that is collected may end its holding in the midst of another's


@contextmanager
def kept_memory(*, wanted: bool = True) -> Iterator[None]:
    """Hold on to freed memory while networks run on the CPU, and give it back afterwards.

    glibc maps each large block anew from the system, which zeroes its pages one fault at a time: for networks on
    large tiles that takes as long as the arithmetic. Nothing is changed with another C library, or where the user
    has set glibc's own variables (``MALLOC_...``). Where several hold on at a time, in each other or in other threads,
    it is given back after the last.

    Parameters
    ----------
    wanted : bool
        Whether to do it at all; on a GPU there is nothing to gain.
    """
    libc = _glibc() if wanted else None
    if libc is None:
        yield
        return
    with _lock:
        _holders.append(None)
        if len(_holders) == 1:
            for parameter, value in KEEPING.items():
                libc.mallopt(parameter, value)
    try:
        yield
    finally:
        with _lock:
            _holders.pop()
            if not _holders:
                for parameter, value in DEFAULTS.items():
                    libc.mallopt(parameter, value)
                libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux") or any(name.startswith("MALLOC_") for name in os.environ):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "mallopt") else None
