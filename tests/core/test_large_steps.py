from __future__ import annotations

import errno
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_matseg import Micrograph, SegmentSettings, segment
from napari_matseg.core import normalise
from napari_matseg.core.checkpoints import Model
from napari_matseg.core.large import parts, pieces, rows, segmenting, stores
from napari_matseg.core.large.job import open_job
from napari_matseg.core.predict import TooLargeError
from napari_matseg.core.progress import finish
from napari_matseg.core.read import read
from napari_matseg.errors import InputError, OutputError
from napari_matseg.pipeline import Segmentation, save, segment_steps

SMALL = {"tile": 64, "instances": True}


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "CHUNK", 64)
    monkeypatch.setattr(stores, "SMALLEST", 64)
    monkeypatch.setattr(parts, "SIDE", 50)
    monkeypatch.setattr(parts, "STRIP", 150)
    monkeypatch.setattr(parts, "ROWS_PER_BAND", {"blend": 2})


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """Blobs on a slope, a bit more than 3 x 4 tiles."""
    rng = np.random.default_rng(0)
    y, x = np.indices((150, 230))
    image = 40 + y // 4 + rng.normal(0, 8, y.shape)
    for top, left, radius in zip(
        rng.integers(0, 150, 40), rng.integers(0, 230, 40), rng.integers(3, 12, 40), strict=True
    ):
        image += 100 * np.exp(-((y - top) ** 2 + (x - left) ** 2) / radius**2)
    return image.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def tiny(make_model: Callable[..., Model]) -> Model:
    """A model that is known again, as if it came from a file."""
    model = make_model(distance=True)
    return replace(model, card=model.card.model_copy(update={"weights_sha256": "a" * 64}))


@pytest.fixture
def file(image: np.ndarray, tmp_path: Path) -> Path:
    tifffile.imwrite(tmp_path / "image.tif", image, tile=(32, 48), compression="zlib")
    return tmp_path / "image.tif"


def both(image: Any, model: Model, work: Path, **changes: Any) -> tuple[Segmentation, Segmentation]:
    inside = segment(image, loaded=model, **changes)
    large = segment(image, loaded=model, work=work, large_px=1, **changes)
    assert isinstance(large.classes, stores.StoredLabels)
    return inside, large


def same(inside: Segmentation, large: Segmentation) -> None:
    for name in ("classes", "instances", "probabilities"):
        one, other = getattr(inside, name), getattr(large, name)
        assert (one is None) == (other is None)
        if one is not None:
            assert (other.shape, other.dtype) == (one.shape, one.dtype)
            np.testing.assert_array_equal(np.asarray(other), one)
    for key in ("image", "pixels", "fractions", "planes", "segmented_rows", "model", "precision"):
        assert large.record[key] == inside.record[key]


def left(work: Path) -> list[Path]:
    return sorted(work.glob(".large-*"))


@given(
    height=st.integers(1, 150),
    width=st.integers(1, 230),
    changes=st.fixed_dictionaries(
        {
            "tile": st.sampled_from([64, 80, 128]),
            "tiling": st.sampled_from(["auto", "exact", "blend", "whole"]),
            "instances": st.booleans(),
        }
    ),
    distance=st.booleans(),
)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_result_is_that_of_the_whole_image(make_model, tiny, image, tmp_path, height, width, changes, distance):
    model = tiny if distance else make_model()
    same(*both(image[:height, :width], model, tmp_path, **changes))


@pytest.mark.parametrize(
    ("pixels", "axes", "more"),
    [
        (lambda image: np.stack([image[:100, :110], image[40:140, 60:170]]), "ZYX", {}),
        (lambda image: image.astype(np.float32) / 3, "YX", {"data_bar": (0, 37)}),
        (lambda image: image.astype(np.uint16) * 200, "YX", {"data_bar": (100, 150)}),
        (lambda image: np.stack([image, image[::-1], image[:, ::-1]], axis=-1), "YXS", {"pixel_size_nm": (2.0, 3.0)}),
        (lambda image: image.astype(np.int16)[:80, :80] - 100, "YX", {}),
    ],
)
@pytest.mark.parametrize("tiling", ["auto", "blend"])
def test_stacks_bars_colour_and_other_types(tiny, image, tmp_path, pixels, axes, more, tiling):
    micrograph = Micrograph(pixels(image), axes, **more)
    same(*both(micrograph, tiny, tmp_path, tiling=tiling, probabilities=True, **SMALL))


