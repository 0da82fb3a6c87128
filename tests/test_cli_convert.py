from __future__ import annotations

import numpy as np
import pytest

from napari_matseg.core.read import read
from napari_matseg.core.synthetic import write_demo


@pytest.mark.parametrize("ending", ["tif", "ome.zarr"])
def test_convert_keeps_what_is_known(run, tmp_path, ending):
    source, _ = write_demo(tmp_path / "a.tif", shape=(64, 96))
    out = tmp_path / f"b.{ending}"
    status, printed, said = run("convert", source, out)
    assert status == 0
    assert printed.startswith(f"{out}: ")
    assert "MB" in printed
    assert "each view" in said
    before, after = read(source), read(out)
    np.testing.assert_array_equal(after.pixels, before.pixels)
    assert (after.describe(), after.vendor, after.metadata) == (before.describe(), before.vendor, before.metadata)


def test_nothing_is_replaced_unasked(run, tmp_path):
    source, _ = write_demo(tmp_path / "a.tif", shape=(64, 96))
    out = tmp_path / "b.tif"
    out.write_text("mine")
    status, _, said = run("convert", source, out)
    assert status == 2
    assert "is there already" in said
    assert out.read_text() == "mine"
    assert run("convert", source, out, "--overwrite")[0] == 0
    assert read(out).shape_yx == read(source).shape_yx
