from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_matseg.core import plan as planning
from napari_matseg.core.architectures import build_network, stride_of
from napari_matseg.core.checkpoints import Model, ModelCard
from napari_matseg.core.devices import MEMORY_SHARE
from napari_matseg.core.normalise import grey_scale
from napari_matseg.core.plan import Plan, bytes_per_pixel, make_plan
from napari_matseg.core.predict import Piece, TooLargeError, predict, read_window
from napari_matseg.core.tile import plan_blend, plan_tiles
from napari_matseg.errors import SettingsError
from napari_matseg.settings import ArchitectureSettings, ClassSpec, NormaliseSettings, SegmentSettings

CPU = torch.device("cpu")
MakeModel = Callable[..., Model]
few = settings(max_examples=8)
strides = st.sampled_from([1, 8])


@dataclass
class Maps:
    classes_yx: np.ndarray
    probabilities_cyx: np.ndarray
    depth_yx: np.ndarray


def noise(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (1, *shape), dtype=np.uint8)


def run(model: Model, image_cyx: Any, plan: Plan, **changes: Any) -> Maps:
    """Put the pieces together, and see that they cover each pixel exactly once."""
    shape = image_cyx.shape[1:]
    seen = np.zeros(shape, dtype=int)
    maps = Maps(np.zeros(shape, np.uint8), np.zeros((len(model.card.classes), *shape), np.float32), np.zeros(shape))
    scale = grey_scale(np.asarray(image_cyx[:, :, :]), model.card.normalise)
    options = {"device": CPU, "dtype": torch.float32, "probabilities": True} | changes
    counted = []
    for done, piece in predict(model, image_cyx, scale, plan, **options):
        counted.append(done)
        if piece is not None:
            seen[piece.where] += 1
            maps.classes_yx[piece.where] = piece.classes_yx
            if piece.probabilities_cyx is not None:
                maps.probabilities_cyx[:, *piece.where] = piece.probabilities_cyx
            if piece.depth_yx is not None:
                maps.depth_yx[piece.where] = piece.depth_yx
    assert (seen == 1).all()
    assert sorted(set(counted)) == list(range(1, len(plan.tiles) + 1))
    return maps


def whole(model: Model, image_cyx: np.ndarray) -> Maps:
    """What the network says of the whole image at once, written without tiles."""
    stride = stride_of(model.network)
    height, width = image_cyx.shape[1:]
    scaled = grey_scale(image_cyx, model.card.normalise).apply(image_cyx)
    padded = np.pad(scaled, ((0, 0), (0, -height % stride), (0, -width % stride)), mode="reflect")
    with torch.inference_mode():
        output = model.network(torch.from_numpy(padded)[None])[0, :, :height, :width]
    n_classes = len(model.card.classes)
    probabilities = output[:n_classes].softmax(dim=0).numpy()
    return Maps(probabilities.argmax(axis=0), probabilities, output[-1].sigmoid().numpy())


def plan_for(model: Model, shape: tuple[int, int], **changes: Any) -> Plan:
    return make_plan(model, shape, SegmentSettings(**changes), CPU)


def in_one_piece(model: Model) -> Model:
    """The same model as one that cannot be taken apart."""
    model = Model(model.network, model.card)
    model.__dict__["layers"] = "it is for a test"
    return model


def test_the_tiny_networks_are_worth_testing_with(make_model):
    model = make_model()
    found = whole(model, noise((120, 120)))
    assert np.bincount(found.classes_yx.ravel(), minlength=3).min() > 100
    assert found.probabilities_cyx.std() > 0.05


