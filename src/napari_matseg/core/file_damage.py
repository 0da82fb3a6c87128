"""Whatever a library makes of a damaged file becomes an `InputError`."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXTRA = 'pip install "napari-matseg[formats]"'
"""Installs what reads the files of DigitalMicrograph, EMD and TIA."""


@contextmanager
def damage_as_error(path: Path, kind: str) -> Iterator[None]:
    """Turn any failure to read a file into an `InputError`, and keep warnings and logs of damaged metadata quiet.

    Parameters
    ----------
    path : Path
        The file.
    kind : str
        What to call it, such as "DM3/DM4 file".
    """
    logger = logging.getLogger("rsciio")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except ImportError as error:
        raise InputError(f"{path}: a {kind} needs more packages than are installed; {EXTRA} brings them.") from error
    except MemoryError as error:
        raise InputError(f"{path}: does not fit into the memory; export a smaller part of it.") from error
    except (FileNotFoundError, PermissionError) as error:
        detail = error.strerror or str(error)
        raise InputError(f"{path}: cannot be read ({detail}); check the path and the drive.") from error
    except Exception as error:
        raise damaged(path, kind, str(error) or type(error).__name__) from error
    finally:
        logger.setLevel(level)


def damaged(path: Path, kind: str, detail: str) -> InputError:
    """Error that says that a file is damaged, and how."""
    lines = detail.strip().splitlines() or ["no details"]
    return InputError(
        f"{path}: the {kind} is damaged or of an unsupported kind ({lines[0][:120]}); "
        "copy it again, or export it as TIFF."
    )
