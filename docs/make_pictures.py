"""Make the pictures of the documentation anew, into docs/pictures.

    python docs/make_pictures.py [NAME...]

All of them, or those named, such as `tiling` or `napari`. Needs the `docs` and `all` extras; on Linux without a screen,
Xvfb as well, and for `index` Chromium or Chrome.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from napari_matseg import read, save, segment
from napari_matseg.core.blend import window_weights
from napari_matseg.core.synthetic import demo_micrograph, superalloy, write_demo
from napari_matseg.core.tile import plan_blend, plan_tiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_matseg.core.synthetic.demo import Kind

PICTURES = Path(__file__).absolute().parent / "pictures"
MOST_BYTES = 300_000
WINDOW = (1360, 720)
PATIENCE_S = 600
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BLUE, ORANGE, GREEN = "#0072b2", "#e69f00", "#009e73"


def overlays() -> None:
    """Draw what the demo gives, for both models."""
    particles, alloy = _overlay("particles"), _overlay("superalloy")
    _keep("demo", particles.resize((particles.width * 4 // 5, particles.height * 4 // 5), Image.Resampling.LANCZOS))
    _keep("superalloy", alloy.resize((alloy.width * 3 // 4, alloy.height * 3 // 4), Image.Resampling.LANCZOS))

    demo = demo_micrograph("particles")
    image_yx = demo.sample.image_yx[: demo.data_bar[0]].astype(float)
    black, white = np.percentile(image_yx, (0.5, 99.5))
    grey = Image.fromarray(np.uint8(np.clip((image_yx - black) / (white - black), 0, 1) * 255)).convert("RGB")
    width, height, gap = 584, 400, 16
    part = (grey.width - width, grey.height - height, grey.width, grey.height)
    pair = Image.new("RGB", (2 * width + gap, height), "white")
    pair.paste(grey.crop(part), (0, 0))
    pair.paste(particles.crop(part), (width + gap, 0))
    _keep("overlay", pair)


def _overlay(kind: Kind) -> Image.Image:
    """Overlay of a demo micrograph, as `napari-matseg demo` writes it."""
    with tempfile.TemporaryDirectory() as folder:
        image, _ = write_demo(Path(folder) / f"{kind}.tif", kind)
        micrograph = read(image)
        files = save(segment(micrograph, model=kind), micrograph, Path(folder), kind)
        return Image.open(files["overlay"]).convert("RGB")


def sizes() -> None:
    """Draw the size distribution of the demo's particles, as `napari-matseg measure --figures` does."""
    from napari_matseg.core.figures.plot import save_plot
    from napari_matseg.measuring import measure
    from napari_matseg.reporting import plots_of

    demo = demo_micrograph("particles")
    labels_yx = demo.sample.truth_yx[: demo.data_bar[0]]
    measured = measure(labels_yx.astype(np.uint16), pixel_size_nm=(demo.pixel_size_nm, demo.pixel_size_nm))
    with tempfile.TemporaryDirectory() as folder:
        drawn, _ = save_plot(plots_of(measured)["size"], Path(folder) / "sizes.png")
        figure = Image.open(drawn).convert("RGB")
    _keep("sizes", figure.resize((figure.width * 3 // 4, figure.height * 3 // 4), Image.Resampling.LANCZOS))


def index() -> None:
    """Take a picture of the page of a run over twelve demo micrographs, by a browser."""
    import shutil
    import subprocess

    from napari_matseg.core.progress import finish
    from napari_matseg.running import run
    from napari_matseg.settings import Recipe, SegmentSettings

    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit(f"No browser to take a picture with; install one of {', '.join(BROWSERS)}.")
    recipe = Recipe(name="Particles overnight", segment=SegmentSettings(model="particles"))
    with tempfile.TemporaryDirectory() as folder:
        images = [write_demo(Path(folder) / f"grid 3-{i:02}.tif", seed=i, shape=(480, 640))[0] for i in range(1, 13)]
        images[3].write_bytes(images[3].read_bytes()[:100])
        page = finish(run(recipe, images, Path(folder) / "results")).files["index"]
        page.write_text(page.read_text(encoding="utf-8").replace(f"{folder}/", ""), encoding="utf-8")
        shot = Path(folder) / "index.png"
        command = [browser, "--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu", f"--screenshot={shot}"]
        subprocess.run([*command, "--window-size=1240,1240", page.as_uri()], check=True, capture_output=True)  # noqa: S603
        picture = Image.open(shot).convert("RGB")
        _keep("index", picture.resize((picture.width * 3 // 4, picture.height * 3 // 4), Image.Resampling.LANCZOS))


def tiling() -> None:
    """Draw how tiles lie, from the functions that lay them."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import Rectangle

    shape, tile, halo, stride = (1536, 2048), 768, 128, 16
    tiles = plan_tiles(shape, tile, halo, stride)
    grey = superalloy((shape[0] // 4, shape[1] // 4), np.random.default_rng(3)).image_yx
    black, white = np.percentile(grey, (0.5, 99.5))
    plt.rcParams.update({"font.size": 10, "axes.titlesize": 11, "font.family": "DejaVu Sans"})
    figure = plt.figure(figsize=(11, 4.6), layout="constrained")
    parts = figure.subfigures(1, 2, width_ratios=[1.25, 1])

    plane = parts[0].subplots()
    plane.imshow(grey, cmap="gray", extent=(0, shape[1], shape[0], 0), vmin=black, vmax=white)
    for one in tiles:
        y, x = one.keep
        plane.add_patch(Rectangle((x.start, y.start), x.stop - x.start, y.stop - y.start, fill=False, ec="white", lw=2))
    columns = len({one.x.start for one in tiles})
    for one, colour in ((tiles[0], ORANGE), (tiles[columns + 1], BLUE)):
        (y, x), (inner_y, inner_x) = one.window, one.keep
        plane.add_patch(
            Rectangle((x.start, y.start), x.stop - x.start, y.stop - y.start, fill=False, ec=colour, lw=3, ls="--")
        )
        plane.add_patch(
            Rectangle(
                (inner_x.start, inner_y.start),
                inner_x.stop - inner_x.start,
                inner_y.stop - inner_y.start,
                fc=colour,
                alpha=0.45,
            )
        )
    plane.set_title("Dashed: what the network sees. Filled: what is kept of it.")
    plane.set_axis_off()

    rows = parts[1].subplots(2, 1, sharex=True)
    row = sorted({one.x for one in tiles}, key=lambda span: span.start)
    for i, span in enumerate(row):
        rows[0].barh(i, span.stop - span.start, left=span.start, height=0.7, color=BLUE, alpha=0.25)
        rows[0].barh(i, span.keep_stop - span.keep_start, left=span.keep_start, height=0.7, color=BLUE)
    rows[0].invert_yaxis()
    rows[0].set_yticks([])
    rows[0].set_title("Halo: seen (pale), and kept (dark), along a row")
    windows = sorted({one.x for one in plan_blend(shape, tile, 0.5, stride)}, key=lambda span: span.start)
    weights = window_weights((tile, tile))[tile // 2]
    total = np.zeros(shape[1])
    for span in windows:
        total[span.start : span.stop] += weights
    for i, span in enumerate(windows):
        share = weights / total[span.start : span.stop]
        rows[1].plot(np.arange(span.start, span.stop), share, color=(BLUE, ORANGE, GREEN)[i % 3], lw=2)
    rows[1].set_title("Blending: share that each tile has in the mean")
    rows[1].set_xlabel("pixels")
    rows[1].set_xlim(0, shape[1])
    for axes in rows:
        axes.spines[["top", "right"]].set_visible(False)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tiling.png"
        figure.savefig(file, dpi=110, facecolor="white")
        _keep("tiling", Image.open(file).convert("RGB"))
    plt.close(figure)


def stages() -> None:
    """Draw what a network in stages needs beyond a chunk of each map, and what halo and stages compute twice."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    from napari_matseg.core.architectures import build_network, stride_of
    from napari_matseg.core.staged.ops import Region
    from napari_matseg.core.staged.stages import (
        choose_kept,
        flops_of,
        make_grids,
        make_stage,
        stride_of_map,
        targets,
    )
    from napari_matseg.core.staged.trace import trace
    from napari_matseg.core.tile import computed_pixels
    from napari_matseg.settings import ArchitectureSettings

    reach, side, sizes_px = 287, 8192, (512, 768, 1024, 1536, 2048, 3072, 4096)  # reach of the U-Net below
    network = build_network(ArchitectureSettings(name="unet", encoder="resnet18"), 3).eval()
    layers = trace(network, 1, stride_of(network))
    canvas = (side, side)
    sizes, kept = layers.sizes(canvas), choose_kept(layers, 1024)
    grids = make_grids(layers, kept, 1024)
    names, chunks, beyond = [], [], []
    for target in targets(layers, kept):
        stride, stage = stride_of_map(canvas, sizes[target]), make_stage(layers, target, kept)
        top, bottom = grids[target].span(3, sizes[target][0])
        needed = stage.regions(layers, Region(top, bottom, top, bottom), sizes)
        names.append(
            "result" if target == len(layers.steps) - 1 else f"{layers.steps[target].channels} maps at 1/{stride}"
        )
        chunks.append((bottom - top) * stride)
        beyond.append(max(top * stride - needed[i].top * stride_of_map(canvas, sizes[i]) for i in stage.inputs))
    plt.rcParams.update({"font.size": 10, "axes.titlesize": 11, "font.family": "DejaVu Sans"})
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    places = np.arange(len(names) + 1)
    left.barh(places, [*chunks, 1024], color=[BLUE] * len(names) + [ORANGE])
    for sign in (-1, 1):
        edge = [0 if sign < 0 else length for length in (*chunks, 1024)]
        left.barh(
            places, [sign * n for n in (*beyond, reach)], left=edge, color=[BLUE] * len(names) + [ORANGE], alpha=0.3
        )
    left.set_yticks(places, [*names, "halo, for comparison"])
    left.invert_yaxis()
    left.set_xlabel("pixels of the image")
    left.set_title("Chunks of the maps kept (dark), and what they need beyond (pale)")
    extra = {"halo": [], "stages": []}
    for tile in sizes_px:
        extra["halo"].append(computed_pixels(plan_tiles(canvas, tile, reach + 1, 32)) / side**2 - 1)
        staged, once = flops_of(layers, canvas, choose_kept(layers, tile), tile)
        extra["stages"].append(staged / once - 1)
    for (name, values), colour in zip(extra.items(), (ORANGE, BLUE), strict=True):
        shown = [100 * value if value < 4 else np.nan for value in values]
        right.plot(sizes_px, shown, "o-", color=colour, label=name)
    right.set_xscale("log", base=2)
    right.set_xticks(sizes_px, [str(n) for n in sizes_px])
    right.minorticks_off()
    right.set_ylim(0, 300)
    right.set_xlabel("side of a tile in pixels")
    right.set_ylabel("work beyond one pass, %")
    right.set_title(f"U-Net with ResNet-18 on {side} x {side}")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "stages.png"
        figure.savefig(file, dpi=110, facecolor="white")
        _keep("stages", Image.open(file).convert("RGB"))
    plt.close(figure)


def augment() -> None:
    """Draw what each augmentation does to a crop, and all of them together, with the outlines of the truth."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from napari_matseg.core.augment import preview
    from napari_matseg.settings import AugmentSettings

    demo = demo_micrograph("particles")
    off: dict[str, Any] = dict.fromkeys(("invert", "shading", "blur", "noise", "brightness"), 0)
    off |= {"scale": (1, 1), "aspect": 1, "rotate": False, "contrast": (1, 1), "gamma": (1, 1)}
    # Seeds with which there is something to see.
    seeds = {"elastic": 14, "invert": 2, "shading": 3, "streaks": 5, "defocus": 2}
    seeds |= {"shot_noise": 2, "readout_noise": 6, "burnt_in": 8, "data_bar": 9}
    panels: list[tuple[str, dict[str, Any], int]] = [("as it is", off, 2)]
    panels += [(name, off | {name: 1}, seed) for name, seed in seeds.items()]
    panels += [("rotate, scale, aspect", off | {"rotate": True, "scale": (0.6, 1.6), "aspect": 1.2}, 2)]
    panels += [("a bit of everything", dict.fromkeys(seeds, 0.4) | {"scale": (0.6, 1.6)}, 12)]
    figure = Figure(figsize=(9.6, 7.6), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for axes, (name, changes, seed) in zip(figure.subplots(3, 4).flat, panels, strict=True):
        settings = AugmentSettings(**changes)
        grey, classes = demo.sample.image_yx[:384, :384], demo.sample.classes_yx[:384, :384]
        ((image_yx, truth_yx),) = preview(grey, classes, settings, 1, seed, crop=320)
        axes.imshow(image_yx, cmap="gray", vmin=-1.5, vmax=1.5)
        axes.contour(truth_yx, levels=[0.5], colors=[ORANGE], linewidths=0.9)
        axes.set_title(name.replace("_", " "), fontsize=11)
        axes.set_axis_off()
    canvas.draw()
    _keep("augment", Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))


def windows() -> None:
    """Take pictures of the napari window while its widgets do the work of the tutorial."""
    with _viewer() as viewer:
        viewer.layers.selection.active = viewer.layers[0]
        dock, widget = viewer.window.add_plugin_dock_widget("napari-matseg", "Segment micrograph")
        _widen(viewer, dock)
        viewer.canvas.overlays.scale_bar.visible = True
        viewer.reset_view()
        _shoot(viewer, "widget")

        widget.objects.setChecked(True)
        _run(widget)
        viewer.layers[-1].visible = False  # the objects
        viewer.layers.selection.active = viewer.layers[-2]
        _shoot(viewer, "segment")

        viewer.window.remove_dock_widget(dock)
        dock, widget = viewer.window.add_plugin_dock_widget("napari-matseg", "Evaluate segmentation")
        _widen(viewer, dock, 530)
        widget.prediction.layer = viewer.layers[-2]
        viewer.reset_view()
        _run(widget)
        _shoot(viewer, "evaluate")

        _compare_objects(viewer, widget)
        _shoot(viewer, "mistakes")

        viewer.window.remove_dock_widget(dock)
        dock, widget = viewer.window.add_plugin_dock_widget("napari-matseg", "Measure")
        _widen(viewer, dock, 470)
        widget.form.labels.layer = viewer.layers["true objects"]
        for layer in list(viewer.layers)[1:]:
            layer.visible = layer.name == "true objects"
        viewer.layers.selection.active = viewer.layers["true objects"]
        _run(widget)
        widget.objects.table.selectRow(11)
        _shoot(viewer, "measure")

        viewer.window.remove_dock_widget(dock)
        for layer in list(viewer.layers)[1:]:
            viewer.layers.remove(layer)
        dock, widget = viewer.window.add_plugin_dock_widget("napari-matseg", "Points to masks")
        _widen(viewer, dock, 440)
        viewer.reset_view()
        widget.sources.what = "centres"
        _run(widget)
        _shoot(viewer, "points")


def micrograph() -> None:
    """Take a picture of a file of an instrument with its data bar marked, and the line along its scale bar.

    It is one of RosettaSciIO's test files, of a Zeiss, which is not in the repository.
    """
    folder = Path(os.environ.get("NAPARI_MATSEG_DATA", PICTURES.parents[2] / "shared" / "data")) / "vendor_tiff"
    file = folder / "test_tiff_Zeiss_SEM_512pix.tif"
    if not file.is_file():
        raise SystemExit(f"No {file}; set NAPARI_MATSEG_DATA to the folder that holds vendor_tiff/.")
    with _viewer((1360, 800)) as viewer:
        viewer.layers.clear()
        viewer.open(str(file), plugin="napari-matseg")
        viewer.canvas.overlays.scale_bar.visible = True
        dock, widget = viewer.window.add_plugin_dock_widget("napari-matseg", "Micrograph")
        _widen(viewer, dock, 420)
        widget.find_line()
        widget.form.length.setText("200 nm")
        viewer.reset_view()
        viewer.scene.camera.zoom *= 2
        viewer.scene.camera.center = (0, 3200, 1600)  # nm
        _shoot(viewer, "micrograph")


def cracks() -> None:
    """Draw the sample of cracks beside its truth."""
    sample = demo_micrograph("cracks").sample
    grey = Image.fromarray(sample.image_yx).convert("RGB")
    truth = np.array(grey)
    for number, colour in ((1, (0, 114, 178)), (2, (213, 94, 0))):
        inside = sample.classes_yx == number
        share = 0.45 if number == 1 else 1.0
        truth[inside] = (1 - share) * truth[inside] + share * np.array(colour)
    pair = Image.new("RGB", (2 * 560 + 16, 400), "white")
    for place, picture in ((0, grey), (576, Image.fromarray(truth))):
        pair.paste(picture.crop((180, 300, 740, 700)), (place, 0))
    _keep("cracks", pair)


def train() -> None:
    """Take pictures of a model from the first stroke to its result, on a superalloy, and print how good it is.

    The micrograph is Stuckner et al. 2022's (doi 10.1038/s41524-022-00878-5, MIT), which is not in the repository.
    """
    from napari_matseg.core.metrics import Scores, count

    folder = _superalloy()
    file = folder / "images" / "spot3_0d_3.tif"
    drawn = np.asarray(Image.open(folder / "masks" / "spot3_0d_3_mask.tif").convert("RGB"))
    truth = (drawn != drawn[..., :1]).any(-1).astype(np.uint8)  # precipitates, of both kinds, are in colour
    with tempfile.TemporaryDirectory() as models, _viewer((1360, 800)) as viewer:
        os.environ["NAPARI_MATSEG_MODELS"] = models
        viewer.layers.clear()
        viewer.open(str(file), plugin="napari-matseg")
        dock, widget = viewer.window.add_plugin_dock_widget("napari-matseg", "Train")
        _widen(viewer, dock, 440)
        layer = widget.layers.add_layer()
        _paint(layer, truth, (256, 256))
        print(f"painted: {(layer.data > 0).mean():.1%} of the pixels")
        _settle()
        widget.classes.rename(1, "matrix")
        widget.classes.rename(2, "precipitate")
        widget.form.name.setText("precipitates")
        viewer.reset_view()
        _shoot(viewer, "train-1")

        started = time.monotonic()
        widget.run()
        _wait(lambda: len(widget.live.history) > 180)
        _shoot(viewer, "train-2")
        _wait(widget.run_bar.run_button.isEnabled)
        print(f"trained in {time.monotonic() - started:.0f} s")

        widget.segment()
        viewer.window.remove_dock_widget(dock)
        (segmenter,) = (one for name, one in viewer.window.dock_widgets.items() if name.startswith("Segment"))
        segmenter.image.layer = viewer.layers[0]
        _run(segmenter)
        layer.visible = False
        viewer.reset_view()
        _shoot(viewer, "train-3")
        scores = Scores(count(viewer.layers[-1].data, truth, 2))
        print(f"whole micrograph: IoU {scores.iou.round(3)}, mean {scores.mean_iou:.3f}")
        outside = np.ones(truth.shape, bool)
        outside[:256, :256] = False
        scores = Scores(count(viewer.layers[-1].data, truth, 2, mask=outside))
        print(f"but for the corner that was painted: mean IoU {scores.mean_iou:.3f}")


def uncertainty() -> None:
    """Take pictures of what a model says to an image of another kind, and of where it is unsure about a superalloy.

    The micrograph is one of Stuckner et al. 2022's, as for `train`.
    """
    with _viewer((1360, 760)) as viewer:
        dock, widget = viewer.window.add_plugin_dock_widget("napari-matseg", "Segment micrograph")
        _widen(viewer, dock)
        widget.image.layer = viewer.layers[0]
        widget.model.model = "superalloy"
        _run(widget)
        viewer.reset_view()
        _shoot(viewer, "unlike")

        viewer.window.remove_dock_widget(dock)
        viewer.layers.clear()
        viewer.open(str(_superalloy() / "images" / "spot1_0d_0.tif"), plugin="napari-matseg")
        dock, widget = viewer.window.add_plugin_dock_widget("napari-matseg", "Segment micrograph")
        _widen(viewer, dock)
        widget.model.model = "superalloy"
        viewer.reset_view()
        widget.unsure.run()
        _wait(lambda: not widget.unsure.running)
        _shoot(viewer, "uncertainty")


def _superalloy() -> Path:
    """Folder of Stuckner et al. 2022's micrographs of superalloys."""
    folder = Path(os.environ.get("NAPARI_MATSEG_DATA", PICTURES.parents[2] / "shared" / "data")) / "superalloy"
    if not folder.is_dir():
        raise SystemExit(f"No {folder}; set NAPARI_MATSEG_DATA to the folder that holds superalloy/.")
    return folder


def _paint(layer: Any, truth: np.ndarray, corner: tuple[int, int]) -> None:
    """Draw short strokes well inside each class, all in the corner but there far from each other, as a user would."""
    from scipy import ndimage

    rng = np.random.default_rng(1)
    for label, class_id in ((1, 0), (2, 1)):
        inside = ndimage.distance_transform_edt(truth == class_id) > layer.brush_size / 2
        inside[corner[0] :], inside[:, corner[1] :] = False, False
        layer.selected_label = label
        there = np.argwhere(inside).astype(float)
        chosen = [there[0]]
        while len(chosen) < 9:
            chosen.append(there[np.min([np.hypot(*(there - one).T) for one in chosen], axis=0).argmax()])
        for place in chosen:
            angle = rng.uniform(0, 2 * np.pi)
            for _ in range(12):
                layer.paint(tuple(place), label, refresh=False)
                turns = angle + rng.normal(0, np.linspace(0.3, 2.5, 12))
                steps = place + 3 * np.stack([np.sin(turns), np.cos(turns)], axis=1)
                good = [i for i, step in enumerate(steps) if inside[tuple(np.rint(step).astype(int) % truth.shape)]]
                if not good:
                    break
                place, angle = steps[good[0]], turns[good[0]]
    layer.refresh()


def batch() -> None:
    """Take a picture of a batch at work, with one of its results opened."""
    from napari_matseg.core.recipes import write_recipe
    from napari_matseg.settings import Recipe, SegmentSettings

    recipe = Recipe(name="particles", segment=SegmentSettings(model="particles", instances=True))
    with tempfile.TemporaryDirectory() as folder, chdir(folder), _viewer((1360, 800)) as viewer:
        viewer.layers.clear()
        Path("micrographs").mkdir()
        images = [
            write_demo(Path("micrographs") / f"grid 3-{i:02}.tif", seed=i, shape=(480, 640))[0] for i in range(1, 13)
        ]
        for truth in Path("micrographs").glob("*_truth.tif"):
            truth.unlink()
        images[3].write_bytes(images[3].read_bytes()[:100])
        write_recipe(recipe, Path("particles.yaml"))
        dock, widget = viewer.window.add_plugin_dock_widget("napari-matseg", "Batch")
        _widen(viewer, dock, 590)
        widget.form.recipe.choose(Path("particles.yaml"))
        widget.form.inputs.add(["micrographs"])
        widget.form.out_line.setText("results")
        _wait(lambda: widget.model.rowCount() == len(images))
        widget.run()
        _wait(lambda: widget.model.numbers["done"] > 4 and widget.model.numbers["working"] > 0)
        widget.bar.pause_button.click()
        viewer.canvas.overlays.scale_bar.visible = True
        widget.opener.open(widget.model.entry(2))
        _wait(lambda: len(viewer.layers) > 0)
        widget.queue.view.scrollToTop()
        _shoot(viewer, "batch")
        widget.cancel()
        _wait(widget.bar.start_button.isEnabled)


def large() -> None:
    """Take a picture of a map whose segmentation arrives, tile by tile."""
    with _viewer((1360, 760)) as viewer:
        viewer.layers.clear()
        rows = []
        for row in range(2):
            demos = [demo_micrograph("particles", 3 * row + column) for column in range(3)]
            rows.append(np.hstack([demo.sample.image_yx[: demo.data_bar[0]] for demo in demos]))
        viewer.add_image(np.vstack(rows), name="map", scale=(5, 5), units=("nm", "nm"))
        viewer.canvas.overlays.scale_bar.visible = True
        dock, widget = viewer.window.add_plugin_dock_widget("napari-matseg", "Segment micrograph")
        _widen(viewer, dock)
        widget.model.model = "particles"
        widget.tile.setValue(512)
        widget.run()
        _wait(lambda: widget.run_bar.bar.value() * 2 >= widget.run_bar.bar.maximum() > 0)
        _shoot(viewer, "large")
        widget.run_bar.cancel_button.click()
        _wait(lambda: widget.run_bar.run_button.isEnabled())


def _compare_objects(viewer: Any, widget: Any) -> None:
    """Hold the objects against the true ones, and go to one of the largest mistakes, away from the edge."""
    from napari.layers import Layer

    from napari_matseg._napari.layers import objects_layer, placement

    image, _, classes, objects, _ = viewer.layers  # and the mistakes in the classes
    true = demo_micrograph("particles").sample.truth_yx
    data, kwargs, kind = objects_layer(true, "true objects", placement(image))
    viewer.add_layer(Layer.create(data, kwargs | {"visible": False}, kind))
    classes.visible, objects.visible = False, True
    widget.prediction.layer, widget.truth.layer = objects, viewer.layers["true objects"]
    widget.tabs.setCurrentWidget(widget.mistakes)
    _run(widget)
    height, width = true.shape
    largest = widget.mistakes.mistakes.found[:5]
    inside = [min(one.y, height - one.y, one.x, width - one.x) for one in largest]
    for _ in range(int(np.argmax(inside)) + 1):
        widget.mistakes.next()


def drive() -> None:
    """Take pictures of a micrograph from its particles to the table: find, segment, look, correct by a click, read."""
    from napari_matseg._napari.parts import Scroll

    demo = demo_micrograph("particles")
    with _viewer((980, 660)) as viewer:
        for part in (viewer.window._qt_viewer.dockLayerList, viewer.window._qt_viewer.dockLayerControls):  # noqa: SLF001
            part.setVisible(False)
        dock, widget = viewer.window.add_plugin_dock_widget("napari-matseg", "Points to masks")
        _widen(viewer, dock, 400)
        viewer.canvas.overlays.scale_bar.visible = True
        widget.sources.what = "centres"
        _settle()
        viewer.reset_view()
        _run(widget)
        _shoot(viewer, "drive-1")

        bar = widget.findChild(Scroll).verticalScrollBar()
        label, beside = _too_much(widget.clicking.shown.layers[0].data, demo.sample.truth_yx)
        _settle()
        bar.setValue(bar.maximum())
        widget.objects.table.show_label(label)
        widget.objects.visit(label)
        viewer.scene.camera.zoom *= 1.5
        _shoot(viewer, "drive-2")

        widget.bar.switch.setChecked(True)
        _wait(lambda: not widget.clicking.live.busy and widget.run_bar.run_button.isEnabled())
        widget.bar.turns["take away"].click()
        widget.sources.points.layer.add([beside])
        _wait(lambda: not widget.clicking.live.busy)
        _settle()
        bar.setValue(bar.maximum())
        _shoot(viewer, "drive-3")

        widget.bar.accept_button.click()
        widget.objects.table.show_label(label)
        _settle()
        bar.setValue(bar.maximum())
        _shoot(viewer, "drive-4")


def _too_much(labels_yx: np.ndarray, truth_yx: np.ndarray) -> tuple[int, tuple[int, int]]:
    """Object that reaches furthest into a particle that is not its own, and the place there to click on."""
    from scipy import ndimage

    best = (0.0, 0, (0, 0))
    for label in np.unique(labels_yx)[1:].tolist():
        own = np.bincount(truth_yx[labels_yx == label]).argmax()
        depth = ndimage.distance_transform_edt((labels_yx == label) & (truth_yx != own) & (truth_yx > 0))
        y, x = np.unravel_index(depth.argmax(), depth.shape)
        best = max(best, (float(depth[y, x]), label, (int(y), int(x))))
    return best[1:]


@contextmanager
def _viewer(size: tuple[int, int] = WINDOW) -> Iterator[Any]:
    """Open a window with the sample of particles."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "settings.yaml")  # nobody's own preferences
        os.environ.pop("QT_QPA_PLATFORM", None)  # napari's canvas needs a real screen
        if sys.platform.startswith("linux") and not os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}:
            from pyvirtualdisplay import Display

            stack.enter_context(Display(size=(1600, 1000), color_depth=24))
        import napari

        viewer = napari.Viewer()
        stack.callback(_settle)
        stack.callback(viewer.close)
        viewer.window.resize(*size)
        viewer.open_sample("napari-matseg", "particles")
        yield viewer


def _widen(viewer: Any, dock: Any, width: int = 370) -> None:
    from qtpy.QtCore import Qt

    viewer.window._qt_window.resizeDocks([dock], [width], Qt.Orientation.Horizontal)  # noqa: SLF001
    _settle()


def _run(widget: Any) -> None:
    """Press a widget's button and wait until it can be pressed again."""
    widget.run()
    _wait(widget.run_bar.run_button.isEnabled)


def _wait(done: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not done():
        _settle(0.1)
        if time.monotonic() > end:
            raise TimeoutError(f"A picture took longer than {PATIENCE_S} s.")


def _settle(seconds: float = 1.0) -> None:
    """Let Qt lay out and draw."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.02)


def _shoot(viewer: Any, name: str) -> None:
    _settle()
    _keep(name, Image.fromarray(viewer.window.screenshot(canvas_only=False, flash=False)).convert("RGB"))


def _keep(name: str, picture: Image.Image) -> None:
    """Write a picture with as many colours as it may have."""
    PICTURES.mkdir(exist_ok=True)
    path = PICTURES / f"{name}.png"
    for colours in (256, 128, 64, 32):
        few = picture.quantize(colours, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
        few.save(path, optimize=True)
        if path.stat().st_size <= MOST_BYTES:
            break
    print(f"{path.name}: {picture.width} x {picture.height}, {path.stat().st_size // 1000} kB")


KINDS: dict[str, Callable[[], None]] = {
    "tiling": tiling,
    "stages": stages,
    "overlays": overlays,
    "sizes": sizes,
    "index": index,
    "augment": augment,
    "napari": windows,
    "drive": drive,
    "micrograph": micrograph,
    "cracks": cracks,
    "train": train,
    "uncertainty": uncertainty,
    "batch": batch,
    "large": large,
}

if __name__ == "__main__":
    for kind in sys.argv[1:] or KINDS:
        KINDS[kind]()
