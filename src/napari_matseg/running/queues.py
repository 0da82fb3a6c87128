"""Where dask's workers come from: a scheduler that is there, a queue, or this machine."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from napari_matseg.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client
    from distributed.deploy.cluster import Cluster

    from napari_matseg.settings.cluster import ClusterSettings

CONNECT_SECONDS = 30
INSTALL = 'needs dask\'s distributed and dask-jobqueue; install them with: pip install "napari-matseg[cluster]"'


@contextlib.contextmanager
def connected(scheduler: str) -> Iterator[Client]:
    """Client of a scheduler that is running already.

    Parameters
    ----------
    scheduler : str
        Its address, such as "tcp://10.0.0.1:8786".

    Raises
    ------
    SettingsError
        If nothing answers there, or distributed is not installed.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise SettingsError(f"--scheduler {INSTALL}") from error
    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(f"{scheduler}: no scheduler answers there ({error}); check the address.") from error
    with client:
        yield client


@contextlib.contextmanager
def started(settings: ClusterSettings) -> Iterator[Client]:
    """Client of workers that are started for it, and stopped in the end.

    Parameters
    ----------
    settings : ClusterSettings

    Raises
    ------
    SettingsError
        If an argument is unknown or wrong, the queue cannot be asked, or distributed or dask-jobqueue is missing.
    """
    try:
        from distributed import Client

        cluster = make_cluster(settings)
    except ImportError as error:
        raise SettingsError(f"--cluster {INSTALL}") from error
    with cluster, Client(cluster, set_as_default=False) as client:
        # Not `scale`, which replaces no job that has come to the end of its time, nor a process that did not start.
        if settings.kind == "local":
            cluster.adapt(minimum=settings.jobs, maximum=settings.jobs)
        else:
            cluster.adapt(minimum_jobs=settings.jobs, maximum_jobs=settings.jobs)
        yield client


def make_cluster(settings: ClusterSettings) -> Cluster:
    """Scheduler in this process, and how to start workers; of a queue, none is asked for yet.

    Raises
    ------
    SettingsError
        If an argument is unknown or wrong.
    ImportError
        If distributed or dask-jobqueue is not installed.
    """
    arguments: dict[str, Any] = dict(settings.arguments)
    try:
        if settings.kind == "local":
            from distributed import LocalCluster

            local = {"n_workers": settings.jobs, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
            return LocalCluster(**(local | arguments))
        import dask_jobqueue

        kinds = {"slurm": "SLURMCluster", "lsf": "LSFCluster", "pbs": "PBSCluster"}
        # Any free port, unless one is asked for: dask's own may be that of somebody else on a shared machine.
        arguments["scheduler_options"] = {"dashboard_address": ":0"} | arguments.get("scheduler_options", {})
        made: Cluster = getattr(dask_jobqueue, kinds[settings.kind])(**arguments)
    except (TypeError, ValueError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError(f"arguments of the {settings.kind} cluster: {reason}; correct them.") from error
    return made
