from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import napari_matseg
from napari_matseg import MatsegError, Micrograph, SegmentSettings, pipeline, segment
from napari_matseg.core import plan, predict
from napari_matseg.core.checkpoints import Model, save_model
from napari_matseg.core.label_files import read_labels_info
from napari_matseg.core.progress import Progress
from napari_matseg.core.provenance import hash_file
from napari_matseg.core.read import read
from napari_matseg.core.staged.run import StagedRun
from napari_matseg.errors import InputError, ModelError, SettingsError
from napari_matseg.pipeline import save, segment_steps, train

BRIGHT = np.s_[10:30, 20:50]
DTYPES = ["bool", "uint8", "uint16", ">u2", "int16", "uint32", "int32", "float16", "float32", "float64"]


@pytest.fixture
def threshold(make_threshold: Callable[..., Model]) -> Model:
    return make_threshold()


def scene(dtype: str = "uint8", shape: tuple[int, int] = (45, 70)) -> np.ndarray:
    """A bright rectangle on a dark ground."""
    image = np.zeros(shape, dtype=dtype)
    image[BRIGHT] = 1 if dtype == "bool" else 100
    return image


def expected(shape: tuple[int, int] = (45, 70)) -> np.ndarray:
    return scene(shape=shape) // 100


def ramp(shape: tuple[int, int]) -> np.ndarray:
    """Grey that rises over the whole image, so that every tile has another mean."""
    rows, columns = np.indices(shape)
    noise = np.random.default_rng(0).normal(0, 200, shape)
    return (20_000 + 100 * rows + 60 * columns + noise).astype(np.uint16)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(threshold, dtype):
    result = segment(scene(dtype), loaded=threshold)
    assert result.classes.dtype == np.uint8
    np.testing.assert_array_equal(result.classes, expected())


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_what_is_not_finite_spoils_nothing_else(threshold, dtype):
    image = scene(dtype)
    image[0, :4] = np.nan, np.inf, -np.inf, np.nan
    truth = expected()
    truth[0, 1] = 1
    np.testing.assert_array_equal(segment(image, loaded=threshold).classes, truth)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_is_not_finite_reaches_no_network(make_model, dtype):
    image = scene(dtype)
    image[5:8, 5:8] = np.nan
    result = segment(image, loaded=make_model(), probabilities=True)
    assert np.isfinite(result.probabilities).all()


@pytest.mark.parametrize("value", [0, 255, 65535, -2.5, np.nan, np.inf])
def test_a_constant_image_is_background(threshold, value):
    result = segment(np.full((20, 30), value), loaded=threshold)
    assert not result.classes.any()
    assert result.record["fractions"] == {"dark": 1.0, "bright": 0.0}


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (500, 3), (1, 64)])
def test_odd_sizes(make_model, shape):
    result = segment(np.arange(np.prod(shape), dtype=np.float32).reshape(shape), loaded=make_model())
    assert result.classes.shape == shape


@pytest.mark.parametrize("channels", [3, 4])
def test_colour_goes_by_its_luminance(threshold, channels):
    image = np.zeros((45, 70, channels), dtype=np.uint8)
    image[..., 3:] = np.random.default_rng(0).integers(0, 255, image[..., 3:].shape)  # an alpha says nothing
    image[BRIGHT] = [60, 255, 60, 0][:channels]
    image[32:40, 20:50] = [60, 60, 255, 0][:channels]  # as bright, but blue
    result = segment(image, loaded=threshold)
    np.testing.assert_array_equal(result.classes, expected())