def test_lazy_pixels_are_never_read_whole(tiny, image, tmp_path, monkeypatch):
    monkeypatch.setattr(normalise, "BAND", 64 * 90)
    monkeypatch.setattr(rows, "ROWS", 64)

    class Lazy:
        shape, dtype, ndim = (900, 90), np.dtype(np.uint8), 2
        most = 0

        def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
            part = np.tile(image[:, :90], (6, 1))[key]
            self.most = max(self.most, part.size)
            return part

    lazy = Lazy()
    large = segment(Micrograph(lazy), loaded=tiny, work=tmp_path, large_px=1, **SMALL)
    assert lazy.most <= 200 * 90
    same(segment(np.tile(image[:, :90], (6, 1)), loaded=tiny, **SMALL), large)


def test_what_is_on_the_way_goes_with_the_result(tiny, image, tmp_path):
    large = segment(image, loaded=tiny, work=tmp_path, large_px=1, **SMALL)
    (folder,) = left(tmp_path)
    assert not list(folder.glob("plane-*/*"))
    assert {path.name for path in folder.glob("*.zarr")} == {"classes.zarr", "objects.zarr"}
    levels = large.classes.levels
    np.testing.assert_array_equal(levels[0][...], large.classes[::2, ::2])
    np.testing.assert_array_equal(levels[-1][...], large.classes[::4, ::4])
    del large, levels
    gc.collect()
    assert not left(tmp_path)


def counting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    done: list[int] = []
    keep = segmenting._keep

    def count(job: Any, plane: int, unit: int, piece: Any) -> None:
        keep(job, plane, unit, piece)
        done.append(unit)

    monkeypatch.setattr(segmenting, "_keep", count)
    return done


@pytest.mark.parametrize("tiling", ["auto", "blend"])
@pytest.mark.parametrize("steps", [6, 20])
def test_goes_on_where_it_was_stopped(tiny, file, tmp_path, monkeypatch, tiling, steps):
    changes = SMALL | {"loaded": tiny, "tiling": tiling}
    inside = segment(file, **changes)
    first = counting(monkeypatch)
    work = segment_steps(file, work=tmp_path, large_px=1, **changes)
    for _ in range(steps):
        next(work, None)
    work.close()
    before = list(first)
    assert len(left(tmp_path)) == 1
    first.clear()
    large = segment(file, work=tmp_path, large_px=1, **changes)
    same(inside, large)
    assert not set(before) & set(first)
    assert len(set(before) | set(first)) == len(before) + len(first)


@pytest.mark.parametrize("change", ["model", "image", "settings", "bar"])
def test_what_something_else_left_is_not_taken(tiny, file, image, tmp_path, monkeypatch, change):
    changes = SMALL | {"tiling": "exact", "large_px": 1, "work": tmp_path}
    model = tiny
    work = segment_steps(file, loaded=model, **changes)
    done = counting(monkeypatch)
    while len(done) < 3:
        next(work)
    work.close()
    micrograph = read(file)
    if change == "model":
        model = replace(model, card=model.card.model_copy(update={"weights_sha256": "0" * 64}))
    elif change == "image":
        tifffile.imwrite(file, image[::-1])
        micrograph = read(file)
    elif change == "settings":
        changes |= {"tile": 80}
    else:
        micrograph = Micrograph(micrograph.pixels, "YX", data_bar=(140, 150), source=file)
    done.clear()
    finish(segment_steps(micrograph, loaded=model, **changes))
    assert 0 in done


def test_a_second_run_beside_the_first_has_a_folder_of_its_own(tiny, file, tmp_path):
    changes = {"loaded": tiny, "large_px": 1, "work": tmp_path}
    one, other = segment(file, **changes), segment(file, **changes)
    assert one.classes.path != other.classes.path
    np.testing.assert_array_equal(one.classes[...], other.classes[...])


