"""Damage to bytes and to JSON, whatever they mean."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from random import Random

HOSTILE = (
    *(None, True, -1, 0, 1, 2**31, 2**63, 2**64, 10**40, -(2**31), 0.5, -1e308, 1e-320, float("nan"), float("inf")),
    *("", "x" * 10_000, "\0", "\x1b[2J\n", "\ud800", "../../../../etc/hostname", "/etc/hostname", "a\\..\\b", "\u202e"),
    *([], {}, [[]], [None], {"a": {}}, [2**40, 2**40], [-1, 5], [0, 0], ["y", "y"]),
)


def words(length: int) -> list[int]:
    """Numbers that readers stumble over, in a file of this length."""
    edges = [0, 1, 2, 3, 7, 8, 255, 256, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
    return [*edges, length, length - 1, length + 1, length // 2]


def patched(raw: bytes, at: int, new: bytes) -> bytes:
    """Put bytes in place of others."""
    return raw[:at] + new + raw[at + len(new) :]


def damaged(raw: bytes, chance: Random, head: int = 0) -> bytes:
    """Change, drop, repeat, insert or cut off some bytes; half of the changes are among the first `head`."""
    for _ in range(chance.choice((1, 1, 2, 4, 9))):
        if not raw:
            break
        at = chance.randrange(min(head, len(raw)) if head and chance.random() < 0.5 else len(raw))
        size = chance.choice((1, 1, 2, 4, 8))
        way = chance.random()
        if way < 0.3:
            raw = patched(raw, at, chance.randbytes(size))[: len(raw)]
        elif way < 0.55:
            raw = patched(raw, at, (chance.choice(words(len(raw))) % 256**size).to_bytes(size, "little"))[: len(raw)]
        elif way < 0.7:
            raw = patched(raw, at, bytes([raw[at] ^ (1 << chance.randrange(8))]))
        elif way < 0.78:
            raw = raw[:at] + raw[at + size * chance.choice((1, 30)) :]
        elif way < 0.86:
            raw = raw[:at] + raw[at : at + 40] + raw[at:]
        elif way < 0.93:
            raw = raw[:at] + chance.randbytes(size) + raw[at:]
        else:
            raw = raw[:at]
    return raw


def json_damaged(raw: bytes, chance: Random) -> bytes:
    """Damage JSON as text, or put something else in place of a value in it."""
    if chance.random() < 0.25:
        return damaged(raw, chance)
    if chance.random() < 0.05:
        return chance.choice((b"[" * 100_000, b'{"a":' * 100_000, b"9" * 100_000, b"\xff\xfe", b"", b"null"))
    document = json.loads(raw)
    places = list(_places(document))
    if not places:
        return damaged(raw, chance)
    for _ in range(chance.choice((1, 1, 2))):
        inside, key = chance.choice(places)
        value = chance.choice(HOSTILE)
        if value == [] and chance.random() < 0.5 and isinstance(inside, dict):
            inside.pop(key, None)
        else:
            inside[key] = value
    return json.dumps(document).encode()


def _places(document: Any) -> Any:
    """Each dictionary or list with each of its keys."""
    keys: Any = document if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ()
    for key in list(keys):
        yield document, key
        yield from _places(document[key])
