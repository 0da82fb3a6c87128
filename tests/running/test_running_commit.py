from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from napari_matseg.core import locks
from napari_matseg.core.export import write_csv
from napari_matseg.core.label_files import write_labels
from napari_matseg.errors import OutputError
from napari_matseg.running import commit as commit_module
from napari_matseg.running.commit import FORGOTTEN, WORK_FOLDER, Commit, claim, clean_up, commit, committed

KILLS = Path(__file__).with_name("kill_commit.py")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def write(out: Path, name: str, text: str, *, what: tuple[str, ...] = ("labels", "overlay"), **record: object) -> None:
    with commit(out, name) as one:
        for part in what:
            one.path(part, ".txt").write_text(f"{part} {text}")
        one.record |= record


def files(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())


def leave(
    out: Path, name: str, text: str, *, host: str | None = None, pid: int = 2**22 - 1, ready: bool = True
) -> Path:
    """Leave what a process leaves that is killed before anything took its place, or before all was written."""
    write(out, name, text)
    folder = out / WORK_FOLDER / f"{host or commit_module._host()}-{pid}-abc.tmp"
    folder.mkdir()
    record = out / f"{name}_record.json"
    for about in json.loads(record.read_text())["outputs"].values():
        record.with_name(about["file"]).rename(folder / about["file"])
    record.rename(folder / record.name)
    if ready:
        (folder / "ready").write_text(name)
    return folder


def test_outputs_and_record(out: Path) -> None:
    with commit(out, "s 1/a") as one:
        one.path("labels", ".txt").write_text("1234")
        assert files(out) != []
        assert not (out / "s 1" / "a_labels.txt").exists()
        one.record |= {"format": 1, "job": "run"}
    assert files(out) == ["s 1/a_labels.txt", "s 1/a_record.json"]
    assert one.files == {"labels": out / "s 1" / "a_labels.txt", "record": out / "s 1" / "a_record.json"}
    record = committed(out, "s 1/a")
    assert record == json.loads((out / "s 1" / "a_record.json").read_text())
    assert record["job"] == "run"
    sha256 = "03ac674216f3e15c761ee1a5e255f067953623c8b388b4459e13f978d7c846f4"
    assert record["outputs"] == {"labels": {"file": "a_labels.txt", "bytes": 4, "sha256": sha256}}


def test_what_a_complete_set_is(out: Path) -> None:
    assert committed(out, "a") is None
    write(out, "a", "x")
    assert committed(out, "a", thoroughly=True) is not None
    labels = out / "a_labels.txt"
    labels.write_text("labels y")
    assert committed(out, "a") is not None
    assert committed(out, "a", thoroughly=True) is None
    labels.write_text("longer than before")
    assert committed(out, "a") is None
    labels.unlink()
    assert committed(out, "a") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"outputs": []}',
        '{"outputs": {"labels": "a_labels.tif"}}',  # by `segment`
        '{"outputs": {"labels": {"file": "../a.tif", "bytes": 1, "sha256": "x"}}}',
        '{"outputs": {"labels": {"file": 1, "bytes": 1, "sha256": "x"}}}',
    ],
)
def test_records_of_other_kinds(out: Path, text: str) -> None:
    (out / "a_record.json").write_text(text)
    (out / "a_labels.tif").write_text("1")
    assert committed(out, "a") is None
    write(out, "a", "x")
    assert committed(out, "a") is not None
    assert (out / "a_labels.tif").exists()


def test_a_new_set_takes_the_place_of_the_old(out: Path) -> None:
    write(out, "a", "old", what=("labels", "overlay", "objects"))
    write(out, "a", "new", what=("labels",), n=1)
    assert files(out) == ["a_labels.txt", "a_record.json"]
    assert (out / "a_labels.txt").read_text() == "labels new"
    assert (committed(out, "a", thoroughly=True) or {})["n"] == 1


def test_some_outputs_are_kept(out: Path) -> None:
    write(out, "a", "old")
    with commit(out, "a") as one:
        assert one.keep("labels") == out / "a_labels.txt"
        one.path("overlay", ".txt").write_text("new")
        with pytest.raises(KeyError):
            one.keep("objects")
    assert files(out) == ["a_labels.txt", "a_overlay.txt", "a_record.json"]
    assert (out / "a_labels.txt").read_text() == "labels old"
    assert committed(out, "a", thoroughly=True) is not None
    (out / "a_labels.txt").unlink()
    with pytest.raises(KeyError), commit(out, "a") as one:
        one.keep("overlay")


def test_folders_as_outputs(out: Path) -> None:
    for text in ("old", "other"):
        with commit(out, "a") as one:
            store = one.path("labels", ".ome.zarr")
            (store / "0").mkdir(parents=True)
            (store / ".zgroup").write_text("{}")
            (store / "0" / f"{text}.0").write_text(text)
    assert files(out) == ["a_labels.ome.zarr/.zgroup", "a_labels.ome.zarr/0/other.0", "a_record.json"]
    record = committed(out, "a", thoroughly=True)
    assert record is not None
    assert record["outputs"]["labels"]["bytes"] == 7
    (out / "a_labels.ome.zarr" / "0" / "other.0").unlink()
    assert committed(out, "a") is None


