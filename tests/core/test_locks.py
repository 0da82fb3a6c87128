from __future__ import annotations

import errno
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from napari_matseg.core import locks
from napari_matseg.core.locks import lock, unlock
from napari_matseg.core.progress import Progress, finish
from napari_matseg.errors import OutputError


def test_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PAUSE", 0)
    path = tmp_path / "lock"
    first = finish(lock(path, "waiting"))
    second = lock(path, "waiting")
    assert next(second) == next(second) == Progress(0, 1, "waiting")
    unlock(first, path, delete=False)
    unlock(finish(second), path, delete=False)
    assert path.exists()


def test_deleted_by_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PAUSE", 0)
    path = tmp_path / "lock"
    for _ in range(3):
        unlock(finish(lock(path, "")), path, delete=True)
        assert not path.exists()
    inside, counts = [], []

    def work() -> None:
        for _ in range(50):
            file = finish(lock(path, ""))
            inside.append(1)
            counts.append(len(inside))
            inside.pop()
            unlock(file, path, delete=True)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [1] * 150


def test_let_go_of_when_a_process_dies(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import os, sys; from pathlib import Path\n"
        "from napari_matseg.core.locks import lock; from napari_matseg.core.progress import finish\n"
        "file = finish(lock(Path(sys.argv[1]), '')); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    unlock(finish(lock(path, "")), path, delete=True)


def test_what_is_written_stays(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    file = finish(lock(path, ""))
    file.write(b"note")
    unlock(file, path, delete=False)
    file = finish(lock(path, ""))
    file.seek(0)
    assert file.read() == b"note"
    unlock(file, path, delete=True)


def test_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot be written .*choose a folder"):
        finish(lock(tmp_path, ""))


def test_drives_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    path = tmp_path / "lock"
    unlock(finish(lock(path, "")), path, delete=True)
