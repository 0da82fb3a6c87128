"""What was done to what, with which weights: enough to run it again."""

from __future__ import annotations

import hashlib
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from napari_matseg._version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from napari_matseg.core.checkpoints import Model
    from napari_matseg.core.micrograph import Micrograph

PACKAGES = ("torch", "onnxruntime", "segmentation-models-pytorch", "timm", "numpy", "scikit-image", "tifffile")


def describe_image(micrograph: Micrograph) -> dict[str, Any]:
    """Say what identifies a micrograph, in plain JSON types."""
    return {
        "path": None if micrograph.source is None else str(micrograph.source),
        "sha256": None if micrograph.source is None else hash_file(micrograph.source),
        **micrograph.describe(),
    }


def describe_model(model: Model) -> dict[str, Any]:
    """Say what identifies a model, in plain JSON types."""
    return {
        "name": model.card.name,
        "path": None if model.path is None else str(model.path),
        "weights_sha256": model.card.weights_sha256,
        "classes": [spec.model_dump(mode="json") for spec in model.card.classes],
        **({"engine": engine} if (engine := getattr(model.network, "engine", None)) else {}),
    }


def describe_run() -> dict[str, Any]:
    """Say when and by which versions it is done, in plain JSON types."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {"napari-matseg": __version__}
        | {name: found for name in PACKAGES if (found := _version(name)) is not None},
    }


def hash_file(path: Path) -> str | None:
    """Sha256 of a file's content, or of a folder's files and their names; None if it is no longer there."""
    try:
        if path.is_dir():
            inner = sorted(one for one in path.rglob("*") if one.is_file())
            lines = [f"{one.relative_to(path).as_posix()} {hash_file(one)}" for one in inner]
            return hashlib.sha256("\n".join(lines).encode()).hexdigest()
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