KILLED = """
import sys
from pathlib import Path
from napari_matseg.core.large import parts
from napari_matseg.pipeline import segment_steps
parts.SIDE = 50
for step in segment_steps(sys.argv[1], model=sys.argv[2], work=Path(sys.argv[3]), large_px=1, tile=64, instances=True):
    print(step.note, step.done, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_process_leaves_what_the_next_one_goes_on_with(tiny_file, file, tmp_path, monkeypatch):
    command = [sys.executable, "-c", KILLED, str(file), str(tiny_file), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("segmenting 5"):
                os.kill(process.pid, signal.SIGKILL)
                break
    assert len(left(tmp_path)) == 1
    done = counting(monkeypatch)
    changes = SMALL | {"model": str(tiny_file)}
    large = segment(file, work=tmp_path, large_px=1, **changes)
    assert 0 not in done
    same(segment(file, **changes), large)


def test_where_memory_runs_out_tiles_get_smaller(tiny, file, tmp_path, monkeypatch):
    changes = {"loaded": tiny, "tiling": "blend", "instances": True}
    inside = segment(file, tile=64, **changes)
    real = segmenting.predict

    def scarce(model: Model, image: Any, scale: Any, plan: Any, **more: Any) -> Iterator[Any]:
        if plan.tile > 100:
            raise TooLargeError
        yield from real(model, image, scale, plan, **more)

    monkeypatch.setattr(segmenting, "predict", scarce)
    large = segment(file, work=tmp_path, large_px=1, tile=128, **changes)
    np.testing.assert_array_equal(np.asarray(large.classes), inside.classes)
    assert large.record["planes"][0]["tiling"]["tile"] < 128

    def none(*_: Any, **__: Any) -> Iterator[Any]:
        raise MemoryError
        yield

    monkeypatch.setattr(segmenting, "predict", none)
    with pytest.raises(InputError, match=r"image\.tif: memory ran out at tiles of .* none smaller"):
        segment(file, work=tmp_path / "other", large_px=1, **changes)


def test_a_full_disk_is_told_and_the_next_run_goes_on(tiny, file, tmp_path, monkeypatch):
    changes = SMALL | {"loaded": tiny, "large_px": 1, "work": tmp_path}
    real = pieces.imagecodecs.zstd_encode
    room = [20]

    def full(*arguments: Any) -> bytes:
        room[0] -= 1
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(pieces.imagecodecs, "zstd_encode", full)
        with pytest.raises(OutputError, match="disk is full"):
            segment(file, **changes)
    done = counting(monkeypatch)
    large = segment(file, **changes)
    assert 0 not in done
    same(segment(file, loaded=tiny, **SMALL), large)


def test_bands_can_be_done_elsewhere_in_any_order(tiny, file, tmp_path):
    seen = []

    def elsewhere(job: Any, bands: Any) -> Iterator[Any]:
        device = next(tiny.network.parameters()).device
        for band in reversed(bands):
            there = open_job(job.folder)
            assert there == job
            seen.append(band)
            yield from segmenting.segment_band(there, band, read(file), tiny, device)

    changes = SMALL | {"loaded": tiny, "tiling": "blend"}
    work = segment_steps(file, work=tmp_path, large_px=1, run_bands=elsewhere, **changes)
    same(segment(file, **changes), finish(work))
    assert len(seen) > 1
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("labels", ["tiff", "zarr"])
def test_saved_it_reads_back_the_same(tiny, image, tmp_path, labels):
    micrograph = Micrograph(image, pixel_size_nm=(2.0, 4.0), data_bar=(120, 150))
    inside, large = both(micrograph, tiny, tmp_path, **SMALL)
    files = save(large, micrograph, tmp_path / "large", "a b.c", labels)
    small = save(inside, micrograph, tmp_path / "small", "a b.c", labels)
    assert {key: path.name for key, path in files.items()} == {key: path.name for key, path in small.items()}
    for what, expected in (("labels", inside.classes), ("instances", inside.instances)):
        for written in (files, small):
            back = read(written[what])
            np.testing.assert_array_equal(back.pixels, expected)
            assert back.pixel_size_nm == pytest.approx((2.0, 4.0))
    assert files["overlay"].read_bytes() == small["overlay"].read_bytes()
    assert json.loads(files["record"].read_text())["settings"]["large_px"] == 1


def test_settings_say_from_where_on():
    assert SegmentSettings().large_px == 2**27


def test_the_command_line_does_it_by_itself(run, tiny_file, file, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_matseg.cli.DEFAULTS", SegmentSettings(large_px=1000, tile=64))
    status, out, _ = run("segment", file, "--model", tiny_file, "--out", tmp_path / "out", "--instances")
    assert status == 0
    assert "image_labels.tif" in out
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "out" / "image_labels.tif"), segment(file, model=str(tiny_file), tile=64).classes
    )
    gc.collect()
    assert not left(tmp_path / "out")
