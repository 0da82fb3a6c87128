"""A gigapixel out of core: peak memory, speed, and whether the pixels are those of the same micrograph in memory.

    python benchmarks/gigapixel.py --folder FOLDER [--size 32768] [--height 32768] [--model particles]

Writes a tiled TIFF put together from synthetic scenes, segments it in a process of its own into a tiled pyramidal TIFF
of classes and one of objects, and measures all that `napari-matseg measure` measures in another. Then crops of it, as
wide as the network sees around a window, are segmented in memory by the grey scale of the whole, and the windows are
compared pixel for pixel. Where the whole fits into memory, ``--whole`` compares all of it, and the ids of the objects.

Run the same again, and it goes on where it was stopped: in the segmentation at the tile, else at the step. The full
size takes about an hour on 2 cores and some 3 GB of disk; ``--size 4096`` is a quick run, and ``--size 4096 --height
4096 16384`` shows whether memory grows with the height.
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

STEPS = """
import json, sys, time
from contextlib import closing

def told(work):
    # Run a generator, and print how many seconds each of its notes took.
    seconds, note, since = {}, None, time.perf_counter()
    with closing(work):
        while True:
            try:
                step = next(work)
            except StopIteration as stop:
                result = stop.value
                step = None
            now = time.perf_counter()
            if note is not None:
                seconds[note] = seconds.get(note, 0) + now - since
            since = now
            if step is None:
                return result, seconds
            if step.note != note:
                note = step.note
                print("NOTE", note, flush=True)
"""
READ = """
import json, sys, time
from napari_matseg.core.large.rows import RowsAhead
from napari_matseg.core.measure.runs import bands
from napari_matseg.core.read import read
started = time.perf_counter()
rows = RowsAhead(read(sys.argv[1], find_bar=False).view())
total = sum(int(rows[band].sum()) for band in bands(0, *rows.shape))
print(json.dumps({"seconds": {"reading all pixels": time.perf_counter() - started}, "sum": total}))
"""
SEGMENT = (
    STEPS
    + """
from pathlib import Path
from napari_matseg.core.read import read
from napari_matseg.pipeline import save, segment_steps
image, out, model = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
micrograph = read(image, find_bar=False)
result, seconds = told(segment_steps(micrograph, model=model, instances=True, work=out, large_px=1))
print("NOTE saving", flush=True)
started = time.perf_counter()
save(result, micrograph, out, image.stem)
seconds["saving"] = time.perf_counter() - started
print(json.dumps({"seconds": seconds}))
"""
)
MEASURE = (
    STEPS
    + """
