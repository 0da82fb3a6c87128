"""Kills a commit at each of the calls that change a file, and looks at what is left; run by test_running_commit."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from napari_matseg.running.commit import WORK_FOLDER, clean_up, commit, committed

CHANGES = ("replace", "fsync", "mkdir", "unlink", "rmdir")


def write(out: Path, text: str, whats: tuple[str, ...]) -> None:
    with commit(out, "s/a") as one:
        for what in whats:
            one.path(what, ".txt").write_text(f"{what} {text}")
        (one.path("store", ".zarr") / "0").mkdir(parents=True)
        (one.path("store", ".zarr") / "0" / text).write_text(text)
        one.record["text"] = text


def kill_at(step: int) -> None:
    """Let the process end at that call, as kill -9 would end it."""
    calls = 0

    def deadly(function):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == step:
                os._exit(9)
            return function(*args, **kwargs)

        return call

    for name in CHANGES:
        setattr(os, name, deadly(getattr(os, name)))


def check(out: Path, texts: tuple[str | None, ...]) -> str | None:
    """Hold what is there to one of these, complete, or to nothing that claims to be."""
    record = committed(out, "s/a", thoroughly=True)
    found = None if record is None else record["text"]
    assert found in texts, found
    assert (record is None) == (not (out / "s" / "a_record.json").exists()), "a record that is not true"
    for path in (out / "s").glob("a_*.txt") if (out / "s").exists() else ():
        assert path.read_text() in {f"{path.stem[2:]} {text}" for text in ("old", "new")}, "half a file"
    return found


def kill_everywhere(out: Path, with_old: bool) -> None:
    step, finished, status = 0, 0, 9
    while status:
        step += 1
        shutil.rmtree(out)
        out.mkdir()
        if with_old:
            write(out, "old", ("labels", "gone"))
        child = os.fork()
        if child == 0:
            kill_at(step)
            write(out, "new", ("labels", "overlay"))
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, 9), status
        before = check(out, ("old", "new", None))
        clean_up(out)
        after = check(out, ("old", "new", None))
        assert after == before or after == "new"
        finished += after != before
        assert after is not None or not with_old, "the old set is lost"
        assert not list((out / WORK_FOLDER).glob("*")) if (out / WORK_FOLDER).exists() else True, "something is left"
        if after is None:
            assert not list(out.glob("s/*")), "part of a set"
        write(out, "new", ("labels", "overlay"))
        assert check(out, ("new",))
        names = {path.name for path in (out / "s").iterdir()}
        assert names == {"a_labels.txt", "a_overlay.txt", "a_store.zarr", "a_record.json"}, names
        assert [path.name for path in (out / "s" / "a_store.zarr" / "0").iterdir()] == ["new"]
    print(step, finished)


if __name__ == "__main__":
    os.fsync = lambda _: None  # which matters to a power loss only, and takes long
    for with_old in (False, True):
        kill_everywhere(Path(sys.argv[1]), with_old)
