from __future__ import annotations

import pickle

import pytest

from napari_matseg.errors import InputError, MatsegError


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("a µ 中 file.tif: is damaged; copy it again.", "a µ 中 file.tif: is damaged; copy it again."),
        ("two\nlines\x1b[2J", "two\\nlines\\x1b[2J"),
        ("\ud800 \u202e", "\\ud800 \\u202e"),
    ],
)
def test_a_message_is_one_line_that_can_be_printed(message, shown):
    assert str(InputError(message)) == shown
    str(InputError(message)).encode("utf-8")


def test_errors_travel_between_processes():
    again = pickle.loads(pickle.dumps(InputError("a.tif:\n is empty")))  # noqa: S301
    assert isinstance(again, InputError)
    assert str(again) == "a.tif:\\n is empty"
    assert str(MatsegError()) == ""
