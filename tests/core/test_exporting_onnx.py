from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from napari_matseg.core.architectures import stride_of
from napari_matseg.core.checkpoints import Model, load_model, read_card
from napari_matseg.core.exporting import onnx_write
from napari_matseg.core.exporting.onnx_network import OnnxNetwork, open_session
from napari_matseg.core.exporting.onnx_read import hash_tensors
from napari_matseg.core.exporting.onnx_write import export_onnx, export_onnx_steps
from napari_matseg.core.start import start_from
from napari_matseg.errors import ModelError, OutputError, SettingsError
from napari_matseg.pipeline import segment
from napari_matseg.settings import TrainSettings


@pytest.fixture(scope="module")
def loaded(onnx_file: Path) -> Model:
    return load_model(onnx_file)


@pytest.fixture(scope="module")
def image_yx() -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=(211, 333))
    return (noise * 20 + 100).clip(0, 255).astype(np.uint8)


class TestUse:
    @pytest.mark.parametrize(
        ("settings", "strategy"),
        [({"tiling": "whole"}, "whole"), ({"tiling": "exact", "tile": 160}, "halo")],
    )
    def test_gives_the_labels_of_torch(
        self, settings: dict[str, Any], strategy: str, loaded: Model, onnx_model: Model, image_yx: np.ndarray
    ) -> None:
        asked = {"device": "cpu", "probabilities": True, "instances": True}
        expected = segment(image_yx, loaded=onnx_model, tiling="whole", **asked)
        found = segment(image_yx, loaded=loaded, **settings, **asked)
        assert found.record["planes"][0]["tiling"]["strategy"] == strategy
        np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=0, atol=1e-4)
        first, second = np.sort(expected.probabilities, axis=0)[:-3:-1]
        sure = first - second > 1e-4
        assert sure.mean() > 0.99
        np.testing.assert_array_equal(found.classes[sure], expected.classes[sure])
        assert abs(int(found.instances.max()) - int(expected.instances.max())) <= 1

    def test_blended_it_gives_what_torch_gives(self, loaded: Model, onnx_model: Model, image_yx: np.ndarray) -> None:
        asked = {"device": "cpu", "probabilities": True, "tiling": "blend", "tile": 128}
        found, expected = (segment(image_yx, loaded=model, **asked) for model in (loaded, onnx_model))
        np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=0, atol=1e-4)

    def test_the_path_of_a_file_is_a_model(self, onnx_file: Path, image_yx: np.ndarray) -> None:
        result = segment(image_yx, model=str(onnx_file), device="cpu")
        assert result.record["model"]["path"] == str(onnx_file)
        assert result.record["model"]["engine"].startswith("ONNX Runtime ")
        assert "CPUExecutionProvider" in result.record["model"]["engine"]
        assert "onnxruntime" in result.record["versions"]

    def test_the_scores_are_those_of_the_network_but_for_what_a_softmax_does_not_see(
        self, loaded: Model, onnx_model: Model
    ) -> None:
        image = torch.randn(3, 1, 16, 40)
        with torch.inference_mode():
            found, expected = loaded.network(image), onnx_model.network(image)
        torch.testing.assert_close(found[:, :3], expected[:, :3].log_softmax(dim=1), rtol=0, atol=1e-4)
        torch.testing.assert_close(found[:, 3].sigmoid(), expected[:, 3].sigmoid(), rtol=0, atol=1e-5)
        assert stride_of(loaded.network) == stride_of(onnx_model.network) == 8
        assert isinstance(loaded.layers, str)


