from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

import napari_matseg
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.provenance import describe_image, describe_model, describe_run, hash_file


def test_an_image_in_memory():
    micrograph = Micrograph(np.zeros((4, 5, 6), np.uint16), "ZYX", pixel_size_nm=(2.5, 3.0), data_bar=(4, 5))
    described = describe_image(micrograph)
    assert json.loads(json.dumps(described)) == {
        "path": None,
        "sha256": None,
        "shape": [4, 5, 6],
        "axes": "ZYX",
        "dtype": "uint16",
        "pixel_size_nm": [2.5, 3.0],
        "pixel_size_from": None,
        "data_bar_rows": [4, 5],
        "data_bar_from": None,
    }


def test_an_image_in_a_file_is_known_by_its_content(tmp_path):
    path = tmp_path / "image.tif"
    path.write_bytes(b"some pixels")
    described = describe_image(Micrograph(np.zeros((5, 6)), source=path))
    assert described["path"] == str(path)
    assert described["sha256"] == hashlib.sha256(b"some pixels").hexdigest()
    assert described["pixel_size_nm"] is described["data_bar_rows"] is None


def test_an_image_in_a_folder_is_known_by_all_its_files(tmp_path):
    store = tmp_path / "a.zarr"
    (store / "0").mkdir(parents=True)
    (store / "0" / "chunk").write_bytes(b"some pixels")
    before = hash_file(store)
    assert before == hash_file(store)
    (store / "0" / "chunk").rename(store / "0" / "other")
    assert len({before, hash_file(store)}) == 2


def test_a_file_that_is_gone_has_no_hash(tmp_path):
    assert hash_file(tmp_path / "gone.tif") is None


def test_a_model(make_threshold):
    model = make_threshold(weights_sha256="abc")
    assert describe_model(model) == {
        "name": "threshold",
        "path": None,
        "weights_sha256": "abc",
        "classes": [{"name": "dark", "colour": [0, 0, 0]}, {"name": "bright", "colour": [255, 0, 0]}],
    }
    assert describe_model(replace(model, path=Path("a") / "b.safetensors"))["path"] == str(Path("a/b.safetensors"))


def test_a_run_names_the_time_and_the_versions():
    described = json.loads(json.dumps(describe_run()))
    assert abs(datetime.now(UTC) - datetime.fromisoformat(described["created"])) < timedelta(minutes=1)
    assert described["versions"]["napari-matseg"] == napari_matseg.__version__
    assert described["versions"]["numpy"] == np.__version__
    assert {"torch", "segmentation-models-pytorch", "timm", "scikit-image", "tifffile"} <= set(described["versions"])


def test_a_package_that_is_not_there_is_left_out(monkeypatch):
    monkeypatch.setattr("napari_matseg.core.provenance.PACKAGES", ("numpy", "no-such-package"))
    assert set(describe_run()["versions"]) == {"napari-matseg", "numpy"}