@pytest.mark.parametrize(
    ("network", "stride"),
    [
        ({}, 8),
        ({"fold": 2}, 16),
        ({"encoder": "mobilenet_v2", "distance": True}, 8),
        ({"encoder": "resnet18", "in_channels": 3}, 8),
    ],
)
@pytest.mark.parametrize("shape", [(233, 250), (256, 131)])
@pytest.mark.parametrize("strategy", ["staged", "halo"])
def test_exact_tiling_gives_what_the_whole_image_gives(make_model, network, stride, shape, strategy):
    model = make_model(**network)
    model = in_one_piece(model) if strategy == "halo" else model
    image = np.concatenate([noise(shape, seed) for seed in range(model.card.architecture.in_channels)])
    plan = plan_for(model, shape, tiling="exact", tile=168)
    assert plan.strategy == strategy
    assert plan.stride == stride
    assert plan.halo >= (model.card.reach if strategy == "halo" else 0)
    assert len(plan.tiles) > 1
    tiled, expected = run(model, image, plan), whole(model, image)
    np.testing.assert_allclose(tiled.probabilities_cyx, expected.probabilities_cyx, atol=1e-4)
    assert (tiled.classes_yx != expected.classes_yx).sum() <= image.size / 100_000
    # The last rows and columns are no worse than the others.
    for edge in (np.s_[:, -stride:, :], np.s_[:, :, -stride:]):
        np.testing.assert_allclose(tiled.probabilities_cyx[edge], expected.probabilities_cyx[edge], atol=1e-4)
    if model.card.distance:
        np.testing.assert_allclose(tiled.depth_yx, expected.depth_yx, atol=1e-4)


@few
@given(st.tuples(st.integers(1, 200), st.integers(1, 200)), st.integers(64, 160), st.integers(1, 5))
def test_exact_tiling_of_any_size_gives_what_the_whole_image_gives(make_model, shape, tile, batch):
    model = make_model()
    image = noise(shape)
    expected = whole(model, image)
    for tried in (model, in_one_piece(model)):
        tiled = run(model, image, plan_for(tried, shape, tiling="exact", tile=tile, batch=batch))
        np.testing.assert_allclose(tiled.probabilities_cyx, expected.probabilities_cyx, atol=1e-4)
        assert (tiled.classes_yx != expected.classes_yx).sum() <= image.size / 100_000


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 500), (500, 3), (7, 7), (8, 8), (9, 8)])
@pytest.mark.parametrize("fold", [1, 2])
def test_images_smaller_than_the_stride(make_model, shape, fold):
    model = make_model(fold=fold)
    image = noise(shape)
    expected = whole(model, image)
    for tiling in ("exact", "whole", "blend"):
        plan = plan_for(model, shape, tiling=tiling, tile=64)
        tiled = run(model, image, plan)
        if tiling != "blend" or plan.strategy == "whole":
            np.testing.assert_allclose(tiled.probabilities_cyx, expected.probabilities_cyx, atol=1e-4)
            np.testing.assert_array_equal(tiled.classes_yx, expected.classes_yx)
        np.testing.assert_allclose(tiled.probabilities_cyx.sum(axis=0), 1, atol=1e-5)


def test_a_halo_narrower_than_the_reach_shows(make_model):
    """Else the tests above would prove nothing."""
    model = make_model()
    image = noise((100, 200))
    narrow = Plan("halo", plan_tiles((100, 200), 64, 8, 8), 1, 64, 8, 8)
    tiled, expected = run(model, image, narrow), whole(model, image)
    assert np.abs(tiled.probabilities_cyx - expected.probabilities_cyx).max() > 1e-3


def test_the_result_does_not_depend_on_the_batch(make_model):
    model = make_model()
    shape = (90, 400)
    results = [
        run(model, noise(shape), plan_for(in_one_piece(model), shape, tiling="exact", tile=64, batch=batch))
        for batch in (1, 2, 7)
    ]
    for result in results[1:]:
        np.testing.assert_array_equal(result.classes_yx, results[0].classes_yx)
        np.testing.assert_allclose(result.probabilities_cyx, results[0].probabilities_cyx, atol=1e-5)


