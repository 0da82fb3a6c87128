"""Packages that only an exchange of models needs."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from napari_matseg.errors import ModelError


def need(package: str, what: str) -> Any:
    """Import a package of the extra `exchange`.

    Parameters
    ----------
    package : str
        Name of the module.
    what : str
        What it is needed for, with which the message begins.

    Raises
    ------
    ModelError
        If it is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise ModelError(
            f'{what} needs {package.partition(".")[0]}; install it with: pip install "napari-matseg[exchange]"'
        ) from error