def test_a_model_of_three_channels_takes_colour_and_grey(make_threshold, make_model):
    three = make_threshold(3)
    image = np.stack([scene(), 2 * scene().astype(np.uint8), scene() // 2], axis=-1)
    np.testing.assert_array_equal(segment(image, loaded=three).classes, expected())
    np.testing.assert_array_equal(segment(scene(), loaded=three).classes, expected())
    result = segment(image, loaded=make_model("resnet18", in_channels=3))
    assert result.record["planes"][0]["grey_high"] == [100.0, 200.0, 50.0]


def test_a_model_of_other_channels_is_refused(make_threshold):
    with pytest.raises(InputError, match="takes 2 channels, the image has 1; choose another model"):
        segment(scene(), loaded=make_threshold(2))


def test_files_paths_micrographs_and_lists_are_the_same(tmp_path, threshold):
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, scene())
    for image in (path, str(path), scene(), scene().tolist(), Micrograph(scene()), read(path)):
        np.testing.assert_array_equal(segment(image, loaded=threshold).classes, expected())


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros(5), r"array of shape \(5,\) could be many things; give a Micrograph"),
        (np.float64(3), r"array of shape \(\) could"),
        (np.zeros((4, 5, 6)), r"array of shape \(4, 5, 6\) could be many things"),
        (np.zeros((2, 3, 4, 5)), "could be many things"),
        (np.zeros((0, 5)), "holds no pixels"),
        (np.zeros((5, 0, 3)), "holds no pixels"),
        (np.zeros((4, 5), dtype=complex), "integers or real numbers, not complex128; convert"),
        (np.full((4, 5), "grey"), "integers or real numbers"),
        (Path("gone.tif"), r"gone\.tif: there is no such file"),
        ("gone.tif", r"gone\.tif: there is no such file"),
    ],
)
def test_images_that_cannot_be_used(threshold, image, message):
    with pytest.raises(InputError, match=message):
        segment(image, loaded=threshold)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": "no-such-model"}, ModelError, "no-such-model: no such model or file"),
        ({"modell": "particles"}, SettingsError, "modell"),
        ({"tile": 3}, SettingsError, "tile: .*64"),
        ({"batch": 0}, SettingsError, "batch"),
        ({"overlap": 1.0}, SettingsError, "overlap"),
        ({"tiling": "none"}, SettingsError, "tiling: .*exact"),
        ({"device": "tpu"}, SettingsError, "device"),
        ({"device": "cuda:99"}, SettingsError, "cuda:99.*not on this machine; choose auto or cpu"),
    ],
)
def test_settings_that_make_no_sense(changes, error, message):
    with pytest.raises(error, match=message) as caught:
        segment(scene(), **changes)
    assert isinstance(caught.value, MatsegError)
    assert "\n" not in str(caught.value)


def test_planes_are_segmented_one_by_one(threshold):
    stack = np.stack([scene("uint16"), 300 * scene("uint16") + 7, 100 - scene("uint16")])
    stack = np.stack([stack, stack])
    result = segment(Micrograph(stack, "TZYX"), loaded=threshold, instances=True, probabilities=True)
    assert result.classes.shape == result.instances.shape == (2, 3, 45, 70)
    assert result.probabilities.shape == (2, 3, 2, 45, 70)
    for t in range(2):
        for z, classes in enumerate([expected(), expected(), 1 - expected()]):
            np.testing.assert_array_equal(result.classes[t, z], classes)
            np.testing.assert_array_equal(result.instances[t, z], classes)  # ids start at 1 in each plane
            np.testing.assert_array_equal(result.probabilities[t, z].argmax(axis=0), classes)
    assert [plane["grey_high"] for plane in result.record["planes"]] == 2 * [[100.0], [30007.0], [100.0]]
    assert sum(result.record["pixels"].values()) == stack.size
    assert result.record["pixels"]["bright"] == result.classes.sum()


def test_progress_of_a_stack_counts_all_tiles(threshold):
    steps = list(segment_steps(Micrograph(np.stack([scene()] * 3), "ZYX"), loaded=threshold, tile=64))
    shares = [step.done / step.total for step in steps]
    assert shares == sorted(shares)
    assert (steps[-1].done, steps[-1].total) == (6, 6)
    assert "plane 3 of 3" in steps[-1].note


