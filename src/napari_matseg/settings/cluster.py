"""Where the workers of a run come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError

from napari_matseg.errors import SettingsError
from napari_matseg.settings.base import Settings, explain
from napari_matseg.settings.files import read_mapping

if TYPE_CHECKING:
    from pathlib import Path


class ClusterSettings(Settings):
    """Workers that a run asks a queue for, or starts on this machine."""

    kind: Literal["slurm", "lsf", "pbs", "local"]
    """The queueing system; "local": processes on this machine."""
    jobs: Annotated[int, Field(ge=1)] = 1
    """Jobs in the queue, of which each starts as many workers as `arguments` say; "local": workers."""
    arguments: Annotated[dict[str, Any], Field(default_factory=dict)]
    """What is passed on: to SLURMCluster, LSFCluster or PBSCluster of dask-jobqueue, or LocalCluster of distributed."""


def read_cluster(path: Path) -> ClusterSettings:
    """Read where the workers of a run come from.

    Parameters
    ----------
    path : Path
        A YAML file with the fields of `ClusterSettings`.

    Raises
    ------
    SettingsError
        If the file is missing, is not YAML, or holds unknown keys or impossible values.
    """
    content = read_mapping(path, "the page on clusters")
    try:
        return ClusterSettings.model_validate(content)
    except ValidationError as error:
        raise SettingsError(f"{path}: {explain(error, ClusterSettings)}") from error
