"""Damage in TIFF files becomes an `InputError`, whether tifffile raises it, only logs it, or would hang on it."""

from __future__ import annotations

import logging
import re
import struct
from contextlib import contextmanager
from contextvars import ContextVar
from typing import IO, TYPE_CHECKING, Any

from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Tags that say what the pixels are: geometry, coding, place, samples. A damaged one makes a wrong image.
ESSENTIAL = {256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 338, 339, 347}
LOST_PIXELS = re.compile(
    "corrupted|invalid (page )?offset|circular|missing (data|ByteCounts)|missing .*(frames|pages)|zeroed"
    "|incorrect Strip"
)

OLYMPUS_INI = 33471
MOST_DIGITS = 5
"""Of a count of bands."""

_complaints: ContextVar[list[str] | None] = ContextVar("complaints", default=None)


class _Listener(logging.Filter):
    """Takes what tifffile logs while a file is read here; what it logs for others passes."""

    def filter(self, record: logging.LogRecord) -> bool:
        complaints = _complaints.get()
        if complaints is not None:
            complaints.append(record.getMessage())
        return complaints is None


logging.getLogger("tifffile").addFilter(_Listener())


@contextmanager
def damage_as_error(path: Path) -> Iterator[None]:
    """Turn any failure of tifffile and its decoders, and what it only logs of lost pixels, into an `InputError`."""
    complaints: list[str] = []
    token = _complaints.set(complaints)
    try:
        yield
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{path}: does not fit into the memory; save it as a tiled TIFF.") from error
    except (FileNotFoundError, PermissionError) as error:
        raise InputError(
            f"{path}: cannot be read any more ({error.strerror}); check the path and the drive."
        ) from error
    except Exception as error:
        raise _damaged(path, str(error) or type(error).__name__) from error
    finally:
        _complaints.reset(token)
    for message in complaints:
        tag = re.search(r"TiffTag (\d+)", message)
        if LOST_PIXELS.search(message) or (tag and int(tag[1]) in ESSENTIAL):
            raise _damaged(path, message)


def _damaged(path: Path, detail: str) -> InputError:
    detail = re.sub(r"<tifffile\.(\w+(?: \d+)?)[^>]*>", r"\1", detail).strip().splitlines()[0][:120]
    return InputError(f"{path}: the TIFF is damaged or of an unsupported kind ({detail}); save it again as TIFF.")


def check_chain(path: Path) -> None:
    """Follow the chain of pages once, as tifffile would follow a long circle for ever.

    Raises
    ------
    InputError
        If the chain leads out of the file, or into itself.
    """
    with path.open("rb") as file:
        order = "<" if file.read(2) == b"II" else ">"
        is_big = _number(path, file, order + "H") == 43
        pointer, count, entry = (order + "Q", order + "Q", 20) if is_big else (order + "I", order + "H", 12)
        file.seek(8 if is_big else 4)
        offset = _number(path, file, pointer)
        seen: set[int] = set()
        while offset and offset not in seen:
            seen.add(offset)
            file.seek(offset)
            n_tags = _number(path, file, count)
            file.seek(min(n_tags, 2**32) * entry, 1)
            offset = _number(path, file, pointer)
    if offset:
        raise _damaged(path, "its pages form a circle")


def check_counts(path: Path, page: Any) -> None:
    """Refuse a record of Olympus that counts more bands than any file has; tifffile makes room for all of them."""
    tag = page.tags.get(OLYMPUS_INI)
    if tag is None:
        return
    with path.open("rb") as file:
        file.seek(tag.valueoffset)
        text = file.read(tag.valuebytecount)
    if any(len(digits.lstrip(b"0")) > MOST_DIGITS for digits in re.findall(rb"(?:Band|Count)\s*=\s*(\d+)", text)):
        raise _damaged(path, f"tag {OLYMPUS_INI} counts too many bands")


def _number(path: Path, file: IO[bytes], kind: str) -> int:
    raw = file.read(struct.calcsize(kind))
    if len(raw) < struct.calcsize(kind):
        raise InputError(f"{path}: the TIFF is truncated; copy it again from its source.")
    return int(struct.unpack(kind, raw)[0])