from pathlib import Path
from napari_matseg.core.read import read
from napari_matseg.measuring import measure_steps
from napari_matseg.reporting import save_measured
image, out = Path(sys.argv[1]), Path(sys.argv[2])
labels, ids = (out / f"{image.stem}_{what}.tif" for what in ("labels", "instances"))
found, seconds = told(measure_steps(labels, image, instances=read(ids, find_bar=False)))
print("NOTE saving tables", flush=True)
started = time.perf_counter()
save_measured(found, out, image.stem)
seconds["saving tables"] = time.perf_counter() - started
field = found.fields[0]
print(json.dumps({
    "seconds": seconds, "objects": len(field.table), "area": int(field.table.area_px.sum()),
    "pixels": field.pixels.tolist(), "std": field.std.tolist(),
}))
"""
)


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

    temporary = path.with_name(f"unfinished_{path.name}")
    tifffile.imwrite(
        temporary,
        tiles(),
        shape=(height, width),
        dtype=scenes[0].dtype,
        tile=(TILE, TILE),
        bigtiff=True,
        photometric="minisblack",
        resolution=(1e7 / 5, 1e7 / 5),
        resolutionunit="CENTIMETER",
    )
    temporary.replace(path)


def watched(name: str, folder: Path, script: str, *arguments: object) -> dict[str, Any]:
    """Run a script in a process of its own, unless it was done before; give what it prints, and its peak memory."""
    done = folder / f"{name}.json"
    if done.exists():
        found: dict[str, Any] = json.loads(done.read_text())
        return found
    command = [sys.executable, "-c", script, *map(str, arguments)]
    peaks: dict[str, int] = {}
    note, last = "starting", ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        known = psutil.Process(process.pid)

        def watch() -> None:
            while process.poll() is None:
                try:
                    peaks[note] = max(peaks.get(note, 0), known.memory_info().rss)
                except psutil.NoSuchProcess:
                    return
                time.sleep(0.02)

        thread = threading.Thread(target=watch)
        thread.start()
        assert process.stdout is not None
        for line in process.stdout:
            last = line
            if line.startswith("NOTE "):
                note = line.removeprefix("NOTE ").strip()
        process.wait()
        thread.join()
    if process.returncode:
        raise SystemExit(f"failed with status {process.returncode}; run the same again to go on")
    found = json.loads(last) | {"peaks": {what: peak / 1e9 for what, peak in peaks.items()}}
    done.write_text(json.dumps(found))
    return found


def show(found: dict[str, Any], mpx: float) -> None:
    """Print how long each step took, and how much memory."""
    for what, seconds in found["seconds"].items():
        peak = found["peaks"].get(what)
        memory = "" if peak is None else f"  peak {peak:5.2f} GB"
        print(f"  {what:<24}{seconds:9.1f} s {mpx / max(seconds, 1e-9):9.2f} Mpx/s{memory}")


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
    parser.add_argument("--folder", type=Path, help="keep the files here, to go on if it is stopped")
    arguments = parser.parse_args()
    peaks = {}
    for height in arguments.height or [arguments.size]:
        with tempfile.TemporaryDirectory() as temporary:
            peaks[height] = run(arguments, height, arguments.folder or Path(temporary))
    if len(peaks) > 1:
        print("peak memory by height, segmenting and measuring:")
        for height, (segmenting, measuring) in peaks.items():
            print(f"  {height:>8} rows  {segmenting:5.2f} GB  {measuring:5.2f} GB")


def run(arguments: argparse.Namespace, height: int, folder: Path) -> tuple[float, float]:
    """One micrograph; give the peaks of memory in GB."""
    folder.mkdir(parents=True, exist_ok=True)
    image = folder / f"{arguments.model}_{height}x{arguments.size}.tif"
    if not image.exists():
        write_scene(image, height, arguments.size, arguments.model)
    mpx = height * arguments.size / 1e6
    print(f"{image.name}: {mpx:.0f} Mpx, {image.stat().st_size / 1e9:.2f} GB")
    reading = watched(f"{image.stem}_read", folder, READ, image)
    show(reading, mpx)
    segmented = watched(f"{image.stem}_segment", folder, SEGMENT, image, folder, arguments.model)
    record = json.loads((folder / f"{image.stem}_record.json").read_text())
    files = sum((folder / f"{image.stem}_{what}.tif").stat().st_size for what in ("labels", "instances"))
    tiling = record["planes"][0]["tiling"]
    print(f"  {tiling['strategy']}, tiles of {tiling['tile']} px, {record['device']}, {record['precision']}")
    show(segmented, mpx)
    print(f"  {files / 1e6:.0f} MB of labels and objects")
    measured = watched(f"{image.stem}_measure", folder, MEASURE, image, folder)
    show(measured, mpx)
    print(f"  {measured['objects']} objects")
    assert measured["pixels"] == list(record["pixels"].values())
    assert measured["area"] <= sum(measured["pixels"][1:])
    every = segmented["seconds"] | measured["seconds"]
    slowest = max(every, key=lambda what: every[what])
    total = sum(every.values())
    peak = [max(found["peaks"].values()) for found in (segmented, measured)]
    print(f"  all           {total:8.1f} s {mpx / total:9.2f} Mpx/s, of which {slowest}: {every[slowest] / total:.0%}")
    print(f"  peak memory: segmenting {peak[0]:.2f} GB, measuring {peak[1]:.2f} GB")
    differ, of = compare_windows(image, folder, record, arguments.windows, arguments.side)
    print(f"  other class than in memory: {differ} of {of} px in {arguments.windows} windows")
    if arguments.whole:
        compare_whole(image, folder, record)
    return peak[0], peak[1]


def compare_whole(image: Path, folder: Path, record: dict[str, Any]) -> None:
    """Compare all pixels with those of the micrograph segmented in memory."""
    started = time.perf_counter()
    settings = SegmentSettings.model_validate(record["settings"])
    whole = segment(read(image, find_bar=False), settings, large_px=1 << 62)
    for what, expected in (("labels", whole.classes), ("instances", whole.instances)):
        found = np.asarray(read(folder / f"{image.stem}_{what}.tif", find_bar=False).pixels)
        print(f"  {what}: {np.count_nonzero(found != expected)} of {found.size} px differ from the whole in memory")
    print(f"  in memory     {time.perf_counter() - started:8.1f} s, {whole.instances.max()} objects")


if __name__ == "__main__":
    main()