def test_the_classes_are_the_same_whether_probabilities_are_asked_for_or_not(make_model):
    model = make_model()
    for tiling in ("exact", "blend"):
        plan = plan_for(model, (130, 150), tiling=tiling, tile=64)
        with_maps, without = (run(model, noise((130, 150)), plan, probabilities=want) for want in (True, False))
        np.testing.assert_array_equal(with_maps.classes_yx, without.classes_yx)
        np.testing.assert_array_equal(with_maps.probabilities_cyx.argmax(axis=0), with_maps.classes_yx)
        assert not without.probabilities_cyx.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_comes_out_as_float32(make_model, dtype):
    model = make_model(distance=True)
    image = noise((64, 64))
    half = run(model, image, plan_for(model, (64, 64)), dtype=dtype)
    expected = whole(model, image)
    np.testing.assert_allclose(half.probabilities_cyx, expected.probabilities_cyx, atol=0.1)
    np.testing.assert_allclose(half.depth_yx, expected.depth_yx, atol=0.1)


@pytest.fixture(scope="module")
def deeplab() -> Model:
    architecture = ArchitectureSettings(name="deeplabv3plus", encoder="resnet18", encoder_depth=5)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_network(architecture, 2).eval()
    specs = tuple(ClassSpec(name=name, colour=(0, 0, 0)) for name in ("matrix", "phase"))
    # The reach is what `measure_reach` finds, which takes long.
    return Model(network, ModelCard(name="deeplab", classes=specs, architecture=architecture, reach=None))


def test_a_network_that_pools_the_whole_image_is_exact_in_stages(deeplab):
    shape = (150, 170)
    image = noise(shape)
    plan = plan_for(deeplab, shape, tile=64)
    assert (plan.strategy, len(plan.tiles)) == ("staged", 9)
    tiled, expected = run(deeplab, image, plan), whole(deeplab, image)
    np.testing.assert_allclose(tiled.probabilities_cyx, expected.probabilities_cyx, atol=1e-4)
    np.testing.assert_array_equal(tiled.classes_yx, expected.classes_yx)


def test_a_network_that_sees_everything_is_blended(deeplab):
    deeplab = in_one_piece(deeplab)
    shape = (150, 170)
    image = noise(shape)
    plan = plan_for(deeplab, shape, tile=128)
    assert (plan.strategy, plan.halo, plan.stride) == ("blend", 0, 16)
    assert len({tile.shape for tile in plan.tiles}) == 1
    blended, expected = run(deeplab, image, plan), whole(deeplab, image)
    np.testing.assert_allclose(blended.probabilities_cyx.sum(axis=0), 1, atol=1e-5)
    difference = np.abs(blended.probabilities_cyx - expected.probabilities_cyx)
    assert 0 < difference.mean() < 0.05
    assert (blended.classes_yx != expected.classes_yx).mean() < 0.1


@pytest.mark.parametrize("tiling", ["exact", "whole"])
def test_a_network_that_sees_everything_is_exact_on_the_whole_image_only(deeplab, tiling):
    deeplab = in_one_piece(deeplab)
    shape = (75, 90)
    plan = plan_for(deeplab, shape, tiling=tiling, tile=64)
    assert (plan.strategy, len(plan.tiles)) == ("whole", 1)
    found = run(deeplab, noise(shape), plan)
    np.testing.assert_allclose(found.probabilities_cyx, whole(deeplab, noise(shape)).probabilities_cyx, atol=1e-5)


def test_exact_is_refused_where_the_whole_image_does_not_fit(deeplab, monkeypatch):
    deeplab = in_one_piece(deeplab)
    monkeypatch.setattr(planning, "_largest_side", lambda *_: 256)
    plan_for(deeplab, (256, 256), tiling="exact")
    with pytest.raises(SettingsError, match=r"deeplab sees the whole image at once.*choose tiling auto or blend"):
        plan_for(deeplab, (256, 257), tiling="exact")
    with pytest.raises(SettingsError, match="does not fit into memory"):
        make_plan(deeplab, (256, 256), SegmentSettings(tiling="exact"), CPU, largest=128)