@pytest.mark.parametrize("bar", [(40, 60), (40, 50), (0, 12)])
def test_the_data_bar_changes_nothing_and_is_background(threshold, bar):
    content = ramp((60, 80))
    rows = Micrograph(content, data_bar=bar).content_rows
    image = content.copy()
    image[slice(*bar)] = np.random.default_rng(1).choice([0, 65535], image[slice(*bar)].shape)
    alone = segment(content[rows], loaded=threshold, probabilities=True)
    result = segment(Micrograph(image, data_bar=bar), loaded=threshold, instances=True, probabilities=True)
    np.testing.assert_array_equal(result.classes[rows], alone.classes)
    np.testing.assert_array_equal(result.probabilities[:, rows], alone.probabilities)
    out = np.ones(60, dtype=bool)
    out[rows] = False
    assert not result.classes[out].any()
    assert not result.instances[out].any()
    assert (result.probabilities[0, out] == 1).all()
    assert (result.probabilities[1, out] == 0).all()
    record = result.record
    assert record["segmented_rows"] == [rows.start, rows.stop]
    assert record["image"]["data_bar_rows"] == list(bar)
    assert record["planes"][0]["grey_low"] == alone.record["planes"][0]["grey_low"]
    assert record["fractions"] == alone.record["fractions"]


def test_the_data_bar_can_be_kept(threshold):
    image = scene()
    image[35:] = 255
    kept = segment(Micrograph(image, data_bar=(35, 45)), loaded=threshold, exclude_data_bar=False)
    assert kept.classes[35:].all()
    assert kept.record["segmented_rows"] == [0, 45]


def test_a_data_bar_over_everything_is_an_error(threshold):
    with pytest.raises(InputError, match="covers the whole image; keep the data bar"):
        segment(Micrograph(scene(), data_bar=(0, 45)), loaded=threshold)


@pytest.mark.parametrize("changes", [{"tile": 64}, {"tile": 64, "tiling": "blend"}, {"tile": 64, "batch": 5}])
def test_tiles_share_one_scale_of_grey(threshold, changes):
    image = ramp((150, 200))
    low, high = np.percentile(image, (1, 99), method="inverted_cdf").tolist()
    result = segment(image, loaded=threshold, **changes)
    assert result.record["planes"][0]["tiling"]["tiles"] > 4
    np.testing.assert_array_equal(result.classes, image > (low + high) / 2)


def test_a_hot_pixel_stays_one_pixel(threshold):
    image = ramp((150, 200)) // 1000 * 1000  # of few greys, so that one pixel does not move the percentiles
    hot = image.copy()
    hot[3, 4] = 65535
    before, after = (segment(pixels, loaded=threshold, tile=64).classes for pixels in (image, hot))
    assert np.argwhere(before != after).tolist() == [[3, 4]]


@settings(max_examples=5)
@given(st.tuples(st.integers(1, 180), st.integers(1, 180)), st.integers(64, 200), st.sampled_from([None, 1, 3]))
def test_the_result_does_not_depend_on_tile_and_batch(make_model, shape, tile, batch):
    model = make_model(distance=True)
    image = np.random.default_rng(0).integers(0, 65535, shape, dtype=np.uint16)
    options: dict[str, Any] = {"loaded": model, "instances": True, "probabilities": True}
    tiled = segment(image, tiling="exact", tile=tile, batch=batch, **options)
    whole = segment(image, tiling="whole", **options)
    np.testing.assert_allclose(tiled.probabilities, whole.probabilities, atol=1e-4)
    assert (tiled.classes != whole.classes).sum() <= image.size / 100_000
    np.testing.assert_array_equal(tiled.instances, whole.instances)


