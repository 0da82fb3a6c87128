from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_matseg.core.label_files import write_labels
from napari_matseg.core.measure.grain_files import read_grains_steps
from napari_matseg.core.progress import finish
from napari_matseg.errors import InputError
from napari_matseg.settings import ClassSpec


def read_grains(*arguments: Any) -> Any:
    return finish(read_grains_steps(*arguments))


def test_grains_from_ids_and_from_boundaries(tmp_path: Path) -> None:
    grains = np.kron(np.arange(1, 17).reshape(4, 4), np.ones((20, 20), int)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "grains.tif", grains)
    (field,), size = read_grains([tmp_path / "grains.tif"], None, (100.0, 100.0))
    assert field.n_planar == 16 - 12 / 2 - 1
    assert field.shape_yx == grains.shape
    assert size == (100.0, 100.0)
    lines = np.zeros(grains.shape, np.uint8)
    lines[:, 19:79:20] = lines[19:79:20] = 1
    both = (ClassSpec(name="grain", colour=(0, 0, 0)), ClassSpec(name="boundary", colour=(255, 255, 255)))
    write_labels(tmp_path / "lines.tif", lines, classes=both, pixel_size_nm=(100.0, 100.0))
    for boundary in ("boundary", "1"):
        (found,), size = read_grains([tmp_path / "lines.tif"], boundary)
        assert found.n_planar == field.n_planar
    with pytest.raises(InputError, match="say which of them is the boundary"):
        read_grains([tmp_path / "lines.tif"])
    with pytest.raises(InputError, match="no class edge; its classes are grain, boundary"):
        read_grains([tmp_path / "lines.tif"], "edge")
    with pytest.raises(InputError, match="of unknown size and"):
        read_grains([tmp_path / "grains.tif", tmp_path / "lines.tif"], "1")


def test_planes_are_fields_and_rows_that_were_left_out_are_none(tmp_path: Path) -> None:
    grains = np.stack([np.arange(1, 5).repeat(10)[:, None].repeat(30, 1)] * 2).astype(np.uint16)
    path = tmp_path / "stack.tif"
    write_labels(path, grains, axes="ZYX", record={"segmented_rows": [0, 30]})
    fields, size = read_grains([path])
    assert [field.shape_yx for field in fields] == [(30, 30)] * 2
    assert [field.n_planar for field in fields] == [3 - 4 / 2 - 1] * 2
    assert size is None


def test_grey_is_no_grain(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "grey.tif", np.zeros((4, 4), np.float32))
    with pytest.raises(InputError, match="whole numbers without colour"):
        read_grains([tmp_path / "grey.tif"])
