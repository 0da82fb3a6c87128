from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import google_crc32c
import numcodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, ZstdCodec

from napari_matseg.core import axes, read_zarr
from napari_matseg.core.pixels import LazyPixels
from napari_matseg.core.read import read
from napari_matseg.errors import InputError

GREY = np.arange(70, dtype=np.uint16).reshape(7, 10)
COLOUR = np.random.default_rng(0).integers(0, 255, (3, 7, 10), dtype=np.uint8)
RGB = {"channels": [{"label": name, "color": code} for name, code in zip("rgb", read_zarr.RGB, strict=True)]}
UNITS = {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}


def write_image(group: zarr.Group, levels: list[np.ndarray], names: str, **more: Any) -> None:
    """Fill a group with an image; `steps`, `overall` and `units` say its calibration."""
    steps = more.pop("steps", {"y": 0.5, "x": 0.25})
    units = more.pop("units", UNITS)
    overall = more.pop("overall", None)
    datasets = []
    for number, level in enumerate(levels):
        group.create_array(str(number), data=level, chunks=tuple(min(4, length) for length in level.shape))
        scale = [steps.get(name, 1.0) * 2**number for name in names]
        datasets.append({"path": str(number), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    listed = [{"name": name} | ({"unit": units[name]} if name in units else {}) for name in names]
    multiscale: dict[str, Any] = {"axes": listed, "datasets": datasets}
    if overall:
        multiscale["coordinateTransformations"] = [{"type": "scale", "scale": overall}]
    metadata = {"multiscales": [multiscale], **more}
    group.attrs.update(metadata if group.metadata.zarr_format == 2 else {"ome": {"version": "0.5", **metadata}})


def ome_zarr(path: Path, levels: list[np.ndarray], names: str = "yx", version: int = 2, **more: Any) -> Path:
    """Write OME-Zarr 0.4, which is Zarr 2, or 0.5, which is Zarr 3."""
    write_image(zarr.open_group(path, mode="w", zarr_format=version), levels, names, **more)
    return path


@pytest.fixture
def lazy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every image is a large one."""
    monkeypatch.setattr(axes, "LAZY_BYTES", 0)


@pytest.fixture(params=[2, 3], ids=["0.4", "0.5"])
def version(request: pytest.FixtureRequest) -> int:
    return request.param


def test_an_image(tmp_path, version):
    path = ome_zarr(tmp_path / "a.ome.zarr", [GREY], version=version)
    micrograph = read(path)
    assert (micrograph.axes, micrograph.pixel_size_nm) == ("YX", (500, 250))
    assert (micrograph.vendor, micrograph.source, micrograph.metadata, micrograph.levels) == ("OME", path, {}, ())
    assert micrograph.pixels.dtype == np.uint16
    np.testing.assert_array_equal(micrograph.pixels, GREY)


@pytest.mark.parametrize("dtype", ["bool", "i1", "u1", "i2", "u4", "f2", "f4", "f8"])
def test_any_number(tmp_path, version, dtype):
    image = GREY.astype(dtype)
    pixels = read(ome_zarr(tmp_path / "a.zarr", [image], version=version)).pixels
    assert pixels.dtype == ("u1" if dtype == "bool" else dtype)
    np.testing.assert_array_equal(pixels, image)


@pytest.mark.usefixtures("lazy")
def test_large_images_stay_in_their_chunks_with_their_levels(tmp_path, version):
    path = ome_zarr(tmp_path / "a.zarr", [GREY, GREY[::2, ::2], GREY[::4, ::4]], version=version)
    micrograph = read(path, find_bar=False)
    assert isinstance(micrograph.pixels, LazyPixels)
    assert [level.shape for level in micrograph.levels] == [(4, 5), (2, 3)]
    np.testing.assert_array_equal(micrograph.levels[1], GREY[::4, ::4])
    np.testing.assert_array_equal(micrograph.pixels[5:1:-2, 3:], GREY[5:1:-2, 3:])
    np.testing.assert_array_equal(micrograph.plane()[0], GREY)


@pytest.mark.usefixtures("lazy")
def test_levels_that_are_damaged_are_left_out(tmp_path):
    path = ome_zarr(tmp_path / "a.zarr", [GREY, GREY[::2, ::2], GREY[::4, ::4]])
    shutil.rmtree(path / "2")
    assert len(read(path, find_bar=False).levels) == 1
    larger = ome_zarr(tmp_path / "b.zarr", [GREY[::2, ::2], GREY])
    assert read(larger, find_bar=False).levels == ()


def test_axes_are_those_of_the_metadata(tmp_path, version):
    stack = np.stack([GREY, GREY + 1, GREY + 2])
    micrograph = read(ome_zarr(tmp_path / "a.zarr", [stack[None, :, None]], "tczyx", version))
    assert (micrograph.axes, micrograph.metadata) == ("CYX", {})
    np.testing.assert_array_equal(micrograph.pixels, stack)
    micrograph = read(ome_zarr(tmp_path / "b.zarr", [np.stack([stack] * 2)], "tzxy", version))
    assert (micrograph.axes, micrograph.shape_yx) == ("TZYX", (10, 7))
    assert micrograph.pixel_size_nm == (500, 250)
    np.testing.assert_array_equal(micrograph.pixels[1, 2], (GREY + 2).T)


def test_channels_are_named_and_red_green_and_blue_are_colour(tmp_path, version):
    micrograph = read(ome_zarr(tmp_path / "a.zarr", [COLOUR], "cyx", version, omero=RGB))
    assert micrograph.axes == "YXS"
    np.testing.assert_array_equal(micrograph.pixels, np.moveaxis(COLOUR, 0, -1))
    other = {"channels": [{"label": name, "color": "FFFFFF"} for name in ("HAADF", "BF", "DF")]}
    micrograph = read(ome_zarr(tmp_path / "b.zarr", [COLOUR], "cyx", version, omero=other))
    assert (micrograph.axes, micrograph.metadata) == ("CYX", {"channels": ["HAADF", "BF", "DF"]})
    grey = np.stack([COLOUR[0]] * 3)
    assert read(ome_zarr(tmp_path / "c.zarr", [grey], "cyx", version, omero=RGB)).axes == "YX"


@pytest.mark.parametrize(
    ("unit", "size"),
    [
        *(("nanometer", (0.5, 0.25)), ("angstrom", (0.05, 0.025)), ("millimeter", (5e5, 2.5e5))),
        *(("picometer", (5e-4, 2.5e-4)), ("second", None), ("1/nm", None), (None, None), (7, None)),
    ],
)
def test_units(tmp_path, unit, size):
    found = read(ome_zarr(tmp_path / "a.zarr", [GREY], units={"y": unit, "x": unit})).pixel_size_nm
    assert found == (None if size is None else pytest.approx(size))


def test_the_scale_of_all_levels_counts_too(tmp_path, version):
    path = ome_zarr(tmp_path / "a.zarr", [GREY], version=version, overall=[3.0, 2.0])
    assert read(path).pixel_size_nm == (1500, 500)


@pytest.mark.parametrize("listed", [["y", "x"], None], ids=["0.3", "0.2"])
def test_older_metadata(tmp_path, listed):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("s0", data=GREY if listed else GREY[None, None, None])
    group.attrs["multiscales"] = [{"datasets": [{"path": "s0"}]} | ({"axes": listed} if listed else {})]
    micrograph = read(tmp_path / "a.zarr")
    assert (micrograph.axes, micrograph.pixel_size_nm) == ("YX", None)
    np.testing.assert_array_equal(micrograph.pixels, GREY)


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_consolidated_metadata_have_no_word(tmp_path, version):
    path = ome_zarr(tmp_path / "a.zarr", [GREY], version=version)
    zarr.consolidate_metadata(path)
    np.testing.assert_array_equal(read(path).pixels, GREY)
    if version == 2:
        (path / ".zmetadata").write_text("{")
        np.testing.assert_array_equal(read(path).pixels, GREY)


@pytest.mark.filterwarnings("ignore:Object at .* is not recognized")
def test_labels_are_not_looked_at(tmp_path, version):
    path = ome_zarr(tmp_path / "a.zarr", [GREY], version=version)
    labels = zarr.open_group(path, mode="r+").create_group("labels")
    write_image(labels.create_group("grains"), [GREY % 3], "yx")
    np.testing.assert_array_equal(read(path).pixels, GREY)
    np.testing.assert_array_equal(read(path / "labels/grains").pixels, GREY % 3)


def test_of_several_images_the_first_is_taken(tmp_path, version):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
    layout = {"bioformats2raw.layout": 3}
    group.attrs.update(layout if version == 2 else {"ome": layout})
    for number in (0, 1, 10):
        write_image(group.create_group(str(number)), [GREY + number], "yx")
    micrograph = read(tmp_path / "a.zarr")
    assert micrograph.metadata == {"left_out": ["image 1", "image 10"]}
    np.testing.assert_array_equal(micrograph.pixels, GREY)
    np.testing.assert_array_equal(read(tmp_path / "a.zarr/10").pixels, GREY + 10)


def test_a_bare_array(tmp_path, version):
    def written(name: str, image: np.ndarray) -> Path:
        zarr.save_array(tmp_path / name, image, zarr_format=version)
        return tmp_path / name

    assert read(written("a", GREY)).axes == "YX"
    assert read(written("b", np.stack([GREY] * 5))).axes == "ZYX"
    colour = read(written("c", np.moveaxis(COLOUR, 0, -1)))
    assert colour.axes == "YXS"
    np.testing.assert_array_equal(colour.pixels, np.moveaxis(COLOUR, 0, -1))
    with pytest.raises(InputError, match="the Zarr array has 1 axis; name an image"):
        read(written("d", GREY[0]))


def test_shards(tmp_path):
    array = zarr.create_array(tmp_path / "a.zarr", shape=(8, 8), chunks=(2, 2), shards=(4, 4), dtype="u1")
    array[:] = np.arange(64).reshape(8, 8)
    np.testing.assert_array_equal(read(tmp_path / "a.zarr").pixels, np.arange(64).reshape(8, 8))


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("checked", [True, False], ids=["checksum", "none"])
@pytest.mark.parametrize("side", [4, 8], ids=["some chunks", "all chunks of a shard"])
def test_a_bomb_in_a_shard(tmp_path, location, checked, side):
    codecs = (BytesCodec(), *([Crc32cCodec()] if checked else []))
    zstd = ZstdCodec()
    shard = ShardingCodec(chunk_shape=(4, 4), codecs=(BytesCodec(), zstd), index_codecs=codecs, index_location=location)
    path = tmp_path / "a.zarr"
    array = zarr.create_array(path, shape=(8, 8), chunks=(8, 8), dtype="u1", serializer=shard, compressors=None)
    array[:, :] = np.arange(64).reshape(8, 8)
    found = read(path, find_bar=False).pixels
    np.testing.assert_array_equal(found[:side, :side], np.arange(64).reshape(8, 8)[:side, :side])

    (file,) = (path / "c").rglob("0/0")
    bomb = bytes(numcodecs.Zstd().encode(np.zeros(2**26, "u1")))
    index = np.frombuffer(np.array([[0, len(bomb)]] * 4, "<u8").tobytes(), "u1")
    size = 64 + 4 * checked
    if location == "start":
        index = index.view("<u8").reshape(4, 2) + np.array([size, 0], "<u8")
        index = index.astype("<u8").view("u1").ravel()
    whole = index.tobytes() + (google_crc32c.value(index.tobytes()).to_bytes(4, "little") if checked else b"")
    file.write_bytes(whole + bomb if location == "start" else bomb + whole)
    with pytest.raises(InputError, match=r"a chunk of \d+ bytes becomes more than its store says"):
        read(path, find_bar=False).pixels[:side, :side]


def test_shards_that_cannot_be_looked_at(tmp_path):
    inner = ShardingCodec(chunk_shape=(2, 2))
    outer = ShardingCodec(chunk_shape=(4, 4), codecs=(inner,))
    path = tmp_path / "a.zarr"
    zarr.create_array(path, shape=(8, 8), chunks=(8, 8), dtype="u1", serializer=outer, compressors=None)
    refused(path, "shards of this kind are not read; save it without shards")
    path = tmp_path / "b.zarr"
    zarr.create_array(path, shape=(4, 2**22), chunks=(1, 2), shards=(4, 2**22), dtype="u1")
    refused(path, "has 8388608 chunks in a shard; save it with smaller shards")


def test_chunks_that_are_not_there_hold_the_fill_value(tmp_path):
    path = ome_zarr(tmp_path / "a.zarr", [GREY])
    (path / "0/0.0").unlink()
    expected = GREY.copy()
    expected[:4, :4] = 0
    np.testing.assert_array_equal(read(path).pixels, expected)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("place", ["compressor", "filters"])
def test_nothing_in_a_store_is_run(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    zarr.open_array(tmp_path / "a.zarr", mode="w", shape=(2, 2), dtype="i4", zarr_format=2, compressor=None)[:] = 1
    metadata = json.loads((tmp_path / "a.zarr/.zarray").read_text())
    metadata[place] = {"id": "pickle"} if place == "compressor" else [{"id": "pickle"}]
    (tmp_path / "a.zarr/.zarray").write_text(json.dumps(metadata))
    (tmp_path / "a.zarr/0.0").write_bytes(pickle.dumps(Bomb()))
    refused(tmp_path / "a.zarr", "pickle")
    assert not (tmp_path / "executed").exists()


def test_codecs_are_found_wherever_they_are():
    shard = {"name": "sharding_indexed", "configuration": {"codecs": [{"name": "numcodecs.zlib"}], "index_codecs": ()}}
    assert read_zarr._codecs({"codecs": (shard, {"name": "crc32c"})}) == {"sharding_indexed", "zlib", "crc32c"}
    assert read_zarr._codecs({"compressor": {"id": "blosc"}, "filters": [{"id": "pickle"}]}) == {"blosc", "pickle"}


def test_codecs_that_are_not_for_images_are_refused(tmp_path, monkeypatch):
    path = ome_zarr(tmp_path / "a.zarr", [GREY])
    monkeypatch.setattr(read_zarr, "CODECS", {"bytes"})
    refused(path, "chunks coded by .* are not decoded; convert the store")


def refused(path: Path, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def changed(path: Path, name: str, **changes: Any) -> Path:
    """Change the metadata in a file of a store."""
    metadata = json.loads((path / name).read_text())
    (path / name).write_text(json.dumps(metadata | changes))
    return path


def test_what_cannot_be_read_is_said_in_one_line(tmp_path, monkeypatch):
    path = ome_zarr(tmp_path / "a.zarr", [GREY.astype("c8")])
    refused(path, "complex values are not supported")
    ome_zarr(path, [GREY], "cy")
    refused(path, r"the axes \['c', 'y'\] do not fit an image of shape \(7, 10\)")
    ome_zarr(path, [GREY], plate={"wells": []})
    shutil.copytree(path, tmp_path / "b.zarr")
    changed(tmp_path / "b.zarr", ".zattrs", multiscales=[])
    refused(tmp_path / "b.zarr", "is a plate of many images; name the folder of one")
    (tmp_path / "b.zarr/.zattrs").unlink()
    refused(tmp_path / "b.zarr", "no image that its metadata tell of")
    for outside in ("../c.zarr/0", "/etc", "a\\..\\b", "C:x"):
        changed(path, ".zattrs", multiscales=[{"axes": ["y", "x"], "datasets": [{"path": outside}]}])
        refused(path, "outside the store")
    changed(path, ".zattrs", multiscales=[{"axes": ["y", "x"], "datasets": [{"path": "9"}]}])
    refused(path, "cannot be read|damaged")
    ome_zarr(path, [GREY])
    monkeypatch.setattr(read_zarr, "MOST_BYTES_PER_CHUNK", 10)
    refused(path, r"has chunks of 0\.0 GiB; save it with smaller ones")


def test_a_folder_that_is_no_store_is_said_to_be_one(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    refused(tmp_path / "a.zarr", "is a folder; name an image file in it")


@pytest.mark.usefixtures("lazy")
def test_a_claim_to_any_size_costs_nothing(tmp_path, version):
    zarr.create_array(tmp_path / "a.zarr", shape=(2**24, 2**24), chunks=(64, 64), dtype="u1", zarr_format=version)
    assert read(tmp_path / "a.zarr", find_bar=False).shape_yx == (2**24, 2**24)
    zarr.create_array(tmp_path / "b.zarr", shape=(5, 2**40), chunks=(5, 64), dtype="u1", zarr_format=version)
    refused(tmp_path / "b.zarr", r"claims to be of shape \(5, 1099511627776\); copy it again")


def test_any_damage_ends_in_an_image_or_an_error(tmp_path, version):
    path = ome_zarr(tmp_path / "a.zarr", [GREY, GREY[::2, ::2]], version=version)
    files = [one for one in sorted(path.rglob("*")) if one.is_file()]
    random = np.random.default_rng(0)
    messages = []
    for number in range(60):
        one = files[number % len(files)]
        good = one.read_bytes()
        bad = np.frombuffer(good, np.uint8).copy()
        where = random.integers(0, len(bad), random.integers(1, 4))
        bad[where] = random.choice([*b'0123456789[]{}",-e.', 0, 255], len(where))
        one.write_bytes(bad[: random.integers(0, len(bad)) if random.random() < 0.2 else None].tobytes())
        try:
            micrograph = read(path, find_bar=False)
            if np.prod(micrograph.pixels.shape) < 2**20:
                micrograph.plane()
        except InputError as error:
            messages.append(str(error))
        one.write_bytes(good)
    assert messages
    assert not any("\n" in message for message in messages)