@few
@given(st.tuples(st.integers(1, 150), st.integers(1, 150)), st.floats(0.1, 0.8), st.booleans())
def test_blending_a_network_without_neighbourhood_gives_the_whole_image(make_threshold, shape, overlap, distance):
    model = make_threshold(distance=distance, reach=None)
    image = noise(shape)
    plan = plan_for(model, shape, tile=64, overlap=overlap)
    blended, expected = run(model, image, plan), whole(model, image)
    np.testing.assert_allclose(blended.probabilities_cyx, expected.probabilities_cyx, atol=1e-5)
    np.testing.assert_array_equal(blended.classes_yx, expected.classes_yx)
    if distance:
        np.testing.assert_allclose(blended.depth_yx, expected.depth_yx, atol=1e-5)


def test_auto_uses_the_halo_that_was_measured_and_exact_the_reach(make_threshold):
    model = make_threshold(reach=60, halo=24)
    shape = (300, 300)
    assert [plan_for(model, shape, tile=200, tiling=tiling).halo for tiling in ("auto", "exact")] == [24, 64]
    assert plan_for(make_threshold(reach=60), shape, tile=200).halo == 64
    assert plan_for(make_threshold(reach=20, halo=100), shape, tile=200).halo == 24


def test_a_network_without_neighbourhood_needs_no_halo(make_threshold):
    plan = plan_for(make_threshold(reach=0), (300, 300), tile=128)
    assert (plan.strategy, plan.halo, len(plan.tiles)) == ("halo", 0, 9)
    assert plan.to_dict()["computed_pixels"] == 304 * 304


def test_what_fits_is_not_tiled(make_threshold):
    for tiling in ("auto", "exact", "blend", "whole"):
        plan = plan_for(make_threshold(reach=40), (100, 90), tiling=tiling)
        assert (plan.strategy, len(plan.tiles), plan.halo) == ("whole", 1, 0)
        assert plan.tiles[0].shape == (104, 96)


def test_a_plan_describes_itself(make_threshold):
    plan = plan_for(make_threshold(reach=16), (100, 200), tile=96, batch=3)
    assert plan.to_dict() == {
        "strategy": "halo",
        "tile": 96,
        "halo": 16,
        "stride": 8,
        "batch": 3,
        "tiles": len(plan.tiles),
        "computed_pixels": sum(tile.shape[0] * tile.shape[1] for tile in plan.tiles),
    }


def test_the_tile_is_as_large_as_memory_allows(make_threshold, monkeypatch):
    monkeypatch.setattr(planning, "bytes_per_pixel", lambda *_: 1000.0)
    model = make_threshold(reach=8)
    sides = {}
    for side in (64, 512, 2048, 8192):
        free = side**2 * 1000 / MEMORY_SHARE["cpu"]
        monkeypatch.setattr("psutil.virtual_memory", lambda free=free: SimpleNamespace(available=free))
        sides[side] = plan_for(model, (4096, 4096)).tile
    assert sides == {64: 64, 512: 512, 2048: 1024, 8192: 1024}  # larger ones are no faster on the CPU
    assert plan_for(make_threshold(reach=287), (4096, 4096)).tile == 2048  # unless the halo would be most of them
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=0))
    assert plan_for(model, (4096, 4096)).tile == 64


