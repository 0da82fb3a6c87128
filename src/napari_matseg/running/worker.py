"""What happens in a worker process: it is looked at once in each run, then works on one file at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from contextvars import ContextVar
from dataclasses import dataclass
from getpass import getuser
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from napari_matseg._version import __version__
from napari_matseg.core.devices import choose_device
from napari_matseg.core.export import make_folder, replacing
from napari_matseg.core.locks import try_lock
from napari_matseg.errors import MatsegError
from napari_matseg.running.commit import WORK_FOLDER
from napari_matseg.running.keys import model_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_matseg.settings import Recipe

T = TypeVar("T")

JOB_VARIABLES = ("SLURM_JOB_ID", "LSB_JOBID", "PBS_JOBID")
"""What names the job that a process belongs to; GPUs are numbered anew in each."""
FOLDER_ID = "folder.id"

_at_work = threading.Lock()
_fit_for: set[str] = set()
_needs: ContextVar[Needs | None] = ContextVar("needs", default=None)
_slots: list[IO[bytes]] = []  # locked as long as this process lives


@dataclass(frozen=True)
class Needs:
    """What a run needs of each worker.

    Attributes
    ----------
    run : str
        Unlike that of any other.
    host : str
        Where the run was started.
    image : Path or None
        One of the inputs.
    out : Path
    folder_id : str
        What a file in `out` holds, by which a worker knows that it sees the same folder.
    recipe : Recipe
    model_hash : str
        Of the models that the recipe names.
    versions : dict
        As `describe_versions` gives them.
    """

    run: str
    host: str
    image: Path | None
    out: Path
    folder_id: str
    recipe: Recipe
    model_hash: str
    versions: dict[str, str]


class UnfitWorkerError(Exception):
    """A worker that cannot do its part of a run, and should get no more of it.

    Attributes
    ----------
    address : str
        Of the worker.
    reason : str
        One line that names the host.
    """

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(address, reason)
        self.address, self.reason = address, reason


class CancelledTaskError(BaseException):
    """Work that was taken back before its turn came, or while it waited for others: no failure of a file."""


def do_task(needs: Needs, function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
    """Run a function in this worker process, which does one at a time however many threads it has.

    So there is one model in each process, and all of the worker's threads are the network's.

    Raises
    ------
    UnfitWorkerError
        If the worker cannot do it, for its own reasons.
    CancelledTaskError
        If it was taken back while it waited for its turn.
    """
    with _at_work:
        stop_if_cancelled()
        from distributed import get_worker

        worker = get_worker()
        if needs.run not in _fit_for:
            if (fault := find_fault(needs)) is not None:
                raise UnfitWorkerError(worker.address, fault)
            use_threads(worker.state.nthreads)
            _fit_for.add(needs.run)
        before = _needs.set(needs)
        try:
            return function(*args, **kwargs)
        finally:
            _needs.reset(before)


def needs_of_task() -> Needs | None:
    """Say what the run needs that this task is of; None outside of `do_task`."""
    return _needs.get()


def stop_if_cancelled() -> None:
    """Raise CancelledTaskError if the task that this is in was taken back, which no thread notices by itself."""
    from distributed import get_worker

    worker = get_worker()
    task = worker.state.tasks.get(worker.get_current_task())
    if task is None or task.state == "cancelled":
        raise CancelledTaskError


@contextlib.contextmanager
def let_others_work() -> Iterator[None]:
    """Let this process take up other tasks while this one waits for them."""
    _at_work.release()
    try:
        yield
    finally:
        _at_work.acquire()


def find_fault(needs: Needs) -> str | None:
    """Look whether this process has what a run needs; gives it a GPU if there are any.

    Returns
    -------
    str or None
        One line: the host, what is wrong with it, and what to do.
    """
    host = socket.gethostname()
    for name, version in describe_versions().items():
        if needs.versions[name] != version:
            other = f"{needs.host} has {needs.versions[name]}"
            return f"{host}: has {name} {version}, but {other}; use the same environment on both."
    if needs.image is not None and (reason := _why_unreadable(needs.image)) is not None:
        return f"{host}: cannot read the input {needs.image} ({reason}); mount its folder there under the same path."
    if _read_id(needs.out) != needs.folder_id:
        return (
            f"{host}: {needs.out} is not the folder that {needs.host} has under this path; "
            "choose one on a file system that both share."
        )
    trial = needs.out / WORK_FOLDER / f"{uuid4().hex}.trial"
    try:
        trial.touch(exist_ok=False)
        trial.unlink()
    except OSError as error:
        return f"{host}: cannot write to {needs.out} ({error.strerror}); give the user there the right to."
    take_gpu()
    try:
        return _find_fault_of_model(needs, host)
    except MatsegError as error:
        return f"{host}: {error}"


def _why_unreadable(image: Path) -> str | None:
    try:
        if image.is_dir():
            next(image.iterdir(), None)
        else:
            image.open("rb").close()
    except OSError as error:
        return error.strerror
    return None


async def find_fault_aside(needs: Needs) -> str | None:
    """`find_fault`, while the worker goes on answering the scheduler."""
    return await asyncio.to_thread(find_fault, needs)


def _find_fault_of_model(needs: Needs, host: str) -> str | None:
    step = needs.recipe.segment or (needs.recipe.prompt and needs.recipe.prompt.prompt)
    choose_device(step.device if step else "auto")
    if model_hash(needs.recipe) != needs.model_hash:
        return f"{host}: the model is not the one that {needs.host} has under this name; copy that one there."
    return None


def mark_folder(out: Path) -> str:
    """Give a folder an id that stays with it.

    Raises
    ------
    OutputError
        If it cannot be written to.
    """
    make_folder(out / WORK_FOLDER)
    if (known := _read_id(out)) is not None:
        return known
    with replacing(out / WORK_FOLDER / FOLDER_ID) as temporary:
        temporary.write_text(uuid4().hex, encoding="ascii")
    return str(_read_id(out))


def _read_id(out: Path) -> str | None:
    try:
        return (out / WORK_FOLDER / FOLDER_ID).read_text(encoding="ascii")
    except OSError:
        return None


def describe_versions() -> dict[str, str]:
    """Versions that must be those of the machine where the run was started.

    Examples
    --------
    >>> sorted(describe_versions())
    ['Python', 'napari-matseg']
    """
    return {"Python": f"{sys.version_info.major}.{sys.version_info.minor}", "napari-matseg": __version__}


def use_threads(number: int) -> None:
    """Compute on so many threads; dask itself holds numerical libraries to one."""
    import torch

    torch.set_num_threads(number)


def take_gpu() -> str | None:
    """Make one GPU of this machine the only one that this process sees, the one that the fewest of its kind have.

    Each process locks a file for its GPU, and the system lets go of it when the process ends, however it does.

    Returns
    -------
    str or None
        What CUDA_VISIBLE_DEVICES now holds; None where there is no GPU, or CUDA is in use already.
    """
    gpus = list_gpus()
    if not gpus or _slots or ("torch" in sys.modules and sys.modules["torch"].cuda.is_initialized()):
        return None
    job = next((os.environ[name] for name in JOB_VARIABLES if name in os.environ), "")
    for turn in count():
        for gpu in gpus:
            name = "".join(letter if letter.isalnum() else "-" for letter in f"{getuser()} {job} {gpu} {turn}")
            if (slot := try_lock(Path(tempfile.gettempdir()) / f"napari-matseg-gpu-{name}.lock")) is not None:
                _slots.append(slot)
                os.environ["CUDA_VISIBLE_DEVICES"] = gpu
                return gpu
    raise AssertionError  # count() does not end


def list_gpus() -> list[str]:
    """GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; CUDA itself is left alone."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]
    if (command := shutil.which("nvidia-smi")) is None:
        return []
    try:
        asked = [command, "--query-gpu=index", "--format=csv,noheader"]
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):  # a driver that does not answer
        return []
    return answer.stdout.split()