def test_the_usual_writers_know_the_name_that_a_file_will_have(out: Path) -> None:
    import numpy as np
    import tifffile

    with commit(out, "a") as one:
        write_labels(one.path("labels", ".tif"), np.zeros((8, 8), np.uint8))
        write_csv(one.path("objects", ".csv"), [{"a": 1}])
    with tifffile.TiffFile(out / "a_labels.tif") as tif:
        assert 'Name="a_labels"' in str(tif.ome_metadata)
    assert files(out) == ["a_labels.tif", "a_objects.csv", "a_record.json"]


def fail_midway(one: Commit, error: type[BaseException]) -> None:
    one.path("labels", ".txt").write_text("half")
    raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_an_error_changes_nothing(out: Path, error: type[BaseException]) -> None:
    write(out, "a", "old")
    with pytest.raises(error), commit(out, "a") as one:
        fail_midway(one, error)
    assert files(out) == ["a_labels.txt", "a_overlay.txt", "a_record.json"]
    assert committed(out, "a", thoroughly=True) is not None


def test_the_folder_has_gone(out: Path) -> None:
    out.rmdir()
    for work in (commit, claim):
        with pytest.raises(OutputError, match="the folder is gone; look whether its drive is there"), work(out, "s/a"):
            pass
    assert not out.exists()
    clean_up(out)


def test_a_drive_that_vanishes_midway(out: Path) -> None:
    away = out.with_name("away")

    def go_away(one: Commit) -> None:
        path = one.path("labels", ".txt")
        out.rename(away)
        write_csv(path, [])

    with pytest.raises(OutputError, match=r"a_labels\.txt: .*there is no folder"), commit(out, "a") as one:
        go_away(one)
    assert not out.exists()


