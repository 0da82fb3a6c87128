"""A gigapixel out of core: peak memory, speed, and whether the pixels are those of the same micrograph in memory.

    python benchmarks/gigapixel.py [--size 32768] [--height 32768] [--model particles] [--folder FOLDER]

Writes a tiled TIFF put together from synthetic scenes, segments it in a process of its own into a tiled pyramidal TIFF
of classes and one of objects, and measures every object in another. Then crops of it, as wide as the network sees
around a window, are segmented in memory by the grey scale of the whole, and the windows are compared pixel for pixel.
Where the whole fits into memory, ``--whole`` compares all of it, and the ids of the objects. The full size takes an
hour on 2 cores and some 3 GB of disk; ``--size 6144`` is a quick run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import tifffile

from napari_matseg.core.checkpoints import load_model
from napari_matseg.core.devices import choose_device
from napari_matseg.core.maps import make_maps
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.progress import finish
from napari_matseg.core.read import read
from napari_matseg.core.synthetic import particles, superalloy
from napari_matseg.pipeline import segment
from napari_matseg.settings import SegmentSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

SCENE, N_SCENES, TILE = 1024, 12, 512

SEGMENT = """
import sys, time
from pathlib import Path
from napari_matseg.core.read import read
from napari_matseg.pipeline import save, segment
image, out, model, large_px = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
micrograph = read(image, find_bar=False)
started = time.perf_counter()
result = segment(micrograph, model=model, instances=True, work=out, large_px=large_px)
segmented = time.perf_counter()
save(result, micrograph, out, image.stem)
print(segmented - started, time.perf_counter() - segmented)
"""
MEASURE = """
import sys, time
from pathlib import Path
from napari_matseg.core.measure.shapes import measure_objects
from napari_matseg.core.read import read
image, out = Path(sys.argv[1]), Path(sys.argv[2])
started = time.perf_counter()
labels, classes = (read(out / f"{image.stem}_{what}.tif", find_bar=False) for what in ("instances", "labels"))
table = measure_objects(
    labels.pixels, read(image, find_bar=False).pixels, pixel_size_nm=labels.pixel_size_nm, classes_yx=classes.pixels
)
print(time.perf_counter() - started, len(table), int(table.area_px.sum()))
"""


def write_scene(path: Path, height: int, width: int, kind: str) -> None:
    """Write a micrograph of that size, tile by tile; scenes come turned and mirrored."""
    rng = np.random.default_rng(0)
    draw = superalloy if kind == "superalloy" else particles
    scenes = [draw((SCENE, SCENE), rng).image_yx for _ in range(N_SCENES)]
    across = -(-width // SCENE)
    turns = np.random.default_rng(1).integers(0, (N_SCENES, 4, 2), (-(-height // SCENE) * across, 3))

    def tiles() -> Iterator[np.ndarray]:
        for y in range(0, height, TILE):
            for x in range(0, width, TILE):
                which, turn, mirrored = turns[y // SCENE * across + x // SCENE]
                scene = np.rot90(scenes[which][:: -1 if mirrored else 1], turn)
                yield np.ascontiguousarray(scene[y % SCENE :, x % SCENE :][:TILE, :TILE])

    tifffile.imwrite(
        path,
        tiles(),
        shape=(height, width),
        dtype=scenes[0].dtype,
        tile=(TILE, TILE),
        bigtiff=True,
        photometric="minisblack",
        resolution=(1e7 / 5, 1e7 / 5),
        resolutionunit="CENTIMETER",
    )


def watched(script: str, *arguments: object) -> tuple[list[float], float]:
    """Run a script in a process of its own; give the numbers that it prints, and its peak memory in GB."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        known = psutil.Process(process.pid)

        def watch() -> None:
            nonlocal peak
            while process.poll() is None:
                try:
                    peak = max(peak, known.memory_info().rss)
                except psutil.NoSuchProcess:
                    return
                time.sleep(0.02)

        thread = threading.Thread(target=watch)
        thread.start()
        out = process.communicate()[0]
        thread.join()
    if process.returncode:
        raise SystemExit(f"failed with status {process.returncode}")
    return [float(word) for word in out.split()], peak / 1e9


