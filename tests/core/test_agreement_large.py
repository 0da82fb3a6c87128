from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_matseg import comparing
from napari_matseg.comparing import compare
from napari_matseg.core import axes, read_tiff
from napari_matseg.core.agreement import large
from napari_matseg.core.agreement.boundaries import count_boundaries, count_near
from napari_matseg.core.large.stores import write_labels_zarr
from napari_matseg.core.measure import runs
from napari_matseg.errors import InputError
from napari_matseg.settings import ClassSpec, EvaluateSettings

SPECS = tuple(ClassSpec(name=name, colour=(i, 0, 0)) for i, name in enumerate(("matrix", "carbide", "pore")))
CLASSES = st.tuples(st.integers(1, 12), st.integers(1, 9)).flatmap(
    lambda shape: st.tuples(*(arrays(np.uint8, shape, elements=st.integers(0, 2)) for _ in range(2)))
)


@given(CLASSES, st.integers(1, 5), st.sampled_from([0.5, 1.0, 2.5]))
def test_boundaries_of_bands_add_up(pair: tuple[np.ndarray, np.ndarray], step: int, tolerance: float) -> None:
    predicted, true = pair
    whole = count_boundaries(predicted, true, 3, tolerance_px=tolerance, ignore=2)
    margin = int(np.ceil(tolerance)) + 1
    total = np.zeros((4, 3), np.int64)
    for top in range(0, len(true), step):
        first, stop = max(top - margin, 0), min(top + step + margin, len(true))
        inside = slice(top - first, min(top + step, len(true)) - first)
        total += count_near(predicted[first:stop], true[first:stop], 3, tolerance_px=tolerance, ignore=2, rows=inside)
    np.testing.assert_array_equal(total, [whole.predicted, whole.predicted_near, whole.truth, whole.truth_near])


@pytest.fixture
def in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything stays in its file, and is looked at a few rows at a time."""
    for module in (read_tiff, axes):
        monkeypatch.setattr(module, "LAZY_BYTES", 0)
    monkeypatch.setattr(runs, "BAND", 7 * 60)


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = np.kron(rng.integers(0, 3, (8, 10)), np.ones((6, 6), int)).astype(np.uint8)
    return np.roll(truth, (1, 2), (0, 1)), truth


def without_hausdorff(compared: Any) -> Any:
    tables = compared.tables()
    for row in tables["classes"]:
        for name in [name for name in row if name.startswith("hausdorff")]:
            del row[name]
    return tables


def test_classes_in_files_score_as_in_memory(tmp_path: Path, pair: Any, request: pytest.FixtureRequest) -> None:
    predicted, true = pair
    write_labels_zarr(tmp_path / "p.ome.zarr", predicted, classes=SPECS, record={"segmented_rows": [0, 41]})
    write_labels_zarr(tmp_path / "t.ome.zarr", true, classes=SPECS)
    tifffile.imwrite(tmp_path / "mapped.tif", true * 9, tile=(16, 16))
    inside = compare([(tmp_path / "p.ome.zarr", tmp_path / "t.ome.zarr")])
    mapping = {0: 0, 9: 1, 18: 255}
    mapped = compare([(tmp_path / "p.ome.zarr", tmp_path / "mapped.tif")], mapping=mapping)
    request.getfixturevalue("in_files")
    found = compare([(tmp_path / "p.ome.zarr", tmp_path / "t.ome.zarr")])
    assert without_hausdorff(found) == without_hausdorff(inside)
    assert found.notes == (large.NO_HAUSDORFF.format(tmp_path / "p.ome.zarr"),)
    assert {row["hausdorff95_px"] for row in found.tables()["classes"][:-1]} == {None}
    found = compare([(tmp_path / "p.ome.zarr", tmp_path / "mapped.tif")], mapping=mapping)
    assert without_hausdorff(found) == without_hausdorff(mapped)
    assert found.notes[0] == mapped.notes[0]


def test_objects_in_files_match_as_in_memory(tmp_path: Path, pair: Any, request: pytest.FixtureRequest) -> None:
    from napari_matseg.core.labels import label_objects

    predicted, true = (label_objects(classes) for classes in pair)
    write_labels_zarr(tmp_path / "p.ome.zarr", predicted)
    write_labels_zarr(tmp_path / "c.ome.zarr", pair[0], classes=SPECS)
    write_labels_zarr(tmp_path / "t.ome.zarr", true)
    objects = EvaluateSettings(objects=True)
    pairs = [[(tmp_path / name, tmp_path / "t.ome.zarr")] for name in ("p.ome.zarr", "c.ome.zarr")]
    inside = [compare(one, objects).to_dict() for one in pairs]
    request.getfixturevalue("in_files")
    for one, expected in zip(pairs, inside, strict=True):
        found = compare(one, objects)
        assert found.to_dict() == expected
        assert any("no outlines are looked for" in note for note in found.notes)


def test_a_mask_in_a_file_is_taken_apart(tmp_path: Path, in_files: None) -> None:
    mask = np.zeros((20, 60), np.uint8)
    mask[2:6, 2:6] = mask[10:19, 30:40] = 255
    tifffile.imwrite(tmp_path / "mask.tif", mask, tile=(16, 16))
    compared = compare([(tmp_path / "mask.tif", tmp_path / "mask.tif")], EvaluateSettings(objects=True))
    assert compared.scores.counts.n_truth == 2
    assert any("has one value alone" in note for note in compared.notes)


def test_what_cannot_be_read_in_parts_is_said(
    tmp_path: Path, pair: Any, in_files: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    predicted, true = pair
    write_labels_zarr(tmp_path / "p.ome.zarr", predicted, classes=SPECS)
    colour = np.stack([true, 0 * true, 0 * true], axis=-1)
    tifffile.imwrite(tmp_path / "colour.tif", colour, photometric="rgb")
    tifffile.imwrite(tmp_path / "small.tif", true[:-1], tile=(16, 16))
    tifffile.imwrite(tmp_path / "strange.tif", true + 70, tile=(16, 16))
    assert compare([(tmp_path / "p.ome.zarr", tmp_path / "colour.tif")]).images
    monkeypatch.setattr(large, "MOST_AT_ONCE", 100)
    for settings in (None, EvaluateSettings(objects=True)):
        with pytest.raises(InputError, match="has 2880 pixels, too many to be compared at once, and only truth that"):
            compare([(tmp_path / "p.ome.zarr", tmp_path / "colour.tif")], settings)
        with pytest.raises(InputError, match=r"the truth of (the same|this) image, neither cropped nor scaled"):
            compare([(tmp_path / "p.ome.zarr", tmp_path / "small.tif")], settings)
    with pytest.raises(
        InputError, match=r"its values, 70, 71, 72, are not all of a class \(matrix, carbide, pore\); give"
    ):
        compare([(tmp_path / "p.ome.zarr", tmp_path / "strange.tif")])
    assert comparing.in_parts is large.in_parts
