from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_matseg.core import checkpoints
from napari_matseg.core.checkpoints import (
    CARD_KEY,
    Model,
    ModelCard,
    available,
    find,
    hash_weights,
    load_model,
    read_card,
    save_model,
    user_folder,
)
from napari_matseg.errors import ModelError, OutputError
from napari_matseg.settings import ArchitectureSettings, ClassSpec

MakeModel = Callable[..., Model]


@pytest.fixture(autouse=True)
def own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "own models"
    folder.mkdir()
    monkeypatch.setenv("NAPARI_MATSEG_MODELS", str(folder))
    return folder


def rewrite(path: Path, tiny_file: Path, **changes: object) -> Path:
    """Copy a model file with another card."""
    card = json.loads(read_card(tiny_file).model_dump_json()) | changes
    save_file(load_file(tiny_file), path, {CARD_KEY: json.dumps(card)})
    return path


class TestWriteThenRead:
    def test_scores_are_the_same_to_half_precision(self, make_model: MakeModel, tiny_file: Path) -> None:
        written, read = make_model(), load_model(tiny_file)
        image = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            torch.testing.assert_close(read.network(image), written.network(image), rtol=0, atol=0.02)

    def test_a_second_time_changes_nothing(self, tiny_file: Path, tmp_path: Path) -> None:
        model = load_model(tiny_file)
        card = save_model(tmp_path / "again.safetensors", model.network, model.card)
        assert card.weights_sha256 == model.card.weights_sha256

    def test_card_is_kept(self, make_model: MakeModel, tmp_path: Path) -> None:
        model = make_model()
        path = tmp_path / "a.safetensors"
        given = model.card.model_copy(
            update={
                "description": "Grüne Körner, 粒子",
                "not_for": "anything",
                "pixel_size_nm": 12.5,
                "halo": 16,
                "disagreement": 1e-5,
                "accuracy": {"test": {"iou": {"matrix": 0.9, "a": None}, "pooled_iou": 0.8}},
                "recipe": {"seed": 3},
                "reach": None,
            }
        )
        written = save_model(path, model.network, given)
        assert read_card(path) == load_model(path).card == written
        filled_in = {"reach": written.reach, "weights_sha256": written.weights_sha256, "created": written.created}
        assert written == given.model_copy(update=filled_in)
        assert written.reach == model.card.reach
        assert len(written.weights_sha256) == 64
        assert written.created.startswith("20")

    def test_kernels_take_half_the_room_and_the_rest_its_own(self, tiny_file: Path) -> None:
        for name, tensor in load_file(tiny_file).items():
            if tensor.is_floating_point():
                assert tensor.dtype == (torch.float16 if tensor.ndim > 1 else torch.float32), name

    def test_loaded_model_is_ready(self, tiny_file: Path) -> None:
        model = load_model(str(tiny_file))
        assert model.path == tiny_file
        assert not model.network.training
        assert not any(weight.requires_grad for weight in model.network.parameters())
        assert {weight.dtype for weight in model.network.parameters()} == {torch.float32}

    @pytest.mark.parametrize(
        "changes", [{"distance": True}, {"fold": 2}, {"in_channels": 3}, {"encoder": "mobilenet_v2"}], ids=str
    )
    def test_other_networks(self, make_model: MakeModel, tmp_path: Path, changes: dict[str, object]) -> None:
        model = make_model(**changes)
        save_model(tmp_path / "a.safetensors", model.network, model.card)
        read = load_model(tmp_path / "a.safetensors")
        image = torch.zeros(1, model.card.architecture.in_channels, 32, 32)
        assert read.network(image).shape == (1, read.card.out_channels, 32, 32)

    def test_hash_is_of_names_types_shapes_and_values(self) -> None:
        weights = {"a": torch.zeros(2, 3), "b": torch.zeros((), dtype=torch.int64), "c": torch.ones(2).bfloat16()}
        found = hash_weights(weights)
        assert hash_weights(dict(reversed(weights.items()))) == found
        others = [
            weights | {"a": torch.zeros(3, 2)},
            weights | {"a": torch.zeros(2, 3).half()},
            weights | {"a": torch.full((2, 3), 1e-30)},
            {"A": weights["a"], "b": weights["b"], "c": weights["c"]},
        ]
        assert len({found, *map(hash_weights, others)}) == 5

    def test_file_that_cannot_be_written(self, make_model: MakeModel, tmp_path: Path) -> None:
        model = make_model()
        with pytest.raises(OutputError, match="there is no folder"):
            save_model(tmp_path / "missing" / "a.safetensors", model.network, model.card)


