from __future__ import annotations

import numpy as np
import pytest
import segment_anything
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from segment_anything import SamPredictor
from segment_anything.modeling import Sam
from timm.models import tiny_vit as timm_tiny_vit

from napari_matseg.core.sam.networks import LAYOUTS, Layout, build_sam, recognise
from napari_matseg.core.sam.tiny_vit import TinyVit
from napari_matseg.errors import ModelError

VIT = {
    "embed_dim": 32,
    "depth": 2,
    "num_heads": 2,
    "mlp_dim": 72,
    "window_size": 3,
    "global_attn_indexes": [1],
}
TINY_VIT = {"widths": [16, 32, 48, 64], "depths": [1, 2, 1, 2], "heads": [2, 3, 4], "windows": [7, 5, 7]}
COMPACT = {"channels": [8, 8, 8, 8], "decoder_channels": [8, 8, 8, 8, 8]}
few = settings(max_examples=15)


def shapes(sam: Sam) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in sam.state_dict().items()}


def build_blank(layout: Layout) -> Sam:
    with torch.device("meta"):
        return build_sam(layout)


def mobile_sam_encoder() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the image encoder's weights in mobile_sam.pt, by their definition in MobileSAM."""
    found: dict[str, tuple[int, ...]] = {}

    def linear(name: str, inside: int, outside: int) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = (outside, inside), (outside,)

    def norm(name: str, width: int) -> None:
        found[f"{name}.weight"] = found[f"{name}.bias"] = (width,)

    def conv(name: str, inside: int, outside: int, kernel: int) -> None:
        found[f"{name}.c.weight"] = (outside, inside, kernel, kernel)
        norm(f"{name}.bn", outside)
        found[f"{name}.bn.running_mean"] = found[f"{name}.bn.running_var"] = (outside,)
        found[f"{name}.bn.num_batches_tracked"] = ()

    widths, depths = (64, 128, 160, 320), (2, 2, 6, 2)
    heads, windows = (None, 4, 5, 10), (None, 7, 14, 7)
    conv("patch_embed.seq.0", 3, 32, 3)
    conv("patch_embed.seq.2", 32, 64, 3)
    for stage in range(4):
        width = widths[stage]
        for block in range(depths[stage]):
            name = f"layers.{stage}.blocks.{block}"
            if stage == 0:
                conv(f"{name}.conv1", width, 4 * width, 1)
                conv(f"{name}.conv2", 1, 4 * width, 3)
                conv(f"{name}.conv3", 4 * width, width, 1)
            else:
                found[f"{name}.attn.attention_biases"] = (heads[stage], windows[stage] ** 2)
                norm(f"{name}.attn.norm", width)
                linear(f"{name}.attn.qkv", width, 3 * width)
                linear(f"{name}.attn.proj", width, width)
                norm(f"{name}.mlp.norm", width)
                linear(f"{name}.mlp.fc1", width, 4 * width)
                linear(f"{name}.mlp.fc2", 4 * width, width)
                conv(f"{name}.local_conv", 1, width, 3)
        if stage < 3:
            conv(f"layers.{stage}.downsample.conv1", width, widths[stage + 1], 1)
            conv(f"layers.{stage}.downsample.conv2", 1, widths[stage + 1], 3)
            conv(f"layers.{stage}.downsample.conv3", widths[stage + 1], widths[stage + 1], 1)
    norm("norm_head", 320)
    linear("head", 320, 1000)
    found["neck.0.weight"], found["neck.2.weight"] = (256, 320, 1, 1), (256, 256, 3, 3)
    norm("neck.1", 256)
    norm("neck.3", 256)
    return {f"image_encoder.{name}": shape for name, shape in found.items()}


