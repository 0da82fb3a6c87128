from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image

from napari_matseg.core.checkpoints import load_model
from napari_matseg.core.exporting import onnx_write
from napari_matseg.core.exporting.bioimage import DOI, PAPERS, export_bioimage, export_bioimage_steps
from napari_matseg.core.exporting.onnx_network import open_session
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.errors import InputError, MatsegError, OutputError, SettingsError
from napari_matseg.settings import UPSAMPLINGS

if TYPE_CHECKING:
    from napari_matseg.core.checkpoints import Model

AUTHORS = ["A. Nobody", "B. Else"]
SIDE = 80  # halo 8 on both sides, 64 left


@pytest.fixture(scope="module")
def package(onnx_model: Model, onnx_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import onnx

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_write, "_trace", lambda *_: onnx.load(onnx_file))
        return export_bioimage(onnx_model, tmp_path_factory.mktemp("bioimage") / "tiny.zip", AUTHORS)


@pytest.fixture(scope="module")
def parts(package: Path) -> dict[str, bytes]:
    with ZipFile(package) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


@pytest.fixture(scope="module")
def described(parts: dict[str, bytes]) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(parts["rdf.yaml"])
    return found


def test_its_own_test_accepts_it_without_a_network(package: Path, tmp_path: Path) -> None:
    script = Path(__file__).with_name("check_bioimage.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(package)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        check=False,
    )
    assert done.stdout.split("\n")[0] == "passed", done.stdout + done.stderr


def test_done_as_it_is_described_it_gives_what_it_says(parts: dict[str, bytes], described: dict[str, Any]) -> None:
    (image,) = described["inputs"]
    values = np.load(io.BytesIO(parts[image["test_tensor"]["source"]]))
    assert values.shape == (1, 1, SIDE, SIDE)
    scale, linear, clip = (step["kwargs"] for step in image["preprocessing"])
    shares = scale["min_percentile"], scale["max_percentile"]
    low, high = np.percentile(values, shares, axis=(2, 3), keepdims=True)
    values = (values - low) / (high - low + scale["eps"]) * linear["gain"] + linear["offset"]
    session = open_session(parts["model.onnx"], "cpu")
    found = session.run(None, {"image": values.clip(clip["min"], clip["max"]).astype(np.float32)})
    for output, maps in zip(described["outputs"], found, strict=True):
        expected = np.load(io.BytesIO(parts[output["test_tensor"]["source"]]))
        np.testing.assert_allclose(maps, expected, rtol=0, atol=1e-4)
        sample = tifffile.imread(io.BytesIO(parts[output["sample_tensor"]["source"]]))
        np.testing.assert_array_equal(sample, expected[0])
        assert len(output["axes"][1]["channel_names"]) == maps.shape[1]


def test_what_is_described(parts: dict[str, bytes], described: dict[str, Any], onnx_model: Model) -> None:
    assert described["authors"] == [{"name": name} for name in AUTHORS]
    assert described["license"] == "MIT"
    assert [one["doi"] for one in described["cite"]] == [PAPERS["unet"][1], "10.1000/182"]
    assert described["inputs"][0]["axes"][2] == {"type": "space", "id": "y", "size": {"min": SIDE, "step": 8}}
    assert [one["id"] for one in described["outputs"]] == ["probabilities", "depth"]
    assert described["outputs"][0]["axes"][1]["channel_names"] == ["matrix", "a", "b"]
    assert {axis["halo"] for output in described["outputs"] for axis in output["axes"][2:]} == {8}
    card = onnx_model.card.model_dump(mode="json")
    assert described["config"]["napari_matseg"]["card"] == card
    written = [described["weights"]["onnx"]]
    written += [
        one[key] for one in described["inputs"] + described["outputs"] for key in ("test_tensor", "sample_tensor")
    ]
    for one in written:
        assert hashlib.sha256(parts[one["source"]]).hexdigest() == one["sha256"]
    assert "# tiny" in parts["README.md"].decode()
    assert "## Validation" in parts["README.md"].decode()
    cover = Image.open(io.BytesIO(parts["cover.png"]))
    assert cover.size == (2 * SIDE, SIDE)
    assert len(parts["cover.png"]) < 500_000


def test_the_network_in_it_is_a_model(parts: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(parts["model.onnx"])
    assert load_model(path).card.name == "tiny"


def test_the_middle_of_a_micrograph_without_its_data_bar(traced: None, onnx_model: Model, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 60000, (110, 100), np.uint16)
    micrograph = Micrograph(pixels, "YX", data_bar=(90, 110))
    path = export_bioimage(onnx_model, tmp_path / "model.zip", AUTHORS, licence="CC-BY-4.0", sample=micrograph)
    with ZipFile(path) as opened:
        found = np.load(io.BytesIO(opened.read("test_image.npy")))
        assert yaml.safe_load(opened.read("rdf.yaml"))["license"] == "CC-BY-4.0"
    np.testing.assert_array_equal(found[0, 0], pixels[5:85, 10:90])


@pytest.mark.parametrize(
    ("name", "changes", "error", "said"),
    [
        ("m.tar", {}, OutputError, r"m\.tar: a package of bioimage\.io ends in \.zip; give it such a name"),
        ("m.zip", {"authors": []}, SettingsError, "bioimage.io asks who made a model; name at least one author"),
        ("m.zip", {"licence": "mine"}, SettingsError, "licence 'mine' is no identifier of SPDX, .* such as BSD-3"),
        ("m.zip", {"licence": ""}, SettingsError, "licence '' is no identifier of SPDX"),
        (
            "m.zip",
            {"sample": Micrograph(np.zeros((90, 79), np.uint8), "YX")},
            InputError,
            "needs 80 x 80 px, and this has 90 x 79 without its data bar; choose a larger one",
        ),
    ],
)
def test_mistakes(
    name: str, changes: dict[str, Any], error: type[MatsegError], said: str, onnx_model: Model, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        export_bioimage(onnx_model, tmp_path / name, **{"authors": AUTHORS} | changes)
    assert not list(tmp_path.iterdir())


def test_stopped_it_leaves_nothing(traced: None, onnx_model: Model, tmp_path: Path) -> None:
    work = export_bioimage_steps(onnx_model, tmp_path / "model.zip", AUTHORS)
    steps = [next(work) for _ in range(4)]
    assert [step.done for step in steps] == [0, 1, 2, 3]
    assert steps[-1].note == "packing"
    work.close()
    assert not list(tmp_path.iterdir())


def test_where_the_network_sees_everything_there_is_a_halo_nevertheless(onnx_model: Model) -> None:
    from napari_matseg.core.exporting.bioimage import _Shape

    for update, halo in (
        ({"reach": None, "halo": None}, 128),
        ({"halo": 2000}, 256),
        ({"reach": 40, "halo": None}, 40),
    ):
        shape = _Shape.of(replace(onnx_model, card=onnx_model.card.model_copy(update=update)))
        assert shape.halo == halo
        assert shape.smallest % 8 == 0
        assert shape.smallest >= 2 * halo + 64


def test_every_network_has_a_paper() -> None:
    assert PAPERS.keys() == UPSAMPLINGS.keys()
    assert all(DOI.fullmatch(doi) for _, doi in PAPERS.values())