@pytest.mark.parametrize("changes", [{}, {"tile": 64}, {"tile": 64, "tiling": "blend"}])
def test_depth_parts_discs_that_touch(make_threshold, changes):
    rows, columns = np.indices((80, 150))
    image = np.max([40 - np.hypot(rows - 40, columns - x) for x in (50, 100)], axis=0)
    joined = segment(image, loaded=make_threshold(), instances=True, **changes)
    parted = segment(image, loaded=make_threshold(distance=True), instances=True, **changes)
    np.testing.assert_array_equal(joined.classes, parted.classes)
    assert joined.instances.max() == 1
    assert parted.instances.max() == 2
    assert parted.instances.dtype == np.uint32
    assert parted.instances[40, [50, 100]].tolist() == [1, 2]
    np.testing.assert_array_equal(parted.instances > 0, parted.classes > 0)


def test_what_is_not_asked_for_is_not_made(make_threshold):
    result = segment(scene(), loaded=make_threshold(distance=True))
    assert result.instances is result.probabilities is None


def run_out_above(model: Model, pixels: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the network run out of memory above so many pixels; give what it was tried with."""
    forward, tried = model.network.forward, []

    def limited(image: torch.Tensor) -> torch.Tensor:
        tried.append(image.shape[0] * image.shape[2] * image.shape[3])
        if tried[-1] > pixels:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(image)

    monkeypatch.setattr(model.network, "forward", limited)
    return tried


def in_one_piece(model: Model) -> Model:
    model = Model(model.network, model.card)
    model.__dict__["layers"] = "for a test"
    return model


def test_out_of_memory_in_stages_means_smaller_tiles_and_gives_the_same(make_model, monkeypatch):
    image = ramp((250, 256))
    options: dict[str, Any] = {"loaded": make_model(), "tile": 192, "probabilities": True}
    plenty = segment(image, **options)
    assert plenty.record["planes"][0]["tiling"]["strategy"] == "staged"
    scores = StagedRun.scores

    def limited(run: StagedRun, region: Any) -> torch.Tensor:
        if region.height > 100:
            raise torch.OutOfMemoryError
        return scores(run, region)

    monkeypatch.setattr(StagedRun, "scores", limited)
    scarce = segment(image, **options)
    assert scarce.record["planes"][0]["tiling"]["tile"] == 96
    np.testing.assert_array_equal(scarce.classes, plenty.classes)
    np.testing.assert_allclose(scarce.probabilities, plenty.probabilities, atol=1e-4)


def test_out_of_memory_halves_the_batch_then_the_tile_and_gives_the_same(make_model, monkeypatch):
    model = in_one_piece(make_model())
    image = ramp((250, 256))
    options: dict[str, Any] = {"loaded": model, "tiling": "exact", "batch": 2, "tile": 250, "probabilities": True}
    plenty = segment(image, **options)
    assert plenty.record["planes"][0]["tiling"]["tile"] == 248
    tried = run_out_above(model, 130**2, monkeypatch)
    scarce = segment(image, **options)
    assert scarce.record["planes"][0]["tiling"]["tile"] == 120
    assert max(tried) > 2 * 130**2
    np.testing.assert_array_equal(scarce.classes, plenty.classes)
    np.testing.assert_allclose(scarce.probabilities, plenty.probabilities, atol=1e-4)


def test_out_of_memory_at_the_smallest_tile_names_the_image(make_model, monkeypatch):
    model = in_one_piece(make_model())
    run_out_above(model, 128**2 - 1, monkeypatch)
    monkeypatch.setattr(plan, "bytes_per_pixel", lambda *_: 1.0)
    micrograph = Micrograph(ramp((256, 256)), source=Path("large.tif"))
    with pytest.raises(InputError, match=r"large\.tif: memory ran out at tiles of \d+ px, and none smaller will do"):
        segment(micrograph, loaded=model, tiling="whole")
    run_out_above(model, 100**2, monkeypatch)
    with pytest.raises(InputError, match="memory ran out at tiles of 104 px"):  # twice the halo, and one stride
        segment(micrograph, loaded=model, tiling="exact")


def test_out_of_memory_with_a_network_that_sees_everything(make_threshold, monkeypatch):
    model = make_threshold(reach=None)
    run_out_above(model, 128**2, monkeypatch)
    with pytest.raises(SettingsError, match=r"sees the whole image at once.*choose tiling auto or blend"):
        segment(ramp((200, 200)), loaded=model, tiling="exact")
    result = segment(ramp((200, 200)), loaded=model, tile=200)
    assert result.record["planes"][0]["tiling"]["strategy"] == "blend"
    assert result.record["planes"][0]["tiling"]["tile"] == 96


def test_memory_that_runs_out_beside_the_network_means_smaller_tiles_too(threshold, monkeypatch):
    read_window = predict.read_window

    def limited(image_cyx: np.ndarray, tile: Any) -> np.ndarray:
        if tile.shape[0] > 64:
            raise MemoryError
        return read_window(image_cyx, tile)

    monkeypatch.setattr(predict, "read_window", limited)
    result = segment(scene(shape=(100, 90)), loaded=threshold)
    np.testing.assert_array_equal(result.classes, expected((100, 90)))
    assert result.record["planes"][0]["tiling"]["tile"] <= 64


@pytest.mark.parametrize("tiling", ["exact", "blend"])
def test_closing_stops_within_one_tile(make_threshold, tiling):
    model = make_threshold(reach=8)
    tiles = []
    model.network.register_forward_hook(lambda *_: tiles.append(1))
    work = segment_steps(Micrograph(np.stack([ramp((300, 300))] * 2), "ZYX"), loaded=model, tile=64, tiling=tiling)
    while next(work).done < 3:
        pass
    before = len(tiles)
    work.close()
    assert len(tiles) == before
    with pytest.raises(StopIteration):
        next(work)


def test_nothing_is_loaded_before_the_first_step():
    work = segment_steps("gone.tif", model="no-such-model")
    with pytest.raises(InputError, match=r"gone\.tif"):
        next(work)


def test_progress_starts_with_the_model_and_ends_with_the_last_tile(threshold):
    steps = list(segment_steps(scene(shape=(100, 100)), loaded=threshold, tile=64))
    assert steps[0] == Progress(0, 1, "loading the model")
    assert [(step.done, step.total, step.note) for step in steps[1:]] == [(n, 4, "segmenting") for n in range(5)]


def test_exact_computes_in_full_precision_unless_told_otherwise(threshold, monkeypatch):
    asked = []
    monkeypatch.setattr(pipeline, "choose_dtype", lambda precision, _: asked.append(precision) or torch.float32)
    for tiling, precision in (("auto", "auto"), ("exact", "auto"), ("exact", "bfloat16")):
        segment(scene(), loaded=threshold, tiling=tiling, precision=precision)
    assert asked == ["auto", "float32", "bfloat16"]


def test_the_record_is_enough_to_run_it_again(tmp_path, make_model):
    tiny = make_model()
    model_path, image_path = tmp_path / "own.safetensors", tmp_path / "image.tif"
    card = save_model(model_path, tiny.network, tiny.card)
    tifffile.imwrite(image_path, ramp((100, 130)))
    first = segment(image_path, model=model_path, tile=128, probabilities=True)
    record = json.loads(json.dumps(first.record))

    again = segment(record["image"]["path"], SegmentSettings.model_validate(record["settings"]))
    np.testing.assert_array_equal(again.classes, first.classes)
    assert record["model"] == {
        "name": "tiny",
        "path": str(model_path),
        "weights_sha256": card.weights_sha256,
        "classes": [spec.model_dump(mode="json") for spec in card.classes],
    }
    assert record["image"]["sha256"] == hash_file(image_path)
    assert record["image"]["shape"] == [100, 130]
    assert record["settings"]["model"] == str(model_path)
    assert record["settings"]["tile"] == 128
    assert (record["device"], record["precision"]) == ("cpu", "float32")
    assert record["planes"][0]["tiling"]["reach"] == card.reach
    assert record["planes"][0]["tiling"]["tiles"] > 1
    assert record["versions"]["napari-matseg"] == napari_matseg.__version__
    assert sum(record["pixels"].values()) == 100 * 130
    assert sum(record["fractions"].values()) == pytest.approx(1)
    assert record["seconds"] >= 0
    assert {"created", "python", "platform", "format", "job", "segmented_rows"} <= set(record)
    for varying in ("created", "seconds"):
        assert again.record[varying] is not None
        record.pop(varying)
        again.record.pop(varying)
    assert again.record == record


def test_the_record_names_the_model_that_was_used(threshold):
    assert segment(scene(), loaded=threshold).record["settings"]["model"] == "threshold"
    filed = replace(threshold, path=Path("models") / "mine.safetensors")
    assert segment(scene(), loaded=filed).record["settings"]["model"] == str(filed.path)
    assert segment(scene(), loaded=filed, model="threshold").record["settings"]["model"] == "threshold"


def test_changes_come_on_top_of_the_settings(threshold):
    base = SegmentSettings(tile=64, batch=2)
    settings_used = segment(scene(), base, loaded=threshold, batch=3).record["settings"]
    assert (settings_used["tile"], settings_used["batch"]) == (64, 3)
    assert base.batch == 2


def test_results_are_saved(tmp_path, make_threshold):
    micrograph = Micrograph(scene(), pixel_size_nm=(5.0, 4.0), data_bar=(40, 45))
    result = segment(micrograph, loaded=make_threshold(distance=True), instances=True)
    files = save(result, micrograph, tmp_path / "new" / "folder", "sample")
    assert {what: path.name for what, path in files.items()} == {
        "labels": "sample_labels.tif",
        "overlay": "sample_overlay.png",
        "record": "sample_record.json",
        "instances": "sample_instances.tif",
    }
    labels = read(files["labels"])
    np.testing.assert_array_equal(labels.pixels, result.classes)
    assert labels.pixel_size_nm == pytest.approx((5.0, 4.0))
    classes, record = read_labels_info(files["labels"])
    assert classes == result.specs
    assert record == result.record
    np.testing.assert_array_equal(read(files["instances"]).pixels, result.instances)
    with Image.open(files["overlay"]) as overlay:
        assert overlay.width == 70
        assert overlay.height >= 45
    written = json.loads(files["record"].read_text())
    assert written.pop("outputs") == {what: str(path) for what, path in files.items()}
    assert written == result.record


def test_a_stack_in_colour_is_saved(tmp_path, threshold):
    image = np.repeat(np.stack([scene()] * 2)[..., None], 3, axis=-1)
    micrograph = Micrograph(image, "ZYXS")
    files = save(segment(micrograph, loaded=threshold), micrograph, tmp_path, "stack")
    assert set(files) == {"labels", "overlay", "record"}
    labels = read(files["labels"])
    assert labels.axes == "ZYX"
    np.testing.assert_array_equal(labels.pixels, np.stack([expected()] * 2))


def test_training_from_python_is_quiet(tmp_path, monkeypatch):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: mine\nclasses: [{name: matrix, colour: [0, 0, 0]}, {name: pore, colour: [255, 0, 0]}]\n"
        "data: {images: images, truth: truth, train: [a.png]}\n"
    )
    seen = []

    def steps(settings: Any, data: Path, out: Path, **_: Any) -> Any:
        seen.append((settings.name, data, out))
        yield Progress(1, 1)
        return out / "mine.safetensors"

    monkeypatch.setattr("napari_matseg.core.train.train_steps", steps)
    made = train(str(recipe), str(tmp_path), tmp_path / "out")
    assert made == tmp_path / "out" / "mine.safetensors"
    assert seen == [("mine", tmp_path, tmp_path / "out")]
    with pytest.raises(SettingsError, match=r"gone\.yaml: cannot be read"):
        train(tmp_path / "gone.yaml", tmp_path, tmp_path)
