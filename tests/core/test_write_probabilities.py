from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_matseg.core.read import read
from napari_matseg.core.write_probabilities import write_probabilities
from napari_matseg.errors import OutputError
from napari_matseg.settings import ClassSpec

SPECS = tuple(ClassSpec(name=name, colour=(0, 0, 0)) for name in ("matrix", "pore"))


@pytest.mark.parametrize(("planes", "axes"), [((), "CYX"), ((3,), "TCYX"), ((2, 3), "TCYX")])
def test_written_and_read(tmp_path, planes, axes):
    path = tmp_path / "p.tif"
    given = np.random.default_rng(0).random((*planes, 2, 20, 30)).astype(np.float32)
    write_probabilities(path, given, SPECS, (2.0, 3.0))
    found = read(path, find_bar=False)
    assert (found.axes, found.pixel_size_nm) == (axes, (2.0, 3.0))
    np.testing.assert_array_equal(np.asarray(found.pixels).ravel(), given.ravel())
    with tifffile.TiffFile(path) as tif:
        assert all(spec.name in str(tif.ome_metadata) for spec in SPECS)


def test_a_place_that_is_not_there(tmp_path):
    with pytest.raises(OutputError, match="there is no folder"):
        write_probabilities(tmp_path / "gone" / "p.tif", np.zeros((2, 4, 4), np.float32), SPECS)