def full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def forbidden(*_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize(
    ("function", "failure", "words"),
    [
        ("fsync", full, "the disk is full; free some space and run it again"),
        ("fsync", forbidden, r"\(Permission denied\); close it elsewhere, or get the permission"),
        ("replace", forbidden, r"\(Permission denied\)"),
        ("replace", full, "the disk is full"),
    ],
)
def test_what_cannot_be_written(
    out: Path, monkeypatch: pytest.MonkeyPatch, function: str, failure: object, words: str
) -> None:
    write(out, "a", "old")
    with monkeypatch.context() as patch:
        patch.setattr(os, function, failure)
        with pytest.raises(OutputError, match=rf"out.a_record\.json: cannot be written.*{words}"):
            write(out, "a", "newer")
    assert files(out) == ["a_labels.txt", "a_overlay.txt", "a_record.json"]
    assert committed(out, "a", thoroughly=True) is not None


def test_errors_that_are_not_about_outputs(out: Path) -> None:
    with pytest.raises(FileNotFoundError), commit(out, "a"):
        Path("/nowhere").read_bytes()


def test_the_message_names_the_place_and_not_the_temporary_file(out: Path) -> None:
    def write_into(one: Commit, way: Callable[[Path], object]) -> None:
        one.path("labels", ".txt").mkdir()
        way(one.path("labels", ".txt"))

    with pytest.raises(OutputError, match=r"out.a_labels\.txt: is a folder"), commit(out, "a") as one:
        write_into(one, lambda path: write_csv(path, []))
    with pytest.raises(OutputError, match=r"out.a_labels\.txt.x.y: cannot be written, since the folder is gone"):
        with commit(out, "a") as one:
            write_into(one, lambda path: (path / "x" / "y").write_text(""))


@pytest.mark.skipif(os.name == "nt", reason="RLIMIT_FSIZE")
def test_files_that_may_not_grow(out: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from napari_matseg.errors import OutputError\n"
        "from napari_matseg.running.commit import commit\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    with commit(Path(sys.argv[1]), 'a') as one: one.path('labels', '.txt').write_text('x' * 2000)\n"
        "except OutputError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(out)], check=True, capture_output=True, text=True)
    assert "the disk is full" in done.stdout
    assert files(out) == []


def test_broken_off_while_taking_their_places(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the permission goes midway: what was made is not lost, and takes its place later."""
    replace, calls = os.replace, []

    def stop(one: object, other: object, **rest: object) -> None:
        calls.append(one)
        if len(calls) > 3:
            raise PermissionError(13, "Permission denied")
        replace(one, other, **rest)  # type: ignore[arg-type]

    write(out, "a", "old", what=("labels", "objects", "overlay"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop)
        with pytest.raises(OutputError, match="Permission denied"):
            write(out, "a", "newer")
    assert committed(out, "a") is None
    clean_up(out)
    assert committed(out, "a", thoroughly=True) is not None
    assert (out / "a_labels.txt").read_text() == "labels newer"
    assert files(out) == ["a_labels.txt", "a_overlay.txt", "a_record.json"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks for every kill")
def test_killed_at_every_step(out: Path) -> None:
    """One process kills a fork of itself at each call that changes a file, with and without an old set."""
    done = subprocess.run([sys.executable, str(KILLS), str(out)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        steps, finished = map(int, line.split())
        assert steps > 15
        assert finished > 3  # of those that were killed when all was written
    assert len(done.stdout.splitlines()) == 2


def test_of_a_dead_process_what_was_complete_is_finished(out: Path) -> None:
    folder = leave(out, "s/a", "x")
    clean_up(out)
    assert not folder.exists()
    assert files(out) == ["s/a_labels.txt", "s/a_overlay.txt", "s/a_record.json"]
    assert committed(out, "s/a", thoroughly=True) is not None


def test_of_a_dead_process_what_was_not_complete_is_deleted(out: Path) -> None:
    folder = leave(out, "a", "x", ready=False)
    other = leave(out, "b", "x", pid=2**22 - 2)
    (other / "b_labels.txt").write_text("cut")
    clean_up(out)
    assert not folder.exists()
    assert not other.exists()
    assert files(out) == []


def test_of_a_dead_process_nothing_replaces_what_was_made_since(out: Path) -> None:
    leave(out, "a", "late")
    write(out, "a", "newer")
    clean_up(out)
    assert (out / "a_labels.txt").read_text() == "labels newer"
    assert files(out) == ["a_labels.txt", "a_overlay.txt", "a_record.json"]


def test_of_a_dead_process_nothing_disturbs_who_works_on_it(out: Path) -> None:
    folder = leave(out, "a", "x")
    with claim(out, "a"):
        clean_up(out)
    assert not folder.exists()
    assert files(out) == []


def test_what_others_are_writing_stays(out: Path) -> None:
    live = leave(out, "a", "x", pid=os.getppid())
    far = leave(out, "b", "x", host="elsewhere", pid=1)
    with commit(out, "c") as one:
        one.path("labels", ".txt").write_text("half")
        before = files(out)
        clean_up(out)
        assert files(out) == before
    for path in (far, *far.iterdir()):
        os.utime(path, (0, time.time() - FORGOTTEN - 10))
    clean_up(out)
    assert live.exists()
    assert not far.exists()
    assert committed(out, "b") is not None


def test_where_a_process_id_is_used_anew(out: Path) -> None:
    leave(out, "a", "x", pid=os.getpid())
    clean_up(out)
    assert committed(out, "a") is not None


def test_the_name_of_the_machine_has_no_say_in_a_lock(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in containers, where a process that lives elsewhere seems dead."""
    with commit(out, "a") as one:
        one.path("labels", ".txt").write_text("x")
        monkeypatch.setattr(commit_module, "_OWN", set())
        clean_up(out)
        assert one.path("labels", ".txt").exists()
    assert "/" not in commit_module._host()
    assert platform.node()[:1] == commit_module._host()[:1]


def test_one_run_at_a_time_has_a_micrograph(out: Path) -> None:
    with claim(out, "s/a") as first, claim(out, "s/a") as second, claim(out, "S/A") as twin, claim(out, "b") as other:
        assert (first, second, twin, other) == (True, False, False, True)
    with claim(out, "s/a") as again:
        assert again
    assert files(out) == []


def test_a_claim_ends_with_its_process(out: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from napari_matseg.running.commit import claim\n"
        "held = claim(Path(sys.argv[1]), 'a'); print(held.__enter__(), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        with claim(out, "a") as ours:
            assert not ours
        clean_up(out)
        assert len(files(out)) == 1
        other.kill()
        other.wait()
    assert len(files(out)) == 1
    clean_up(out)
    assert files(out) == []
    with claim(out, "a") as ours:
        assert ours


def test_drives_without_locks(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with claim(out, "a") as first, claim(out, "a") as second:
        assert first
        assert second
    with commit(out, "a") as one:
        one.path("labels", ".txt").write_text("x")
        clean_up(out)
    assert committed(out, "a") is not None


def test_drives_that_do_not_sync_folders(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def picky(file: int) -> None:
        import stat

        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(22, "Invalid argument")
        fsync(file)

    monkeypatch.setattr(os, "fsync", picky)
    write(out, "a", "x")
    assert committed(out, "a") is not None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_fork_does_not_hold_on_to_a_lock(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path\n"
        "from napari_matseg.core.locks import try_lock\n"
        "file = try_lock(Path(sys.argv[1]))\n"
        "file.write(b'half')\n"
        "if os.fork() == 0: print(os.getpid(), flush=True); time.sleep(60)\n"
        "os.read(0, 1); os._exit(0)"
    )
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert locks.try_lock(path) is None
        process.kill()
        process.wait()
        held = locks.try_lock(path)
        os.kill(child, 9)
    assert held is not None
    locks.unlock(held, path, delete=True)