class TestOfficial:
    @pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
    def test_weights_are_those_of_segment_anything(self, name: str) -> None:
        with torch.device("meta"):
            official = segment_anything.sam_model_registry[name]()
        sam = build_blank(LAYOUTS[name])
        assert shapes(sam) == shapes(official)
        windows = [block.window_size for block in sam.image_encoder.blocks]
        assert windows == [block.window_size for block in official.image_encoder.blocks]
        assert sam.image_encoder.blocks[0].attn.num_heads == official.image_encoder.blocks[0].attn.num_heads
        torch.testing.assert_close(sam.pixel_mean, official.pixel_mean)
        torch.testing.assert_close(sam.pixel_std, official.pixel_std)

    def test_weights_of_vit_t_are_those_of_mobile_sam(self) -> None:
        found = shapes(build_blank(LAYOUTS["vit_t"]))
        encoder = {name: shape for name, shape in found.items() if name.startswith("image_encoder.")}
        assert encoder == mobile_sam_encoder()
        decoder = {name: shape for name, shape in found.items() if name not in encoder}
        vit_b = shapes(build_blank(LAYOUTS["vit_b"]))
        assert decoder == {name: shape for name, shape in vit_b.items() if not name.startswith("image_encoder.")}

    @pytest.mark.parametrize("name", LAYOUTS)
    def test_recognised(self, name: str) -> None:
        assert recognise(build_blank(LAYOUTS[name]).state_dict()) == LAYOUTS[name]


class TestRecognise:
    @given(
        heads=st.integers(1, 3),
        per_head=st.integers(1, 8),
        mlp_dim=st.integers(1, 700),
        cells=st.integers(2, 5),
        patch=st.sampled_from([8, 16]),
        window=st.integers(1, 8),
        everywhere=st.lists(st.booleans(), min_size=1, max_size=4),
    )
    @few
    def test_any_vit(
        self, heads: int, per_head: int, mlp_dim: int, cells: int, patch: int, window: int, everywhere: list[bool]
    ) -> None:
        everywhere = [one or window == cells for one in everywhere]  # a window as wide as the frame is no window
        layout = Layout(
            encoder="vit",
            options={
                "embed_dim": heads * per_head,
                "depth": len(everywhere),
                "num_heads": heads,
                "mlp_dim": mlp_dim,
                "window_size": 0 if all(everywhere) else window,
                "global_attn_indexes": [i for i, one in enumerate(everywhere) if one],
            },
            image_size=cells * patch,
            patch=patch,
            prompt_dim=16,
        )
        assert recognise(build_blank(layout).state_dict()) == layout

    def test_any_tiny_vit(self) -> None:
        layout = Layout(encoder="tiny_vit", options=TINY_VIT, prompt_dim=32)
        assert recognise(build_blank(layout).state_dict()) == layout

    @pytest.mark.parametrize("options", [VIT, TINY_VIT])
    def test_without_parts(self, options: dict[str, object]) -> None:
        kind = "vit" if options is VIT else "tiny_vit"
        weights = build_blank(Layout(encoder=kind, options=options, prompt_dim=32)).state_dict()
        for name in ("neck.0.weight", "blocks.0.attn.rel_pos_h", "layers.1.downsample.conv1.c.weight"):
            rest = {key: weight for key, weight in weights.items() if not key.endswith(name)}
            if len(rest) < len(weights):
                with pytest.raises(ModelError, match="lacks parts of its image encoder; get it again"):
                    recognise(rest)

    def test_shapes_of_something_else(self) -> None:
        weights = build_blank(Layout(encoder="vit", options=VIT, prompt_dim=32)).state_dict()
        for name in ("image_encoder.patch_embed.proj.weight", "image_encoder.pos_embed"):
            with pytest.raises(ModelError, match="lacks parts of its image encoder"):
                recognise(weights | {name: torch.zeros(3)})

    def test_no_encoder(self) -> None:
        with pytest.raises(ModelError, match="holds no image encoder of segment-anything or MobileSAM"):
            recognise({"fc.weight": torch.zeros(2, 2)})


