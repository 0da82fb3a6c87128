"""Where the user wants a file to go."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QWidget

TABLES = {"Tables (*.csv)": ".csv"}


def ask_file(parent: QWidget, title: str, name: str, kinds: Mapping[str, str]) -> Path | None:
    """Ask for the name of a file to save.

    Parameters
    ----------
    parent : QWidget
    title : str
        Of the dialogue.
    name : str
        What is offered, without an ending.
    kinds : mapping of str to str
        What files can be, as Qt wants it said, and the ending of each; the first is offered.

    Returns
    -------
    Path or None
        With one of the endings; None if the user wants none.
    """
    endings = tuple(kinds.values())
    file, kind = QFileDialog.getSaveFileName(
        parent, title, name.strip().replace("/", "-") + endings[0], ";;".join(kinds)
    )
    if not file:
        return None
    return Path(file if file.lower().endswith(endings) else file + kinds.get(kind, endings[0]))