def compare_windows(image: Path, out: Path, record: dict[str, Any], n_windows: int, side: int) -> tuple[int, int]:
    """Pixels of other class in windows segmented in memory, and pixels compared."""
    settings = SegmentSettings.model_validate(record["settings"])
    device = choose_device(settings.device)
    model = load_model(settings.model, str(device))
    micrograph = read(image, find_bar=False)
    classes = read(out / f"{image.stem}_labels.tif", find_bar=False).pixels
    plane = record["planes"][0]
    halo, stride = plane["tiling"]["reach"], plane["tiling"]["stride"]
    rng = np.random.default_rng(2)
    height, width = micrograph.shape_yx
    differ = 0
    for _ in range(n_windows):
        top, left = (int(rng.integers(0, max(length - side, 1))) for length in (height, width))
        # Crops begin on the grid of the network, as its pooling does.
        first, start = (max(place - halo, 0) // stride * stride for place in (top, left))
        crop = np.asarray(micrograph.pixels[first : top + side + halo, start : left + side + halo])
        scale = (plane["grey_low"], plane["grey_high"])
        found = in_memory(crop, model, settings, device, scale)
        window = found[top - first :, left - start :][:side, :side]
        differ += int((window != np.asarray(classes[top : top + side, left : left + side])).sum())
    return differ, n_windows * side**2


def in_memory(crop: np.ndarray, model: Any, settings: SegmentSettings, device: Any, scale: Any) -> np.ndarray:
    """Classes of a crop in one piece, by the grey scale of the whole."""
    import torch

    from napari_matseg.core import maps
    from napari_matseg.core.normalise import GreyScale

    low, high = scale
    fixed = GreyScale(tuple(low), tuple(high), model.card.normalise.limit)
    measured, maps.grey_scale = maps.grey_scale, lambda *_: fixed
    try:
        whole = settings.model_copy(update={"tiling": "whole", "instances": False})
        view = Micrograph(crop).plane(channels=model.card.architecture.in_channels)
        return finish(make_maps(view, "crop", model, whole, device, torch.float32)).classes_yx
    finally:
        maps.grey_scale = measured


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=32768, help="width, and height if it is not given")
    parser.add_argument("--height", type=int, nargs="+", help="several: one run for each, for memory against height")
    parser.add_argument("--model", default="particles")
    parser.add_argument("--windows", type=int, default=4, help="windows that are compared with memory")
    parser.add_argument("--side", type=int, default=512, help="of a window")
    parser.add_argument("--whole", action="store_true", help="compare all of it, and the objects, with memory")
    parser.add_argument("--folder", type=Path, help="keep the files here")
    arguments = parser.parse_args()
    for height in arguments.height or [arguments.size]:
        with tempfile.TemporaryDirectory() as temporary:
            run(arguments, height, arguments.folder or Path(temporary))


def run(arguments: argparse.Namespace, height: int, folder: Path) -> None:
    """One micrograph."""
    folder.mkdir(parents=True, exist_ok=True)
    image = folder / f"{arguments.model}_{height}x{arguments.size}.tif"
    write_scene(image, height, arguments.size, arguments.model)
    mpx = height * arguments.size / 1e6
    print(f"{image.name}: {mpx:.0f} Mpx, {image.stat().st_size / 1e9:.2f} GB")
    (seconds, writing), peak = watched(SEGMENT, image, folder, arguments.model, 1)
    record = json.loads((folder / f"{image.stem}_record.json").read_text())
    files = sum((folder / f"{image.stem}_{what}.tif").stat().st_size for what in ("labels", "instances"))
    tiling = record["planes"][0]["tiling"]
    print(f"  {tiling['strategy']}, tiles of {tiling['tile']} px, {record['device']}, {record['precision']}")
    print(f"  segmented     {seconds:8.1f} s  {mpx / seconds:6.2f} Mpx/s  peak {peak:5.2f} GB")
    print(f"  saved         {writing:8.1f} s  {mpx / writing:6.2f} Mpx/s  {files / 1e6:.0f} MB of labels and objects")
    (seconds, n_objects, area), peak = watched(MEASURE, image, folder)
    print(f"  measured      {seconds:8.1f} s  {mpx / seconds:6.2f} Mpx/s  peak {peak:5.2f} GB  {n_objects:.0f} objects")
    assert area <= sum(list(record["pixels"].values())[1:])
    differ, of = compare_windows(image, folder, record, arguments.windows, arguments.side)
    print(f"  other class than in memory: {differ} of {of} px in {arguments.windows} windows")
    if arguments.whole:
        started = time.perf_counter()
        whole = segment(
            read(image, find_bar=False), SegmentSettings.model_validate(record["settings"]), large_px=1 << 62
        )
        for what, expected in (("labels", whole.classes), ("instances", whole.instances)):
            found = np.asarray(read(folder / f"{image.stem}_{what}.tif", find_bar=False).pixels)
            print(f"  {what}: {np.count_nonzero(found != expected)} of {found.size} px differ from the whole in memory")
        print(f"  in memory     {time.perf_counter() - started:8.1f} s, {whole.instances.max()} objects")


if __name__ == "__main__":
    main()