class TestBuild:
    @pytest.mark.parametrize(
        "layout",
        [
            Layout(encoder="vit", options=VIT, image_size=64, prompt_dim=32),
            Layout(encoder="vit", options=VIT, image_size=64, patch=8, prompt_dim=16),
            Layout(encoder="tiny_vit", options=TINY_VIT, image_size=64, prompt_dim=32),
            Layout(encoder="compact", options=COMPACT, image_size=128, prompt_dim=32),
        ],
        ids=lambda layout: f"{layout.encoder} {layout.patch}",
    )
    def test_takes_prompts(self, layout: Layout) -> None:
        sam = build_sam(layout).eval()
        assert sam.image_encoder.img_size == layout.image_size
        predictor = SamPredictor(sam)
        predictor.set_image(np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8))
        side = layout.image_size // layout.patch
        assert predictor.features.shape == (1, layout.prompt_dim, side, side)
        masks, scores, low = predictor.predict(np.array([[20, 30]]), np.array([1]), box=np.array([2, 3, 40, 50]))
        assert masks.shape == (3, 50, 70)
        assert scores.shape == (3,)
        assert low.shape == (3, 4 * side, 4 * side)
        assert np.isfinite(low).all()

    @pytest.mark.parametrize(
        ("encoder", "options", "reason"),
        [
            ("vit", {}, "missing"),
            ("vit", VIT | {"widths": 3}, "unexpected keyword argument 'widths'"),
            ("vit", VIT | {"num_heads": 0}, "zero"),
            ("vit", VIT | {"depth": "many"}, "str"),
            ("tiny_vit", TINY_VIT | {"heads": [1]}, "shorter|longer"),
            ("tiny_vit", TINY_VIT | {"widths": []}, "index"),
            ("compact", {"encoder": "tu-nonsense"}, "encoder 'tu-nonsense' is unknown"),
        ],
    )
    def test_impossible(self, encoder: str, options: dict[str, object], reason: str) -> None:
        with pytest.raises(ModelError, match=reason) as caught:
            build_sam(Layout(encoder=encoder, options=options))
        assert "\n" not in str(caught.value)

    def test_frame_that_is_no_whole_number_of_cells(self) -> None:
        with pytest.raises(ModelError, match="image_size 100 is no multiple of patch 16"):
            build_sam(Layout(encoder="vit", options=VIT, image_size=100))


def test_tiny_vit_computes_what_timms_does() -> None:
    """Timm's, written apart from ours, has the same blocks; what it has not is the last stage's stride of 1."""
    generator = torch.Generator().manual_seed(0)
    ours = TinyVit(160, **TINY_VIT, out_channels=16).eval()
    theirs = timm_tiny_vit.TinyVit(
        embed_dims=tuple(TINY_VIT["widths"]),
        depths=tuple(TINY_VIT["depths"]),
        num_heads=(1, *TINY_VIT["heads"]),
        window_sizes=(7, *TINY_VIT["windows"]),
        drop_path_rate=0.0,
    ).eval()
    theirs.stages[3].downsample.conv2.conv.stride = (1, 1)
    for name, weight in ours.state_dict().items():
        if weight.is_floating_point():
            weight.copy_(torch.randn(weight.shape, generator=generator).mul(0.2))
            if name.endswith("running_var"):
                weight.abs_().add_(0.5)

    def renamed(name: str) -> str:
        kind, stage, part, *_ = name.split(".")
        if kind == "patch_embed":
            name = name.replace("seq.0", "conv1").replace("seq.2", "conv2")
        elif part == "downsample":
            name = name.replace(f"layers.{stage}", f"stages.{int(stage) + 1}")
        return name.replace("layers.", "stages.").replace(".c.", ".conv.")

    body = {
        name: weight for name, weight in ours.state_dict().items() if not name.startswith(("neck", "norm_", "head"))
    }
    left = theirs.load_state_dict({renamed(name): weight for name, weight in body.items()}, strict=False)
    assert not left.unexpected_keys
    assert all(name.startswith("head.") for name in left.missing_keys)
    image = torch.randn(2, 3, 160, 160, generator=generator)
    with torch.inference_mode():
        maps = theirs.stages(theirs.patch_embed(image))
        torch.testing.assert_close(ours(image), ours.neck(maps))
        assert ours(image).shape == (2, 16, 10, 10)
