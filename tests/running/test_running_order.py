from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from napari_matseg.running import order
from napari_matseg.running.order import largest_first
from napari_matseg.running.states import Source


def test_large_files_come_first_and_those_of_one_size_keep_their_order(tmp_path: Path) -> None:
    sizes = {"a": 3, "b": 0, "c": 7, "d": 3}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(b"." * size)
    (tmp_path / "e.zarr").mkdir()
    sources = [Source(tmp_path / name, name) for name in ("a", "b", "gone", "c", "d", "e.zarr")]
    assert [sources[place].name for place in largest_first(sources)] == ["e.zarr", "c", "a", "d", "b", "gone"]


@given(st.lists(st.integers(0, 5)))
def test_each_place_comes_once(sizes: list[int]) -> None:
    sources = [Source(Path(str(size)), str(i)) for i, size in enumerate(sizes)]
    original, order._size = order._size, lambda path: float(str(path))  # type: ignore[assignment]
    try:
        places = largest_first(sources)
    finally:
        order._size = original
    assert sorted(places) == list(range(len(sizes)))
    assert [sizes[place] for place in places] == sorted(sizes, reverse=True)
