from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from segment_anything.modeling import Sam

from napari_matseg.core.checkpoints import hash_weights, load_model
from napari_matseg.core.sam import hugging_face, weights
from napari_matseg.core.sam.networks import Layout, build_sam
from napari_matseg.core.sam.weights import (
    PROMPTABLE_KEY,
    PromptableCard,
    available_promptable,
    load_promptable,
    read_promptable_card,
    save_promptable,
)
from napari_matseg.core.sam.zoo import ZOO
from napari_matseg.errors import ModelError, OutputError

VIT = Layout(
    encoder="vit",
    options={
        "embed_dim": 32,
        "depth": 2,
        "num_heads": 2,
        "mlp_dim": 64,
        "window_size": 3,
        "global_attn_indexes": [1],
    },
    image_size=64,
    prompt_dim=32,
)
TINY_VIT = Layout(
    encoder="tiny_vit",
    options={"widths": [16, 32, 48, 64], "depths": [1, 1, 1, 1], "heads": [2, 3, 4], "windows": [7, 5, 7]},
    prompt_dim=32,
)
COMPACT = Layout(
    encoder="compact",
    options={"channels": [8, 8, 8, 8], "decoder_channels": [8, 8, 8, 8, 8]},
    image_size=128,
    prompt_dim=32,
)
Weights = dict[str, torch.Tensor]

# Names by transformers' SamModel and by segment-anything (= where it is the same); * is weight and bias, # a number.
HUGGING_FACE = """
shared_image_embedding.positional_embedding prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
vision_encoder.pos_embed image_encoder.pos_embed
vision_encoder.patch_embed.projection.* image_encoder.patch_embed.proj.*
vision_encoder.layers.#.layer_norm1.* image_encoder.blocks.#.norm1.*
vision_encoder.layers.#.attn.rel_pos_h image_encoder.blocks.#.attn.rel_pos_h
vision_encoder.layers.#.attn.rel_pos_w image_encoder.blocks.#.attn.rel_pos_w
vision_encoder.layers.#.attn.qkv.* image_encoder.blocks.#.attn.qkv.*
vision_encoder.layers.#.attn.proj.* image_encoder.blocks.#.attn.proj.*
vision_encoder.layers.#.layer_norm2.* image_encoder.blocks.#.norm2.*
vision_encoder.layers.#.mlp.lin1.* image_encoder.blocks.#.mlp.lin1.*
vision_encoder.layers.#.mlp.lin2.* image_encoder.blocks.#.mlp.lin2.*
vision_encoder.neck.conv1.weight image_encoder.neck.0.weight
vision_encoder.neck.layer_norm1.* image_encoder.neck.1.*
vision_encoder.neck.conv2.weight image_encoder.neck.2.weight
vision_encoder.neck.layer_norm2.* image_encoder.neck.3.*
prompt_encoder.mask_embed.conv1.* prompt_encoder.mask_downscaling.0.*
prompt_encoder.mask_embed.conv2.* prompt_encoder.mask_downscaling.3.*
prompt_encoder.mask_embed.conv3.* prompt_encoder.mask_downscaling.6.*
prompt_encoder.mask_embed.layer_norm1.* prompt_encoder.mask_downscaling.1.*
prompt_encoder.mask_embed.layer_norm2.* prompt_encoder.mask_downscaling.4.*
prompt_encoder.no_mask_embed.weight =
prompt_encoder.point_embed.0.weight prompt_encoder.point_embeddings.0.weight
prompt_encoder.point_embed.1.weight prompt_encoder.point_embeddings.1.weight
prompt_encoder.point_embed.2.weight prompt_encoder.point_embeddings.2.weight
prompt_encoder.point_embed.3.weight prompt_encoder.point_embeddings.3.weight
prompt_encoder.not_a_point_embed.weight =
mask_decoder.iou_token.weight =
mask_decoder.mask_tokens.weight =
mask_decoder.transformer.layers.#.self_attn.q_proj.* =
mask_decoder.transformer.layers.#.self_attn.k_proj.* =
mask_decoder.transformer.layers.#.self_attn.v_proj.* =
mask_decoder.transformer.layers.#.self_attn.out_proj.* =
mask_decoder.transformer.layers.#.layer_norm1.* mask_decoder.transformer.layers.#.norm1.*
mask_decoder.transformer.layers.#.cross_attn_token_to_image.@ =
mask_decoder.transformer.layers.#.layer_norm2.* mask_decoder.transformer.layers.#.norm2.*
mask_decoder.transformer.layers.#.mlp.lin1.* =
mask_decoder.transformer.layers.#.mlp.lin2.* =
mask_decoder.transformer.layers.#.layer_norm3.* mask_decoder.transformer.layers.#.norm3.*
mask_decoder.transformer.layers.#.layer_norm4.* mask_decoder.transformer.layers.#.norm4.*
mask_decoder.transformer.layers.#.cross_attn_image_to_token.@ =
mask_decoder.transformer.final_attn_token_to_image.@ =
mask_decoder.transformer.layer_norm_final_attn.* mask_decoder.transformer.norm_final_attn.*
mask_decoder.upscale_conv1.* mask_decoder.output_upscaling.0.*
mask_decoder.upscale_conv2.* mask_decoder.output_upscaling.3.*
mask_decoder.upscale_layer_norm.* mask_decoder.output_upscaling.1.*
mask_decoder.output_hypernetworks_mlps.&.proj_in.* mask_decoder.output_hypernetworks_mlps.&.layers.0.*
mask_decoder.output_hypernetworks_mlps.&.layers.0.* mask_decoder.output_hypernetworks_mlps.&.layers.1.*
mask_decoder.output_hypernetworks_mlps.&.proj_out.* mask_decoder.output_hypernetworks_mlps.&.layers.2.*
mask_decoder.iou_prediction_head.proj_in.* mask_decoder.iou_prediction_head.layers.0.*
mask_decoder.iou_prediction_head.layers.0.* mask_decoder.iou_prediction_head.layers.1.*
mask_decoder.iou_prediction_head.proj_out.* mask_decoder.iou_prediction_head.layers.2.*
"""
WILDCARDS = {
    "@": ("q_proj.*", "k_proj.*", "v_proj.*", "out_proj.*"),
    "*": ("weight", "bias"),
    "#": ("0", "1"),
    "&": ("0", "1", "2", "3"),
}


