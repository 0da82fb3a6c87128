"""What decides whether outputs that are there are those that are asked for.

Of each part of the work there is a key, a hash of all that has a say in its result. A part whose key is that of the
record need not be done again.
"""

from __future__ import annotations

import hashlib
import json
import stat
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from napari_matseg.core.checkpoints import find
from napari_matseg.core.provenance import hash_file
from napari_matseg.core.read import first_bytes
from napari_matseg.errors import InputError, ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from napari_matseg.settings import Recipe

SEGMENT_VERSION, MEASURE_VERSION, OUTPUT_VERSION = 1, 1, 1
"""To be raised when the same settings begin to give other labels, other numbers, other files."""
YOUNG_NS = 2 * 10**9
"""So soon after a change there may be another that the file system's clock cannot tell from it."""
NO_SAY = {"device", "batch", "large_px", "cache_gb"}
"""Settings that say where and how fast a network runs; its answers are the same but for rounding."""


@dataclass(frozen=True)
class Fingerprint:
    """What an input was when it was looked at.

    Attributes
    ----------
    sha256 : str
        Of its content.
    stat : tuple of int, or None
        Size, times and number of the file; None of a folder.
    is_settled : bool
        Whether the content is the same as long as these are, as does not follow of what has only just been written.
    """

    sha256: str
    stat: tuple[int, ...] | None
    is_settled: bool


def fingerprint(path: Path, known: dict[str, Any] | None = None) -> Fingerprint:
    """Look at an input.

    Parameters
    ----------
    path : Path
    known : dict, optional
        What a record says of it (`sha256` and `stat`); a file that has not been touched since is not read.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    before = stat_of(path)
    if known and before is not None and list(before) == known.get("stat"):
        return Fingerprint(str(known["sha256"]), before, True)
    sha256 = hash_file(path)
    if sha256 is None:
        first_bytes(path)  # says what is wrong
        raise InputError(f"{path}: cannot be read; check the path and the drive.")
    is_settled = before is not None and time.time_ns() - max(before[1], before[2]) > YOUNG_NS
    return Fingerprint(sha256, before, is_settled)


def stat_of(path: Path) -> tuple[int, ...] | None:
    """Size, times and number of a file; None of a folder, and where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    # The time of the entry's last change cannot be set back, as that of the content can.
    return None if stat.S_ISDIR(found.st_mode) else (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def points_beside(image: Path) -> Path:
    """File with the points of a micrograph, for recipes that ask at points which somebody gave."""
    return image.with_name(f"{image.stem}_points.csv")


def model_hash(recipe: Recipe) -> str:
    """Sha256 of the files of the models that a recipe names.

    Raises
    ------
    ModelError
        If there is no such model.
    """
    return _digest([_hash_model(path, stat_of(path)) for path in model_files(recipe)])


def model_files(recipe: Recipe) -> list[Path]:
    """Files of the models that a recipe names: that of the network, then that of the centres if there is one.

    Raises
    ------
    ModelError
        If there is no such model.
    """
    files = [] if recipe.segment is None else [find(recipe.segment.model)]
    if recipe.prompt is not None:
        from napari_matseg.core.sam.weights import find_promptable

        files.append(find_promptable(recipe.prompt.prompt.model)[1])
        if recipe.prompt.find == "centres" and recipe.prompt.centres.method == "model":
            files.append(find(recipe.prompt.centres.model))
    return files


def keys_of(recipe: Recipe, image: str, points: str | None, models: str) -> dict[str, str]:
    """Keys of the parts of the work on one micrograph.

    Parameters
    ----------
    recipe : Recipe
    image, points, models : str
        Hashes of the content of the micrograph, of its file of points if the recipe asks at such, and of the models.

    Returns
    -------
    dict
        `segment`, what the networks do; `measure`, with what is made of their answers; `outputs`, with what of it is
        written.
    """
    used = recipe.used()
    size = used["read"].pop("pixel_size_nm")
    if recipe.prompt is None:
        what = _that_count(used["segment"], {"model", "probabilities"})
        ends = size  # only prompts know sizes in nm
    else:
        prompt, centres = used["prompt"]["prompt"], used["prompt"].get("centres")
        what = used["prompt"] | {"prompt": _that_count(prompt, {"model"}), "size": size}
        if centres is not None:
            what["centres"] = _that_count(centres, {"model"})
        ends = None
    segment = _digest([SEGMENT_VERSION, image, points, models, used["read"], what])
    measure = _digest([MEASURE_VERSION, segment, ends, used["clean"], used["measure"]])
    return {"segment": segment, "measure": measure, "outputs": _digest([OUTPUT_VERSION, measure, used["outputs"]])}


def _that_count(settings: dict[str, Any], besides: set[str]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in NO_SAY | besides}


def _digest(what: object) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


@lru_cache(maxsize=16)
def _hash_model(path: Path, _stat: tuple[int, ...] | None) -> str:
    sha256 = hash_file(path)
    if sha256 is None:
        raise ModelError(f"{path}: cannot be read; check the path and the drive.")
    return sha256