def test_memory_that_torch_keeps_without_using_it_is_free(make_threshold, monkeypatch):
    cuda = torch.device("cuda")
    monkeypatch.setattr(planning, "bytes_per_pixel", lambda *_: 1000.0)
    needed = int(1024**2 * 1000 / MEMORY_SHARE["cuda"]) + 1
    memory = {"mem_get_info": (needed // 4, needed), "memory_reserved": needed, "memory_allocated": needed // 4}
    for name, value in memory.items():
        monkeypatch.setattr(torch.cuda, name, lambda _, value=value: value)
    plan = make_plan(make_threshold(reach=8), (4096, 4096), SegmentSettings(), cuda)
    assert plan.tile == 1024
    small = make_plan(make_threshold(reach=8), (4096, 4096), SegmentSettings(tile=256), cuda)
    assert small.batch == 1024**2 // 256**2


def test_memory_per_pixel_is_that_of_the_layers(make_model, make_threshold):
    """At least the input and the output of the widest layer."""
    assert bytes_per_pixel(make_model(), CPU) > 4 * (16 + 16)
    assert bytes_per_pixel(make_model(fold=2), CPU) < bytes_per_pixel(make_model(), CPU)
    assert bytes_per_pixel(make_threshold(), CPU) >= 4 * (1 + 2)


@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.integers(1, 40), st.integers(0, 9), strides)
def test_windows_are_cut_from_the_mirrored_image(shape, tile, halo, stride):
    image = np.arange(2 * shape[0] * shape[1]).reshape(2, *shape)
    height, width = shape
    mirrored = np.pad(image, ((0, 0), (0, -height % stride), (0, -width % stride)), mode="reflect")
    for one in plan_tiles(shape, tile, halo, stride):
        np.testing.assert_array_equal(read_window(image, one), mirrored[:, *one.window])


class Recorded:
    """Pixels that note who read what."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels, self.shape, self.dtype = pixels, pixels.shape, pixels.dtype
        self.sizes: list[int] = []
        self.threads: set[int] = set()

    def __getitem__(self, key: Any) -> np.ndarray:
        self.sizes.append(self.pixels[key].size)
        self.threads.add(threading.get_ident())
        return self.pixels[key]


def test_only_windows_are_read_and_beside_the_network(make_threshold):
    image = Recorded(noise((200, 200)))
    model = make_threshold(reach=8)
    plan = plan_for(model, (200, 200), tile=64, tiling="exact")
    scale = grey_scale(image.pixels)
    pieces = list(predict(model, image, scale, plan, device=CPU, dtype=torch.float32))
    assert len(pieces) == len(image.sizes) == len(plan.tiles) > 4
    assert max(image.sizes) <= 64 * 64
    assert threading.get_ident() not in image.threads


def test_an_error_while_reading_comes_through(make_threshold):
    class Broken(Recorded):
        def __getitem__(self, key: Any) -> np.ndarray:
            if len(self.sizes) == 3:
                raise OSError("the drive is gone")
            return super().__getitem__(key)

    image = Broken(noise((200, 200)))
    model = make_threshold(reach=8)
    plan = plan_for(model, (200, 200), tile=64)
    work = predict(model, image, grey_scale(image.pixels), plan, device=CPU, dtype=torch.float32)
    with pytest.raises(OSError, match="the drive is gone"):
        list(work)


@pytest.mark.parametrize("reach", [8, None])
def test_closing_stops_within_one_tile(make_threshold, reach):
    model = make_threshold(reach=reach)
    image = Recorded(noise((300, 300)))
    plan = plan_for(model, (300, 300), tile=64)
    seen = []
    model.network.register_forward_pre_hook(lambda *_: seen.append(1))
    work = predict(model, image, grey_scale(image.pixels), plan, device=CPU, dtype=torch.float32)
    next(work)
    next(work)
    before = threading.active_count()
    work.close()
    assert len(plan.tiles) > 10
    assert len(seen) == 2
    assert len(image.sizes) <= 3
    assert threading.active_count() < before  # the reader is gone


@pytest.fixture
def limit_memory(monkeypatch) -> Iterator[Callable[..., list[tuple[int, ...]]]]:
    """Let a network run out of memory above so many pixels; what it is given is noted."""

    def limit(model: Model, pixels: int, error: BaseException) -> list[tuple[int, ...]]:
        given_shapes: list[tuple[int, ...]] = []
        forward = model.network.forward

        def limited(image: torch.Tensor) -> torch.Tensor:
            given_shapes.append(tuple(image.shape))
            if image.shape[0] * image.shape[2] * image.shape[3] > pixels:
                raise error
            return forward(image)

        monkeypatch.setattr(model.network, "forward", limited)
        return given_shapes

    return limit


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
        RuntimeError("MPS backend out of memory (MPS allocated: 8 GB). Tried to allocate 256.00 MB on private pool."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory: you tried to"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
    ids=["cuda", "numpy", "mps", "linux", "windows", "cudnn"],
)
@pytest.mark.parametrize("reach", [8, None])
def test_where_memory_runs_out_the_batch_is_halved(make_threshold, limit_memory, error, reach):
    model = make_threshold(reach=reach)
    image = noise((60, 500))
    plan = plan_for(model, (60, 500), tile=64, batch=6)
    expected = run(model, image, plan)
    shapes = limit_memory(model, 2 * 64 * 64, error)
    found = run(model, image, plan)
    np.testing.assert_array_equal(found.classes_yx, expected.classes_yx)
    np.testing.assert_allclose(found.probabilities_cyx, expected.probabilities_cyx, atol=1e-6)
    # 6 is too much, 3 too, 1 is not; and what was learnt is remembered.
    batches = [shape[0] for shape in shapes]
    assert batches[:2] == [6, 3]
    assert set(batches[2:]) == {1}


def test_where_one_tile_does_not_fit_it_says_so(make_threshold, limit_memory):
    model = make_threshold(reach=8)
    plan = plan_for(model, (60, 500), tile=64, batch=4)
    limit_memory(model, 63 * 64, MemoryError())
    with pytest.raises(TooLargeError):
        run(model, noise((60, 500)), plan)


def test_other_errors_are_not_taken_for_memory(make_threshold, limit_memory):
    model = make_threshold(reach=8)
    plan = plan_for(model, (60, 500), tile=64, batch=4)
    limit_memory(model, 64 * 64, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        run(model, noise((60, 500)), plan)


def test_less_memory_means_smaller_tiles_until_the_halo_leaves_no_room(make_threshold):
    model = make_threshold(reach=100)
    sides = [
        make_plan(model, (1000, 1000), SegmentSettings(tile=512), CPU, largest=largest).tile
        for largest in (None, 256, 128, 64)
    ]
    assert sides == [512, 256, 216, 216]


def test_classes_that_tie_are_the_first_of_them(make_threshold):
    model = make_threshold()
    flat = np.full((1, 16, 16), 9, dtype=np.uint8)
    assert not run(model, flat, plan_for(model, (16, 16))).classes_yx.any()


@pytest.mark.parametrize("tiling", ["exact", "blend"])
def test_pieces_are_typed(make_threshold, tiling):
    model = make_threshold(distance=True, reach=8)
    image = noise((100, 120))
    plan = plan_for(model, (100, 120), tile=64, tiling=tiling)
    work = predict(model, image, grey_scale(image), plan, device=CPU, dtype=torch.float32, probabilities=True)
    pieces = [piece for _, piece in work if piece is not None]
    for piece in pieces:
        assert isinstance(piece, Piece)
        shape = tuple(part.stop - part.start for part in piece.where)
        assert (piece.classes_yx.shape, piece.classes_yx.dtype) == (shape, np.uint8)
        assert (piece.probabilities_cyx.shape, piece.probabilities_cyx.dtype) == ((2, *shape), np.float32)
        assert (piece.depth_yx.shape, piece.depth_yx.dtype) == (shape, np.float32)


def test_the_scale_of_grey_is_that_of_the_card(make_threshold):
    models = make_threshold(reach=None), make_threshold(reach=None, normalise=NormaliseSettings(limit=9))
    image = np.zeros((1, 100, 100), dtype=np.uint16)
    image[0, 50:] = 100
    image[0, 0, 0] = 400
    plan = Plan("blend", plan_blend((100, 100), 64, 0.5, 8), 1, 64, 0, 8)
    hot = [run(one, image, plan).probabilities_cyx[1, 0, 0] for one in models]
    assert hot == pytest.approx([1 / (1 + np.exp(-3)), 1 / (1 + np.exp(-7))], abs=1e-5)
