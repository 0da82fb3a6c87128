"""Run bioimage.io's own test on a package, without a network; prints its status and what it found wrong."""

from __future__ import annotations

import socket
import sys
from types import FunctionType


def refuse(*_: object) -> None:
    raise OSError("this test has no network")


socket.socket.connect = refuse  # type: ignore[method-assign, assignment]

from bioimageio.spec._internal.io_packaging import package_file_descr_serializer  # noqa: E402
from bioimageio.spec._internal.validated_string_with_inner_node import ValidatedStringWithInnerNode  # noqa: E402
from bioimageio.spec.model.v0_4 import package_weights  # noqa: E402


def without_info(value, handler, info, original):  # type: ignore[no-untyped-def]
    return original(value, lambda one, _=None: handler(one), info)


# bioimageio.spec to 0.5.12 hands pydantic an argument that pydantic refuses from 2.14 on. The code of these functions
# is exchanged in place, as its models keep the functions themselves.
for function in (package_file_descr_serializer, package_weights, ValidatedStringWithInnerNode._serialize):
    original = FunctionType(function.__code__, function.__globals__)
    function.__code__, function.__defaults__ = without_info.__code__, (original,)

from bioimageio.core import test_model  # noqa: E402

summary = test_model(sys.argv[1])
print(summary.status)
for detail in summary.details:
    for error in detail.errors:
        print(error.loc, error.msg)