class TestFinding:
    def test_own_folder(self, own_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert user_folder() == own_models
        monkeypatch.delenv("NAPARI_MATSEG_MODELS")
        monkeypatch.delenv("LOCALAPPDATA", raising=False)
        monkeypatch.setenv("XDG_DATA_HOME", "/data")
        assert user_folder() == Path("/data/napari-matseg/models")
        monkeypatch.delenv("XDG_DATA_HOME")
        assert user_folder() == Path.home() / ".local/share/napari-matseg/models"

    def test_own_models_win_over_those_that_ship(
        self, own_models: Path, tmp_path: Path, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        package = tmp_path / "package"
        (package / "models").mkdir(parents=True)
        monkeypatch.setattr(checkpoints, "files", lambda name: package)
        for name in ("both", "shipped"):
            (package / "models" / f"{name}.safetensors").write_bytes(tiny_file.read_bytes())
        assert available() == {name: package / "models" / f"{name}.safetensors" for name in ("both", "shipped")}
        (own_models / "both.safetensors").write_bytes(tiny_file.read_bytes())
        (own_models / "mine.safetensors").write_bytes(tiny_file.read_bytes())
        (own_models / "note.txt").write_text("no model")
        assert sorted(available()) == ["both", "mine", "shipped"]
        assert find("both") == own_models / "both.safetensors"
        assert find("shipped") == package / "models" / "shipped.safetensors"
        assert load_model("mine").path == own_models / "mine.safetensors"

    def test_own_folder_need_not_be_there(self, own_models: Path) -> None:
        own_models.rmdir()
        assert set(available()) <= {"particles", "superalloy"}

    def test_files_by_path(self, tiny_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert find(tiny_file) == tiny_file
        monkeypatch.setenv("HOME", str(tiny_file.parent))
        assert find("~/tiny.safetensors") == tiny_file

    @pytest.mark.parametrize("name", ["nonsense", "missing/a.safetensors", "~nobody/a", "", "x" * 5000, "a\0b"])
    def test_neither_model_nor_file(self, name: str, own_models: Path, tiny_file: Path) -> None:
        (own_models / "mine.safetensors").write_bytes(tiny_file.read_bytes())
        with pytest.raises(ModelError, match=r"no such model or file; the models here are .*mine"):
            find(name)

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="no such model or file"):
            load_model(tmp_path)


class Exploit:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


class TestDamage:
    @pytest.mark.parametrize("how", ["pickle", "torch", "renamed"])
    def test_pickles_are_never_run(self, tmp_path: Path, how: str) -> None:
        trace, path = tmp_path / "trace", tmp_path / ("a.safetensors" if how == "renamed" else "a.pt")
        if how == "torch":
            torch.save({"weights": Exploit(trace)}, path)
        else:
            path.write_bytes(pickle.dumps(Exploit(trace)))
        for read in (read_card, load_model):
            with pytest.raises(ModelError, match="is not a model file or is damaged"):
                read(path)
        assert not trace.exists()
        pickle.loads(pickle.dumps(Exploit(trace)))  # noqa: S301
        assert trace.exists()  # it would have worked

    @pytest.mark.parametrize("content", [b"", b"x", b"\x00" * 64, b"II*\x00" + bytes(200), b"\xff" * 200])
    def test_other_files(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "a.safetensors"
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"a\.safetensors: is not a model file or is damaged .*get it again"):
            load_model(path)

    @pytest.mark.parametrize("kept", [4, 100, 0.5, -1])
    def test_truncated(self, tmp_path: Path, tiny_file: Path, kept: float) -> None:
        content = tiny_file.read_bytes()
        path = tmp_path / "a.safetensors"
        path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
        with pytest.raises(ModelError, match="is not a model file or is damaged"):
            load_model(path)

    @pytest.mark.parametrize("place", [0.3, 0.6, 0.9, 1.0])
    def test_flipped_bit_among_the_weights(self, tmp_path: Path, tiny_file: Path, place: float) -> None:
        content = bytearray(tiny_file.read_bytes())
        header = 8 + int.from_bytes(content[:8], "little")
        content[header + int(place * (len(content) - header - 1))] ^= 1
        path = tmp_path / "a.safetensors"
        path.write_bytes(content)
        assert read_card(path) == read_card(tiny_file)
        with pytest.raises(ModelError, match=r"the weights are not those its card was written for \(sha256\)"):
            load_model(path)

    def test_flipped_bits_in_the_header_never_give_other_weights(self, tmp_path: Path, tiny_file: Path) -> None:
        content = tiny_file.read_bytes()
        header = 8 + int.from_bytes(content[:8], "little")
        expected = load_file(tiny_file)
        path = tmp_path / "a.safetensors"
        for place in range(0, header, header // 25):
            path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
            try:
                weights = load_model(path).network.state_dict()
            except ModelError as error:
                assert "a.safetensors: " in str(error)  # noqa: PT017
            else:
                assert all(torch.equal(weights[name], tensor.to(weights[name])) for name, tensor in expected.items())

    def test_weights_without_a_card(self, tmp_path: Path) -> None:
        path = tmp_path / "a.safetensors"
        save_file({"weight": torch.zeros(2)}, path)
        with pytest.raises(ModelError, match=r"a\.safetensors: holds weights but no napari-matseg card"):
            load_model(path)

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"format": 2}, "format: .*1"),
            ({"prompts": True}, "prompts: there is no such setting"),
            ({"classes": []}, "classes: .* at least 2"),
            ({"classes": [{"name": "a", "colour": [0, 0, 0]}] * 2}, "classes: two classes have the same name"),
            ({"architecture": {"name": "nonsense"}}, "architecture.name"),
            ({"architecture": {"encoder": "tu-hf-hub:someone/else"}}, "architecture.encoder"),
            ({"pixel_size_nm": -1}, "pixel_size_nm"),
        ],
    )
    def test_card_that_this_version_does_not_know(
        self, tmp_path: Path, tiny_file: Path, changes: dict[str, object], reason: str
    ) -> None:
        path = rewrite(tmp_path / "a.safetensors", tiny_file, **changes)
        with pytest.raises(
            ModelError, match=rf"a\.safetensors: its card cannot be used \({reason}.*may need a newer napari-matseg"
        ):
            read_card(path)

    @pytest.mark.parametrize("card", ["", "{", "[]", "null"])
    def test_card_that_is_none(self, tmp_path: Path, tiny_file: Path, card: str) -> None:
        path = tmp_path / "a.safetensors"
        save_file(load_file(tiny_file), path, {CARD_KEY: card})
        with pytest.raises(ModelError, match="its card cannot be used"):
            read_card(path)

    @pytest.mark.parametrize(
        "changes",
        [
            {"classes": [{"name": name, "colour": [0, 0, 0]} for name in "abcd"]},
            {"distance": True},
            {"architecture": {"encoder": "mobilenet_v2"}},
            {"architecture": {"encoder": "tu-resnet10t", "encoder_depth": 4, "options": {"decoder_channels": [8] * 4}}},
        ],
        ids=["classes", "distance", "encoder", "depth"],
    )
    def test_weights_of_another_network(self, tmp_path: Path, tiny_file: Path, changes: dict[str, object]) -> None:
        path = rewrite(tmp_path / "a.safetensors", tiny_file, **changes)
        with pytest.raises(ModelError, match=r"a\.safetensors: the weights do not fit the network"):
            load_model(path)

    def test_network_that_cannot_be_built(self, tmp_path: Path, tiny_file: Path) -> None:
        path = rewrite(tmp_path / "a.safetensors", tiny_file, architecture={"encoder": "nonsense"})
        with pytest.raises(ModelError, match=r"a\.safetensors: encoder 'nonsense' is unknown"):
            load_model(path)

    def test_card_cannot_have_other_files_read(self, tmp_path: Path, tiny_file: Path) -> None:
        trace, other = tmp_path / "trace", tmp_path / "other.pt"
        other.write_bytes(pickle.dumps(Exploit(trace)))
        architecture = {"encoder": "tu-resnet10t", "options": {"checkpoint_path": str(other)}}
        path = rewrite(tmp_path / "a.safetensors", tiny_file, architecture=architecture)
        with pytest.raises(ModelError, match="option 'checkpoint_path' cannot be used here"):
            load_model(path)
        assert not trace.exists()


def test_card_for_a_reader() -> None:
    classes = (ClassSpec(name="matrix", colour=(0, 0, 0)), ClassSpec(name="pore", colour=(255, 0, 0)))
    card = ModelCard(name="pores", classes=classes, architecture=ArchitectureSettings())
    text = card.to_markdown()
    for part in ("# pores", "0 matrix, 1 pore", "unet, encoder resnet18", "the whole image", "Not for: not said"):
        assert part in text
    figures = {"iou": {"matrix": 0.91234, "pore": None}, "dice": {"matrix": 0.95}, "pooled_iou": 0.9}
    card = card.model_copy(
        update={"reach": 287, "halo": 128, "disagreement": 2e-5, "pixel_size_nm": 12.5, "accuracy": {"test": figures}}
    )
    text = card.to_markdown()
    for part in ("287 px", "128 px", "0.0020%", "12.5 nm", "| matrix | 0.9123 | 0.9500 | - |", "| pore | - | - | - |"):
        assert part in text
