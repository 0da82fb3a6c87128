from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_matseg.core import embeddings as module
from napari_matseg.core.embeddings import EmbeddingStore, Recent, cache_folder, embedding_key
from napari_matseg.errors import OutputError

PLENTY = 2**30


def some(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, 4, 8, 8)).astype(np.float32)


def files(store: EmbeddingStore) -> list[Path]:
    return sorted(store.folder.glob("*"))


@pytest.mark.parametrize("exact", ["float32", "float16"])
def test_what_was_put_is_found_by_another_session(tmp_path, exact):
    embedding = some().astype(exact).astype(np.float32)
    assert EmbeddingStore(tmp_path / "a" / "b", PLENTY).put("k", embedding) == ""
    found = EmbeddingStore(tmp_path / "a" / "b", PLENTY).get("k")
    assert found is not None
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, embedding)
    assert EmbeddingStore(tmp_path / "a" / "b", PLENTY).get("other") is None


def test_what_half_precision_holds_takes_half_the_room(tmp_path):
    store = EmbeddingStore(tmp_path, PLENTY)
    store.put("half", some().astype(np.float16).astype(np.float32))
    store.put("whole", some())
    store.put("large", some() * 1e6)
    sizes = {path.stem: path.stat().st_size for path in files(store)}
    assert sizes["whole"] - sizes["half"] == some().size * 2
    assert sizes["large"] == sizes["whole"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:20],
        lambda content: content[:-1],
        lambda content: content + b"x",
        lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
        lambda content: b"\0" * len(content),
    ],
)
def test_a_damaged_file_is_missing_and_removed(tmp_path, damage):
    store = EmbeddingStore(tmp_path, PLENTY)
    store.put("k", some())
    (path,) = files(store)
    path.write_bytes(damage(path.read_bytes()))
    assert store.get("k") is None
    assert files(store) == []
    store.put("k", some())
    assert store.get("k") is not None


def test_no_code_is_run_from_a_file(tmp_path):
    import hashlib
    import io

    store = EmbeddingStore(tmp_path, PLENTY)
    buffer = io.BytesIO()
    np.save(buffer, np.array([object()]), allow_pickle=True)
    content = buffer.getvalue()
    (tmp_path / f"k{module.SUFFIX}").write_bytes(hashlib.sha256(content).digest() + content)
    assert store.get("k") is None
    assert files(store) == []


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    store = EmbeddingStore(tmp_path, PLENTY)
    for number in range(4):
        store.put(f"k{number}", some(number))
        os.utime(files(store)[-1], (number, number))
    size = files(store)[0].stat().st_size
    assert store.get("k0") is not None  # it is used, hence the latest now
    store.max_bytes = int(3.5 * size)
    store.put("k4", some(4))
    assert [path.stem for path in files(store)] == ["k0", "k3", "k4"]
    assert sum(path.stat().st_size for path in files(store)) <= store.max_bytes


def test_files_that_were_never_finished_are_removed_some_day(tmp_path):
    store = EmbeddingStore(tmp_path, PLENTY)
    fresh, old = tmp_path / f".fresh{module.SUFFIX}", tmp_path / f".old{module.SUFFIX}"
    alien = tmp_path / "notes.txt"
    for path in (fresh, old, alien):
        path.write_bytes(b"x")
    os.utime(old, (time.time() - 2 * module.ABANDONED_S,) * 2)
    os.utime(alien, (0, 0))
    store.put("k", some())
    assert {path.name for path in files(store)} == {fresh.name, alien.name, f"k{module.SUFFIX}"}


def test_a_bound_of_nothing_keeps_nothing(tmp_path):
    store = EmbeddingStore(tmp_path / "none", 0)
    assert store.put("k", some()) == ""
    assert store.get("k") is None
    assert not store.folder.exists()


def test_a_folder_that_cannot_be_is_said_once_and_does_not_stop_the_work(tmp_path):
    (tmp_path / "file").write_text("in the way")
    store = EmbeddingStore(tmp_path / "file" / "folder", PLENTY)
    assert store.get("k") is None
    note = store.put("k", some())
    assert note.startswith("embeddings cannot be kept for the next time (")
    assert store.put("k", some()) == ""


def test_a_full_disk_is_said_once_and_does_not_stop_the_work(tmp_path, monkeypatch):
    def full(path: Path) -> None:
        raise OutputError(f"{path}: cannot be written, since the disk is full; free some space and try again.")

    monkeypatch.setattr(module, "replacing", full)
    store = EmbeddingStore(tmp_path, PLENTY)
    assert "the disk is full" in store.put("k", some())
    assert store.put("k", some()) == ""
    assert store.get("k") is None


def test_files_that_another_process_removes_meanwhile_are_no_trouble(tmp_path, monkeypatch):
    store = EmbeddingStore(tmp_path, PLENTY)
    for number in range(3):
        store.put(f"k{number}", some(number))

    def gone(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", gone)
        store.max_bytes = 1
        assert store.put("k3", some(3)) == ""
    assert store.get("k3") is not None


def test_the_key_holds_all_that_an_embedding_depends_on():
    image = np.zeros((6, 4), np.uint8)
    keys = [
        embedding_key("a", "torch.float32", image),
        embedding_key("b", "torch.float32", image),
        embedding_key("a", "torch.bfloat16", image),
        embedding_key("a", "torch.float32", image + np.uint8(1)),
        embedding_key("a", "torch.float32", image.reshape(4, 6)),
    ]
    assert len(set(keys)) == len(keys)
    assert embedding_key("a", "torch.float32", image.copy(order="F")) == keys[0]
    assert all(len(key) == 64 for key in keys)


def test_the_folder_is_the_users(monkeypatch, tmp_path):
    for name in ("NAPARI_MATSEG_CACHE", "LOCALAPPDATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_folder() == tmp_path / ".cache" / "napari-matseg" / "embeddings"
    monkeypatch.setenv("XDG_CACHE_HOME", "x")
    assert cache_folder() == Path("x") / "napari-matseg" / "embeddings"
    monkeypatch.setenv("LOCALAPPDATA", "y")
    assert cache_folder() == Path("y") / "napari-matseg" / "embeddings"
    monkeypatch.setenv("NAPARI_MATSEG_CACHE", "z")
    assert cache_folder() == Path("z") / "embeddings"


@given(st.integers(1, 5), st.lists(st.integers(0, 9)))
def test_the_latest_few_are_kept(most, keys):
    recent: Recent[str] = Recent(most)
    for key in keys:
        recent.put(key, str(key))
    latest = list(dict.fromkeys(reversed(keys)))
    assert [key for key in range(10) if recent.get(key) is not None] == sorted(latest[:most])


def test_what_is_used_is_kept():
    recent: Recent[str] = Recent(2)
    recent.put(1, "a")
    recent.put(2, "b")
    assert recent.get(1) == "a"
    recent.put(3, "c")
    assert (recent.get(1), recent.get(2), recent.get(3)) == ("a", None, "c")
