from __future__ import annotations

from pathlib import Path

import pytest

from napari_matseg.running import pace as pace_module
from napari_matseg.running.pace import Pace
from napari_matseg.running.states import Outcome, Source


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(pace_module.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def make(tmp_path: Path):
    def source(name: str, n_bytes: int) -> Source:
        path = tmp_path / name
        path.write_bytes(b"x" * n_bytes)
        return Source(path, name)

    return source


def ended(source: Source, pixels: int, seconds: float, state: str = "done") -> Outcome:
    record = {"image": {"shape_yx": [pixels, 1], "shape_planes": []}}
    return Outcome(source, state, None, {}, record if state == "done" else {}, seconds)  # type: ignore[arg-type]


def test_by_pixels_and_not_by_bytes(make, clock):
    sources = [make("a.tif", 100), make("b.png", 50), make("c.tif", 300), make("d.png", 100)]
    pace = Pace(sources)
    assert pace.seconds_left(sources[0], 0.5) is None
    assert pace.seconds_of(sources[2]) is None
    clock[0] = 10
    pace.add(ended(sources[0], 100, 10))  # 10 pixels each second
    assert pace.seconds_of(sources[2]) == pytest.approx(30)
    clock[0] = 30
    pace.add(ended(sources[1], 200, 20))  # a byte of PNG is more pixels
    assert pace.seconds_of(sources[2]) == pytest.approx(30)
    assert pace.seconds_of(sources[3]) == pytest.approx(40)
    assert pace.seconds_of(sources[3], 0.75) == pytest.approx(10)
    assert pace.seconds_left() == pytest.approx(70)
    assert pace.seconds_left(sources[2], 0.5) == pytest.approx(55)


def test_what_was_kept_or_failed_says_nothing(make, clock):
    sources = [make("a.tif", 100), make("b.tif", 100), make("c.tif", 100)]
    pace = Pace(sources)
    clock[0] = 1
    pace.add(ended(sources[0], 0, 0.01, "kept"))
    assert pace.seconds_left() is None
    pace.add(ended(sources[1], 0, 0.01, "failed"))
    assert pace.seconds_left() is None


def test_as_many_at_once_as_so_far(make, clock):
    sources = [make(f"{i}.tif", 100) for i in range(8)]
    pace = Pace(sources)
    clock[0] = 10
    for source in sources[:4]:
        pace.add(ended(source, 100, 10))
    assert pace.seconds_left() == pytest.approx(10)


def test_nothing_is_left_in_the_end(make, clock):
    one = make("a.tif", 10)
    pace = Pace([one, Source(Path("gone.tif"), "gone")])
    clock[0] = 1
    pace.add(ended(one, 10, 1))
    pace.add(ended(Source(Path("gone.tif"), "gone"), 0, 0, "failed"))
    assert pace.seconds_left() == 0