def by_segment_anything() -> dict[str, str]:
    """Give the names of a network of two blocks by transformers for those by segment-anything."""
    pairs = [line.split() for line in HUGGING_FACE.strip().splitlines()]
    for mark, values in WILDCARDS.items():
        pairs = [
            [name.replace(mark, value) for name in pair]
            for pair in pairs
            for value in (values if mark in pair[0] else [""])
        ]
    return {theirs if ours == "=" else ours: theirs for theirs, ours in pairs}


def make(layout: Layout) -> Sam:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sam = build_sam(layout).eval()
        for weight in sam.parameters():
            torch.nn.init.normal_(weight, std=0.1)
    return sam.requires_grad_(False)


@pytest.fixture(scope="module")
def vit() -> Sam:
    return make(VIT)


@pytest.fixture(scope="module")
def tiny_vit() -> Sam:
    return make(TINY_VIT)


@pytest.fixture(scope="module")
def compact_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a model of ours; not to be written to."""
    path = tmp_path_factory.mktemp("models") / "small.safetensors"
    save_promptable(path, make(COMPACT), card())
    return path


@pytest.fixture(autouse=True)
def own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "own models" / "promptable"
    folder.mkdir(parents=True)
    monkeypatch.setenv("NAPARI_MATSEG_MODELS", str(folder.parent))
    return folder


def card(**changes: Any) -> PromptableCard:
    return PromptableCard(**({"name": "small", "layout": COMPACT, "licence": "BSD-3-Clause"} | changes))


def to_hugging_face(state: Weights) -> Weights:
    return {theirs: state[ours].contiguous() for ours, theirs in by_segment_anything().items()}


def write_hugging_face(folder: Path, state: Weights, **config: object) -> Path:
    folder.mkdir()
    save_file(to_hugging_face(state), folder / "model.safetensors", {"format": "pt"})
    content = {"model_type": "sam", "mask_decoder_config": {"num_attention_heads": 8}} | config
    (folder / "config.json").write_text(json.dumps(content))
    return folder


def assert_same(found: Sam, expected: Sam) -> None:
    state = found.state_dict()
    for name, weight in expected.state_dict().items():
        torch.testing.assert_close(state[name], weight, rtol=0, atol=0, msg=name)


def answer(sam: Sam) -> tuple[torch.Tensor, torch.Tensor]:
    """Low-resolution masks and scores for one point on a random image."""
    generator = torch.Generator().manual_seed(1)
    side = sam.image_encoder.img_size
    with torch.inference_mode():
        embedding = sam.image_encoder(torch.randn(1, 3, side, side, generator=generator))
        sparse, dense = sam.prompt_encoder(
            points=(torch.tensor([[[20.0, 30.0]]]), torch.tensor([[1]])), boxes=None, masks=None
        )
        masks: tuple[torch.Tensor, torch.Tensor] = sam.mask_decoder(
            image_embeddings=embedding,
            image_pe=sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )
    return masks


class TestOfficialLayouts:
    def test_segment_anything(self, vit: Sam, tmp_path: Path) -> None:
        torch.save(vit.state_dict(), tmp_path / "mine.pth")
        model = load_promptable(str(tmp_path / "mine.pth"))
        assert_same(model.sam, vit)
        torch.testing.assert_close(answer(model.sam), answer(vit))
        assert (model.name, model.path, model.licence) == ("mine", tmp_path / "mine.pth", "")
        assert model.sha256 == hash_weights(vit.state_dict())
        assert not model.sam.training
        assert not any(weight.requires_grad for weight in model.sam.parameters())
        assert {weight.dtype for weight in model.sam.parameters()} == {torch.float32}
        assert not any(weight.is_meta for weight in (*model.sam.parameters(), *model.sam.buffers()))

    def test_mobile_sam(self, tiny_vit: Sam, tmp_path: Path) -> None:
        torch.save(tiny_vit.state_dict(), tmp_path / "a.pt")
        model = load_promptable(tmp_path / "a.pt")
        assert_same(model.sam, tiny_vit)
        attention = [module.attn for module in model.sam.image_encoder.modules() if hasattr(module, "attn")]
        assert [int(one.attention_bias_idxs.max()) for one in attention] == [48, 24, 48]

    def test_constants_that_some_files_hold_change_nothing(self, tiny_vit: Sam, vit: Sam, tmp_path: Path) -> None:
        further = {"image_encoder.layers.1.blocks.0.attn.attention_bias_idxs": torch.zeros(49, 49, dtype=torch.int64)}
        torch.save(tiny_vit.state_dict() | further, tmp_path / "a.pt")
        torch.save(vit.state_dict() | {"pixel_mean": torch.zeros(3), "pixel_std": torch.ones(3)}, tmp_path / "b.pt")
        assert load_promptable(tmp_path / "a.pt").sha256 == hash_weights(tiny_vit.state_dict())
        assert load_promptable(tmp_path / "b.pt").sha256 == hash_weights(vit.state_dict())

    @pytest.mark.parametrize("how", ["wrapped", "prefixed", "old format", "safetensors", "renamed", "double", "sliced"])
    def test_variants(self, vit: Sam, tmp_path: Path, how: str) -> None:
        state, path = dict(vit.state_dict()), tmp_path / "a.pt"
        if how == "wrapped":  # micro-sam's, exported with its further decoder
            torch.save({"model_state": state, "decoder_state": {"out.weight": torch.zeros(3)}}, path)
        elif how == "prefixed":
            torch.save({f"sam.{name}": weight for name, weight in state.items()}, path)
        elif how == "old format":
            torch.save(state, path, _use_new_zipfile_serialization=False)
        elif how == "safetensors":
            path = tmp_path / "a.safetensors"
            save_file(state, path)
        elif how == "renamed":
            save_file(state, path)
        elif how == "double":
            torch.save({name: weight.double() for name, weight in state.items()}, path)
        elif how == "sliced":
            torch.save(
                {name: weight.mT.contiguous().mT if weight.ndim > 1 else weight for name, weight in state.items()}, path
            )
        model = load_promptable(path)
        assert_same(model.sam, vit)
        assert {weight.dtype for weight in model.sam.parameters()} == {torch.float32}
        assert all(weight.is_contiguous() for weight in model.sam.parameters())

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_becomes_float32(self, vit: Sam, tmp_path: Path, dtype: torch.dtype) -> None:
        state = {name: weight.to(dtype) for name, weight in vit.state_dict().items()}
        torch.save(state, tmp_path / "a.pth")
        model = load_promptable(tmp_path / "a.pth")
        assert {weight.dtype for weight in model.sam.state_dict().values()} == {torch.float32}
        assert model.sha256 == hash_weights(state)
        torch.testing.assert_close(answer(model.sam), answer(vit), rtol=0.1, atol=0.1)

    def test_what_happens_to_the_file_later_changes_nothing(self, vit: Sam, tmp_path: Path) -> None:
        for path in (tmp_path / "a.pth", tmp_path / "a.safetensors"):
            torch.save(vit.state_dict(), path) if path.suffix == ".pth" else save_file(vit.state_dict(), path)
            model = load_promptable(path)
            with path.open("rb+") as file:
                file.write(bytes(path.stat().st_size))
                file.truncate(0)
            assert_same(model.sam, vit)


class TestHuggingFace:
    def test_names(self, vit: Sam) -> None:
        names = by_segment_anything()
        assert set(names) == set(vit.state_dict())
        assert set(hugging_face.rename(dict.fromkeys(names.values(), torch.zeros(1)))) == set(names)

    def test_folder(self, vit: Sam, tmp_path: Path) -> None:
        folder = write_hugging_face(tmp_path / "sam-vit-base", vit.state_dict())
        model = load_promptable(folder)
        assert_same(model.sam, vit)
        assert (model.name, model.path) == ("sam-vit-base", folder)
        assert model.sha256 == hash_weights(vit.state_dict())

    def test_file_in_its_folder(self, vit: Sam, tmp_path: Path) -> None:
        path = write_hugging_face(tmp_path / "sam-vit-base", vit.state_dict()) / "model.safetensors"
        model = load_promptable(path)
        assert_same(model.sam, vit)
        assert (model.name, model.path) == ("sam-vit-base", path)

    def test_file_alone(self, vit: Sam, tmp_path: Path) -> None:
        save_file(to_hugging_face(vit.state_dict()), tmp_path / "alone.safetensors")
        assert_same(load_promptable(tmp_path / "alone.safetensors").sam, vit)

    @pytest.mark.parametrize("both", [True, False])
    def test_second_name_of_the_positional_embedding(self, vit: Sam, tmp_path: Path, both: bool) -> None:
        state = to_hugging_face(vit.state_dict())
        shared = state[hugging_face.SHARED].clone() if both else state.pop(hugging_face.SHARED)
        save_file(state | {hugging_face.SHARED_AGAIN: shared}, tmp_path / "a.safetensors")
        assert_same(load_promptable(tmp_path / "a.safetensors").sam, vit)

    @pytest.mark.parametrize(
        ("config", "reason"),
        [
            ({"model_type": "sam2"}, r"is of a model of type 'sam2'; only 'sam' can be used"),
            ({"model_type": None}, r"is of a model of type None"),
            ({"mask_decoder_config": {"num_attention_heads": 4}}, "its mask decoder has 4 attention heads"),
            ({"mask_decoder_config": 3}, "is not a model's configuration or is damaged"),
        ],
    )
    def test_config_of_another_model(self, vit: Sam, tmp_path: Path, config: dict[str, object], reason: str) -> None:
        folder = write_hugging_face(tmp_path / "a", vit.state_dict(), **config)
        with pytest.raises(ModelError, match=rf"config\.json: {reason}"):
            load_promptable(folder)

    @pytest.mark.parametrize("config", ["", "{", "[]", "\xff"])
    def test_damaged_config(self, vit: Sam, tmp_path: Path, config: str) -> None:
        folder = write_hugging_face(tmp_path / "a", vit.state_dict())
        (folder / "config.json").write_bytes(config.encode("latin-1"))
        with pytest.raises(ModelError, match=r"config\.json: is not a model's configuration or is damaged"):
            load_promptable(folder)

    def test_config_without_a_decoder(self, vit: Sam, tmp_path: Path) -> None:
        folder = write_hugging_face(tmp_path / "a", vit.state_dict(), mask_decoder_config=None)
        assert_same(load_promptable(folder).sam, vit)

    def test_folder_of_something_else(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"holds no model\.safetensors; a promptable model is"):
            load_promptable(tmp_path)


class TestOurs:
    def test_write_then_read(self, compact_file: Path) -> None:
        model, expected = load_promptable(compact_file), make(COMPACT)
        for name, stored in load_file(compact_file).items():
            weight = expected.state_dict()[name]
            assert stored.dtype == (torch.float16 if weight.is_floating_point() and weight.ndim > 1 else weight.dtype)
            torch.testing.assert_close(model.sam.state_dict()[name], weight, rtol=1e-3, atol=1e-4)
        assert (model.name, model.licence) == ("small", "BSD-3-Clause")
        masks, scores = answer(model.sam)
        assert masks.isfinite().all()
        assert scores.shape == (1, 3)

    def test_a_second_time_changes_nothing(self, compact_file: Path, tmp_path: Path) -> None:
        model = load_promptable(compact_file)
        assert save_promptable(tmp_path / "a.safetensors", model.sam, card()).weights_sha256 == model.sha256

    def test_card_is_kept(self, tmp_path: Path) -> None:
        given = card(
            description="Grüne Körner, 粒子",
            data_source="micrographs",
            not_for="anything",
            accuracy={"EMPS test.txt": {"centre": 0.8123, "box": None}},
            recipe={"seed": 3},
        )
        path = tmp_path / "a.safetensors"
        written = save_promptable(path, make(COMPACT), given)
        assert read_promptable_card(path) == written
        filled_in = {"weights_sha256": written.weights_sha256, "created": written.created}
        assert written == given.model_copy(update=filled_in)
        assert load_promptable(path).sha256 == written.weights_sha256
        assert written.created.startswith("20")

    def test_card_for_a_reader(self) -> None:
        text = card().to_markdown()
        for part in ("# small", "Trained on: not said", "Not for: not said", "compact", "128 px", "BSD-3-Clause"):
            assert part in text
        text = card(accuracy={"EMPS test.txt": {"centre": 0.8123, "box": None}}).to_markdown()
        for part in ("Accuracy on EMPS test.txt", "| centre | 0.8123 |", "| box | - |"):
            assert part in text

    def test_network_of_another_layout(self, vit: Sam, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"lacks \d+ of the \d+ weights that its network has"):
            save_promptable(tmp_path / "a.safetensors", vit, card())
        assert not (tmp_path / "a.safetensors").exists()

    def test_file_that_cannot_be_written(self, vit: Sam, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="there is no folder"):
            save_promptable(tmp_path / "missing" / "a.safetensors", vit, card(layout=VIT))

    def test_flipped_bit(self, compact_file: Path, tmp_path: Path) -> None:
        content = bytearray(compact_file.read_bytes())
        content[-1000] ^= 1
        (tmp_path / "a.safetensors").write_bytes(content)
        with pytest.raises(ModelError, match=r"a\.safetensors: the weights are not those its card was written for"):
            load_promptable(tmp_path / "a.safetensors")

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"format": 2}, "format: .*1"),
            ({"classes": []}, "classes: there is no such setting"),
            ({"layout": {"encoder": "vit_g"}}, "layout.encoder"),
            ({"layout": {"encoder": "vit", "image_size": 10**9}}, "layout.image_size"),
        ],
    )
    def test_card_that_this_version_does_not_know(
        self, compact_file: Path, tmp_path: Path, changes: dict[str, object], reason: str
    ) -> None:
        found = json.loads(card().model_dump_json()) | changes
        save_file(load_file(compact_file), tmp_path / "a.safetensors", {PROMPTABLE_KEY: json.dumps(found)})
        with pytest.raises(ModelError, match=rf"a\.safetensors: its card cannot be used \({reason}.*newer napari"):
            load_promptable(tmp_path / "a.safetensors")

    def test_layout_of_another_network_takes_no_memory(self, compact_file: Path, tmp_path: Path) -> None:
        huge = {"embed_dim": 10**6, "depth": 1, "num_heads": 2, "mlp_dim": 10**7, "window_size": 3}
        layout = Layout(encoder="vit", options=huge | {"global_attn_indexes": []})
        state = load_file(compact_file)
        found = card(layout=layout, weights_sha256=hash_weights(state)).model_dump_json()
        save_file(state, tmp_path / "a.safetensors", {PROMPTABLE_KEY: found})
        with pytest.raises(ModelError, match=r"a\.safetensors: lacks .* of the .* weights"):
            load_promptable(tmp_path / "a.safetensors")

    def test_model_that_takes_no_prompts(self, tiny_file: Path) -> None:
        assert load_model(tiny_file)
        for read in (load_promptable, read_promptable_card):
            with pytest.raises(ModelError) as caught:
                read(tiny_file)
            assert str(caught.value) == (
                f"{tiny_file}: is a model that segments by itself, and takes no prompts; use a promptable model."
            )

    def test_files_of_others_have_no_card(self, vit: Sam, tmp_path: Path) -> None:
        save_file(vit.state_dict(), tmp_path / "a.safetensors")
        (tmp_path / "b.pth").write_bytes(b"nonsense")
        assert read_promptable_card(tmp_path / "a.safetensors") is None
        assert read_promptable_card(tmp_path / "b.pth") is None


class Exploit:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


class TestDamage:
    @pytest.mark.parametrize("how", ["zip", "old format", "beside weights", "in a wrapper"])
    def test_pickles_are_never_run(self, vit: Sam, tmp_path: Path, how: str) -> None:
        trace, path = tmp_path / "trace", tmp_path / "a.pth"
        content: dict[str, object] = {"weights": Exploit(trace)}
        if how == "beside weights":
            content = vit.state_dict() | content
        elif how == "in a wrapper":  # micro-sam's checkpoints of a training
            content = {"model_state": vit.state_dict(), "init": Exploit(trace)}
        torch.save(content, path, _use_new_zipfile_serialization=how != "old format")
        with pytest.raises(ModelError) as caught:
            load_promptable(path)
        assert str(caught.value).startswith(f"{path}: holds more than weights ({os.name}.mkdir")
        assert "export the weights alone" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not trace.exists()
        pickle.loads(pickle.dumps(Exploit(trace)))  # noqa: S301
        assert trace.exists()  # it would have worked

    def test_plain_pickle(self, tmp_path: Path) -> None:
        trace = tmp_path / "trace"
        (tmp_path / "a.pth").write_bytes(pickle.dumps(Exploit(trace)))
        with pytest.raises(ModelError, match=r"a\.pth: "):
            load_promptable(tmp_path / "a.pth")
        assert not trace.exists()

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"x",
            b"\x00" * 64,
            b"II*\x00" + bytes(200),
            b"\xff" * 200,
            b"PK\x03\x04" + bytes(90),
            b"hello, world" * 9,
        ],
    )
    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    def test_other_files(self, tmp_path: Path, content: bytes, suffix: str) -> None:
        path = tmp_path / f"a{suffix}"
        path.write_bytes(content)
        with pytest.raises(ModelError) as caught:
            load_promptable(path)
        assert str(caught.value).startswith(f"{path}: is not a checkpoint or is damaged; a promptable model is")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("kept", [10, 0.5, -1])
    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    def test_truncated(self, vit: Sam, tmp_path: Path, kept: float, suffix: str) -> None:
        path = tmp_path / f"a{suffix}"
        torch.save(vit.state_dict(), path) if suffix == ".pth" else save_file(vit.state_dict(), path)
        content = path.read_bytes()
        path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
        with pytest.raises(ModelError, match=r"a\.\w+: is not a (checkpoint|model file) or is damaged.*get it again"):
            load_promptable(path)

    def test_compressed(self, vit: Sam, tmp_path: Path) -> None:
        torch.save(vit.state_dict(), tmp_path / "a.pth")
        with (
            zipfile.ZipFile(tmp_path / "a.pth") as plain,
            zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as packed,
        ):
            for name in plain.namelist():
                packed.writestr(name, plain.read(name))
        with pytest.raises(ModelError, match=r"b\.pth: is not a checkpoint or is damaged"):
            load_promptable(tmp_path / "b.pth")

    def test_one_number_repeated(self, vit: Sam, tmp_path: Path) -> None:
        state = {name: torch.zeros(()).expand(weight.shape) for name, weight in vit.state_dict().items()}
        torch.save(state | {"image_encoder.pos_embed": torch.zeros(1).expand(1, 10**6, 10**6, 32)}, tmp_path / "a.pth")
        with pytest.raises(ModelError, match=r"a\.pth: is not a checkpoint or is damaged"):
            load_promptable(tmp_path / "a.pth")

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ([1, 2], r"holds no weights of a network \(type list\)"),
            ({}, r"holds no weights of a network \(type dict\)"),
            ({"model_state": 3}, r"holds no weights of a network \(type int\)"),
            (torch.zeros(3), r"holds no weights of a network \(type Tensor\)"),
            ({"epoch": 3}, r"holds something else than weights \(epoch\)"),
            ({3: torch.zeros(3)}, r"holds something else than weights \(3\)"),
            ({"a": torch.zeros(3, device="meta")}, "its weight a is not an array of numbers"),
            ({"a": torch.zeros(3, 3).to_sparse()}, "(its weight a is not an array of numbers|is not a checkpoint)"),
            ({"a": torch.zeros(3)}, "holds no image encoder of segment-anything or MobileSAM"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_something_else(self, tmp_path: Path, content: object, reason: str) -> None:
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(ModelError, match=rf"a\.pth: {reason}"):
            load_promptable(tmp_path / "a.pth")

    @pytest.mark.parametrize(
        ("name", "weight", "reason"),
        [
            ("mask_decoder.iou_token.weight", None, r"lacks 1 of the \d+ weights .*, such as mask_decoder\.iou_token"),
            ("image_encoder.neck.0.weight", None, "lacks parts of its image encoder"),
            ("image_encoder.blocks.1.norm1.weight", None, r"holds weights .* such as image_encoder\.blocks\.1"),
            ("mask_decoder.hf_token.weight", torch.zeros(1, 32), "does not have, such as mask_decoder.hf_token"),
            ("mask_decoder.mask_tokens.weight", torch.zeros(9, 32), r"has the shape \(9, 32\) instead of \(4, 32\)"),
            ("mask_decoder.iou_token.weight", torch.zeros(1, 32, dtype=torch.int8), r"holds torch\.int8, which cannot"),
        ],
        ids=["lacking", "no neck", "lacking a block", "more", "shape", "dtype"],
    )
    def test_weights_that_do_not_fit(
        self, vit: Sam, tmp_path: Path, name: str, weight: torch.Tensor | None, reason: str
    ) -> None:
        state = vit.state_dict() | ({name: weight} if weight is not None else {})
        torch.save({key: one for key, one in state.items() if key != name or weight is not None}, tmp_path / "a.pth")
        with pytest.raises(ModelError, match=rf"a\.pth: .*{reason}.*") as caught:
            load_promptable(tmp_path / "a.pth")
        assert "\n" not in str(caught.value)

    def test_file_that_cannot_be_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "a.pth").write_bytes(b"")

        def locked(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", locked)
        with pytest.raises(ModelError, match=r"a\.pth: cannot be read \(Permission denied\)"):
            load_promptable(tmp_path / "a.pth")


class TestFinding:
    @pytest.fixture(autouse=True)
    def package(self, tmp_path: Path, compact_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = tmp_path / "package" / "models" / "promptable"
        folder.mkdir(parents=True)
        (folder / "compact.safetensors").write_bytes(compact_file.read_bytes())
        monkeypatch.setattr(weights, "files", lambda name: tmp_path / "package")
        return folder

    def test_what_ships_and_what_can_be_fetched(self, package: Path) -> None:
        assert available_promptable() == {"compact": package / "compact.safetensors", **dict.fromkeys(ZOO)}
        assert load_promptable("compact").name == "compact"

    def test_own_folder(self, vit: Sam, own_models: Path, compact_file: Path) -> None:
        for file in ("mine.pth", "sam_vit_b_01ec64.pth", "vit_l.pt"):
            torch.save(vit.state_dict(), own_models / file)
        write_hugging_face(own_models / "sam-vit-base", vit.state_dict())
        (own_models / "compact.safetensors").write_bytes(compact_file.read_bytes())
        (own_models / "sam_vit_h_4b8939.pth.part").write_bytes(b"half")
        (own_models / "note.txt").write_text("no model")
        (own_models / "empty").mkdir()
        assert available_promptable() == {
            **dict.fromkeys(ZOO),
            "compact": own_models / "compact.safetensors",
            "mine": own_models / "mine.pth",
            "sam-vit-base": own_models / "sam-vit-base",
            "vit_b": own_models / "sam_vit_b_01ec64.pth",
            "promptable/vit_l.pt": own_models / "vit_l.pt",
        }
        for name, licence in {"vit_b": "Apache-2.0", "mine": "", "sam-vit-base": "", "promptable/vit_l.pt": ""}.items():
            model = load_promptable(name)
            assert (model.name, model.licence) == (name, licence)
        assert load_promptable(own_models / "sam_vit_b_01ec64.pth").name == "vit_b"
        assert load_promptable(own_models / "vit_l.pt").name == "promptable/vit_l.pt"

    def test_own_folder_need_not_be_there(self, own_models: Path) -> None:
        own_models.rmdir()
        assert set(available_promptable()) == {"compact", *ZOO}

    def test_not_fetched_yet(self, own_models: Path) -> None:
        with pytest.raises(ModelError) as caught:
            load_promptable("vit_b")
        assert str(caught.value) == (
            "vit_b: is not on this computer; get it with napari-matseg models --get vit_b (375 MB), or save "
            "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_b_01ec64.pth as sam_vit_b_01ec64.pth in "
            f"{own_models}."
        )

    @pytest.mark.parametrize("name", ["nonsense", "missing/a.pth", "~nobody/a", "", "x" * 5000, "a\0b"])
    def test_neither_model_nor_file(self, name: str) -> None:
        with pytest.raises(
            ModelError, match=r"no such promptable model or file; the models here are compact, and vit_b"
        ):
            load_promptable(name)

    def test_path_from_home(self, compact_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(compact_file.parent))
        assert load_promptable("~/small.safetensors").name == "small"