class TestFile:
    def test_any_runtime_takes_any_number_and_size_of_images(self, onnx_file: Path) -> None:
        session = open_session(onnx_file.read_bytes(), "cpu")
        for batch, height, width in ((1, 8, 8), (5, 24, 64)):
            image = np.zeros((batch, 1, height, width), np.float32)
            probabilities, depth = session.run(["probabilities", "depth"], {"image": image})
            assert probabilities.shape == (batch, 3, height, width)
            assert depth.shape == (batch, 1, height, width)
            np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
            assert depth.min() >= 0
            assert depth.max() <= 1

    def test_says_what_it_is(self, onnx_file: Path, onnx_model: Model) -> None:
        graph = onnx.load(onnx_file)
        onnx.checker.check_model(graph)
        known = {prop.key: prop.value for prop in graph.metadata_props}
        assert json.loads(known["classes"]) == ["matrix", "a", "b"]
        assert known["stride"] == "8"
        assert known["pixel_size"] == "2.5 nm"
        assert "1 and 99 become -1 and 1" in known["normalisation"]
        assert known["opset"] == str(graph.opset_import[0].version) == "18"
        assert float(known["bytes_per_pixel"]) > 100
        card = read_card(onnx_file)
        assert card.weights_sha256 == hash_tensors(graph)
        assert known["from_weights_sha256"] == onnx_model.card.weights_sha256
        assert card.model_copy(update={"weights_sha256": onnx_model.card.weights_sha256}) == onnx_model.card

    def test_names_no_folder_of_this_machine(self, onnx_file: Path) -> None:
        content = onnx_file.read_bytes()
        assert b"site-packages" not in content
        assert str(Path(onnx_write.__file__).parents[3]).encode() not in content


class TestMistakes:
    def test_one_that_differs_is_not_written(
        self, onnx_file: Path, onnx_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def other(*_: object) -> Any:
            graph = onnx.load(onnx_file)
            head = next(one for one in graph.graph.initializer if len(one.dims) == 4)
            head.raw_data = (onnx.numpy_helper.to_array(head) * np.float32(1.5)).tobytes()
            return graph

        monkeypatch.setattr(onnx_write, "_trace", other)
        said = r"bad\.onnx: not written, .* model tiny differ by .*, and 0\.0001 is the most .* use the model as it is"
        with pytest.raises(ModelError, match=said):
            export_onnx(onnx_model, tmp_path / "bad.onnx")
        assert not list(tmp_path.iterdir())

    def test_one_that_cannot_be_traced(
        self, onnx_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise RuntimeError("no such operator\nand more")

        monkeypatch.setattr(torch.onnx, "export", fail)
        with pytest.raises(ModelError, match=r"^model tiny cannot be written as ONNX \(no such operator\); use it as"):
            export_onnx(onnx_model, tmp_path / "bad.onnx")
        monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: None)
        with pytest.raises(ModelError, match=r"^model tiny cannot be written as ONNX; use it as it is\.$"):
            export_onnx(onnx_model, tmp_path / "bad.onnx")
        assert not list(tmp_path.iterdir())

    def test_another_ending(self, onnx_model: Model, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match=r"model\.pt: an ONNX file ends in \.onnx; give it such a name"):
            export_onnx(onnx_model, tmp_path / "model.pt")

    def test_what_is_onnx_already(self, loaded: Model, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"tiny\.onnx: is ONNX already; export the model that it was made from"):
            export_onnx(loaded, tmp_path / "again.onnx")

    @pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
    def test_a_package_that_is_missing(
        self, package: str, onnx_model: Model, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, package, None)
        said = rf'needs {package}; install it with: pip install "napari-matseg\[exchange\]"'
        with pytest.raises(ModelError, match=said):
            export_onnx(onnx_model, tmp_path / "model.onnx")
        if package != "onnxscript":
            with pytest.raises(ModelError, match=said):
                load_model(onnx_file)

    def test_stopped_it_leaves_nothing(self, traced: None, onnx_model: Model, tmp_path: Path) -> None:
        work = export_onnx_steps(onnx_model, tmp_path / "model.onnx")
        notes = [next(work).note for _ in range(3)]
        assert notes == ["tracing the network", "writing", "comparing with torch"]
        work.close()
        assert not list(tmp_path.iterdir())

    def test_damaged_files(self, onnx_file: Path, tmp_path: Path) -> None:
        path = tmp_path / "model.onnx"
        path.write_bytes(onnx_file.read_bytes()[:-1000])
        with pytest.raises(ModelError, match=r"model\.onnx: is not an ONNX file or is damaged \(.*export it again"):
            load_model(path)
        graph = onnx.load(onnx_file)
        weights = max(graph.graph.initializer, key=lambda one: len(one.raw_data))
        weights.raw_data = weights.raw_data[:-4] + b"\0\0\0\x40"
        path.write_bytes(graph.SerializeToString())
        with pytest.raises(ModelError, match=r"the weights are not those its card was written for \(sha256\); export"):
            load_model(path)

    def test_files_of_others(self, onnx_file: Path, tmp_path: Path) -> None:
        graph, path = onnx.load(onnx_file), tmp_path / "model.onnx"
        card = next(prop for prop in graph.metadata_props if prop.key == "napari_matseg_card")
        card.value = '{"format": 2}'
        path.write_bytes(graph.SerializeToString())
        with pytest.raises(ModelError, match=r"model\.onnx: its card cannot be used .*newer napari-matseg"):
            read_card(path)
        graph.ClearField("metadata_props")
        path.write_bytes(graph.SerializeToString())
        with pytest.raises(
            ModelError, match=r"holds a network but no napari-matseg card, .*napari-matseg export-model"
        ):
            read_card(path)

    def test_one_that_the_runtime_refuses(self, onnx_file: Path, tmp_path: Path) -> None:
        graph, path = onnx.load(onnx_file), tmp_path / "model.onnx"
        graph.graph.node[0].op_type = "Nonsense"
        path.write_bytes(graph.SerializeToString())
        with pytest.raises(ModelError, match=r"model\.onnx: ONNX Runtime cannot use it \(.*Nonsense.*\); export it"):
            load_model(path)

    @pytest.mark.parametrize("device", ["mps", "cuda:1"])
    def test_a_device_that_the_runtime_is_not_for(
        self, device: str, onnx_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
        said = rf"tiny\.onnx: the onnxruntime that is installed does not compute on {device[:4].strip(':')}.*choose dev"
        with pytest.raises(ModelError, match=said):
            load_model(onnx_file, device)

    def test_a_tile_for_which_there_is_no_memory(self, loaded: Model) -> None:
        network = OnnxNetwork(loaded.network.session, 8, 1e15)
        with pytest.raises(MemoryError, match="out of memory for 1 x 64 x 64 px"):
            network(torch.zeros(1, 1, 64, 64))

        class Full:
            def run(self, *_: object) -> None:
                raise RuntimeError("Failed to allocate memory for requested buffer")

        with pytest.raises(MemoryError, match="Failed to allocate"):
            OnnxNetwork(Full(), 8, 1.0)(torch.zeros(1, 1, 64, 64))
        with pytest.raises(Exception, match=r"Got invalid dimensions|INVALID_ARGUMENT"):
            loaded.network(torch.zeros(1, 2, 64, 64))

    def test_where_memory_is_short_tiles_are_smaller(self, loaded: Model, image_yx: np.ndarray) -> None:
        import psutil

        # Room for about 200 x 200 px at once.
        scarce = psutil.virtual_memory().available * 0.5 / 200**2
        model = replace(loaded, network=OnnxNetwork(loaded.network.session, 8, scarce))
        result = segment(image_yx, loaded=model, device="cpu", tile=256)
        assert result.record["planes"][0]["tiling"]["tile"] == 128

    def test_it_cannot_be_trained_further(self, onnx_file: Path, onnx_model: Model) -> None:
        settings = TrainSettings.model_validate(
            {
                "name": "next",
                "classes": [spec.model_dump() for spec in onnx_model.card.classes],
                "distance": True,
                "synthetic": 0.5,
                "data": {"images": "a", "truth": "b", "train": ["c"]},
                "architecture": onnx_model.card.architecture.model_dump(),
                "start": str(onnx_file),
            }
        )
        with pytest.raises(SettingsError, match=r"tiny\.onnx cannot be trained further; name the \.safetensors file"):
            start_from(onnx_model.network, settings)


def test_the_model_stays_as_it_was(traced: None, onnx_model: Model, tmp_path: Path) -> None:
    before = {name: one.clone() for name, one in onnx_model.network.state_dict().items()}
    export_onnx(onnx_model, tmp_path / "model.onnx")
    assert all(torch.equal(one, before[name]) for name, one in onnx_model.network.state_dict().items())
