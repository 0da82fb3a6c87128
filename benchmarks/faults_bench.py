"""Runs in processes of their own, for faults.py to disturb, and what is compared when they are complete."""

from __future__ import annotations

import csv
import ctypes
import json
import multiprocessing
import os
import shutil
import sys
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from PIL import Image

from napari_matseg.core.read import read
from napari_matseg.errors import MatsegError
from napari_matseg.running.commit import RECORD, WORK_FOLDER, committed
from napari_matseg.running.inputs import find_inputs
from napari_matseg.running.serial import run_steps
from napari_matseg.running.workers import Workers
from napari_matseg.settings import Recipe
from napari_matseg.settings.recipe_files import read_recipe

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

N, SIDE = 24, 96
CAPABILITIES_V3 = 0x20080522  # of Linux
TIMES = {"seconds", "created", "stat", "mtime_ns"}
"""Of a record; all else is the same in each run."""
TIME_COLUMNS = {"seconds", "state"}
STAYS = {"folder.id"}
"""What a folder of a run may hold beside results when it is complete."""
MOST_RESTARTS = 20
LONG = 600.0  # s that nothing here takes


@dataclass
class Row:
    """What one kind of fault did; a line of the report."""

    fault: str
    times: int = 0
    lost: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether the fault did no harm."""
        return self.times > 0 and not (self.lost or self.damaged or self.twice or self.left)


@dataclass(frozen=True)
class Ended:
    """What a run said at its end: how many it did and kept, and why others failed, or why it gave up."""

    done: int
    kept: int
    failed: dict[str, str]
    error: str | None = None


def work(recipe: Path, inputs: Path, out: Path, pipe: Connection, options: dict[str, Any]) -> None:
    """Run a recipe, in a process of its own; says when it begins with a micrograph, and what came of it all."""
    if sys.platform == "linux":
        heed_rights()
    if "most_bytes" in options:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (options["most_bytes"], options["most_bytes"]))
    counts, failed, said = Counter[str](), dict[str, str](), None
    try:
        pipe.send("up")
        sources, _ = find_inputs([inputs], out)
        with Workers(options["workers"]) if "workers" in options else nullcontext() as executor:
            for step in run_steps(read_recipe(recipe), sources, out, executor):
                if step.state == "working" and step.share == 0:
                    pipe.send("working")
                if step.outcome is not None:
                    counts[step.outcome.state] += 1
                    if step.outcome.reason is not None:
                        failed[step.outcome.source.name] = step.outcome.reason
    except MatsegError as error:
        said = str(error)
    pipe.send(Ended(counts["done"], counts["kept"], failed, said))


def heed_rights() -> None:
    """Give up what lets root write anywhere."""
    header, none = (ctypes.c_uint32 * 2)(CAPABILITIES_V3, 0), (ctypes.c_uint32 * 6)()
    ctypes.CDLL(None).capset(header, none)


class Run:
    """A run in another process."""

    def __init__(self, bench: Bench, recipe: str, inputs: Path, out: Path, **options: Any) -> None:
        self._pipe, theirs = bench.context.Pipe()
        self._ended: Ended | None = None
        args = (bench.recipes[recipe], inputs, out, theirs, options)
        self.process: BaseProcess = bench.context.Process(target=work, args=args)
        self.process.start()
        theirs.close()

    def wait_for(self, what: str) -> bool:
        """Wait until the run says something; False if it has ended before."""
        while self._ended is None and self._pipe.poll(LONG):
            try:
                said = self._pipe.recv()
            except EOFError:
                return False
            if said == what:
                return True
            if isinstance(said, Ended):
                self._ended = said
        return False

    def wait(self) -> Ended:
        """Wait for the end."""
        self.wait_for("the end")
        self.process.join()
        if self._ended is None:
            raise RuntimeError(f"ended with status {self.process.exitcode} and said nothing")
        return self._ended

    def kill(self) -> bool:
        """Kill -9; False if it had ended before."""
        self.process.kill()
        self.process.join()
        return self.process.exitcode != 0


class Bench:
    """Micrographs, recipes, and what comes of them when nothing disturbs."""

    def __init__(self, folder: Path, seed: int, *, distributed: bool = False) -> None:
        self.folder, self.rng = folder, np.random.default_rng(seed)
        methods = multiprocessing.get_all_start_methods()
        self.context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        if "forkserver" in methods:  # so that a restart takes no seconds of importing
            preload = ["napari_matseg.running.serial", "napari_matseg.running.summary", "timm"]
            if distributed:
                preload += ["distributed", "napari_matseg.running.cluster", "napari_matseg.core.large.segmenting"]
            self.context.set_forkserver_preload(preload)
        self.inputs = folder / "micrographs"
        write_micrographs(self.inputs, np.random.default_rng(seed))
        self.recipes = write_recipes(folder)
        self.wanted: dict[str, Path] = {}
        self._count = 0
        for recipe in self.recipes:
            self.wanted[recipe] = self.new_folder()
            ended = Run(self, recipe, self.inputs, self.wanted[recipe]).wait()
            assert set(ended.failed) == {"broken"}, ended
        done = [json.loads(path.read_text()) for path in self.wanted["tiff"].rglob(f"*{RECORD}")]
        self.seconds = float(np.median([record["seconds"]["all"] for record in done]))

    def new_folder(self, inside: Path | None = None) -> Path:
        """Make a folder for a run."""
        self._count += 1
        path = (inside or self.folder) / f"results {self._count}"
        path.mkdir()
        return path

    def finish(self, row: Row, recipe: str, out: Path) -> None:
        """Start a run again until it is complete, and compare."""
        for _ in range(MOST_RESTARTS):
            ended = Run(self, recipe, self.inputs, out).wait()
            if ended.error is None and set(ended.failed) == {"broken"}:
                break
        else:
            row.notes.append(f"not complete after {MOST_RESTARTS} restarts: {ended}")
        compare(row, out, self.wanted[recipe])


def write_micrographs(folder: Path, rng: np.random.Generator) -> None:
    """Write discs on noise, in files of several kinds and names; one is cut off."""
    (folder / "s 1").mkdir(parents=True)
    for i in range(N):
        path = folder / ("s 1" if i % 4 == 0 else "") / f"i{i:02}.{'png' if i % 3 == 1 else 'tif'}"
        write_micrograph(path, rng)
    for name in ("twin.tif", "twin.png", "µ-ä é.tif", "x" * 240 + ".tif", "con.tif"):
        write_micrograph(folder / name, rng)
    shutil.copy(folder / "twin.tif", folder / "broken.tif")
    os.truncate(folder / "broken.tif", (folder / "broken.tif").stat().st_size // 2)


def write_micrograph(path: Path, rng: np.random.Generator) -> None:
    """Write one."""
    y, x = np.mgrid[:SIDE, :SIDE]
    image = rng.normal(80, 10, (SIDE, SIDE))
    for _ in range(5):
        centre = rng.uniform(8, SIDE - 8, 2)
        image += 80 * (np.hypot(y - centre[0], x - centre[1]) < rng.uniform(4, 14))
    pixels = image.clip(0, 255).astype(np.uint8)
    if path.suffix == ".png":
        Image.fromarray(pixels).save(path)
    else:
        tifffile.imwrite(path, pixels, resolution=(1e7, 1e7), resolutionunit="CENTIMETER")


def write_recipes(folder: Path) -> dict[str, Path]:
    """Write two recipes with a small model, which between them write all kinds of outputs."""
    import torch

    from napari_matseg.core.architectures import build_network, measure_reach
    from napari_matseg.core.checkpoints import ModelCard, save_model
    from napari_matseg.core.recipes import write_recipe
    from napari_matseg.settings import ArchitectureSettings, ClassSpec

    options = {"decoder_channels": [16, 8, 8]}
    architecture = ArchitectureSettings(encoder="tu-resnet10t", in_channels=1, encoder_depth=3, options=options)
    classes = tuple(ClassSpec(name=name, colour=(0, 90 * i, 0)) for i, name in enumerate(("matrix", "particle")))
    torch.manual_seed(0)
    network = build_network(architecture, 2).eval()
    with torch.no_grad():  # so that both classes come up
        scores = network(torch.randn(1, 1, 64, 64))
        network.segmentation_head[0].bias -= scores.mean(dim=(0, 2, 3))
    card = ModelCard(name="small", classes=classes, architecture=architecture, reach=measure_reach(network, 1))
    save_model(folder / "small.safetensors", network, card)
    segment = {"model": str(folder / "small.safetensors"), "device": "cpu"}
    recipes = {
        "tiff": {"segment": segment},
        "zarr": {
            "segment": segment | {"instances": True},
            "clean": {"min_area_px": 4},
            "outputs": {"labels": "zarr", "probabilities": True, "tables": ["csv", "parquet"]},
        },
    }
    for name, settings in recipes.items():
        write_recipe(Recipe.model_validate({"name": name} | settings), folder / f"{name}.yaml")
    return {name: folder / f"{name}.yaml" for name in recipes}


def look(row: Row, out: Path) -> None:
    """Hold each record to its files."""
    for path in out.rglob(f"*{RECORD}"):
        if WORK_FOLDER in path.parts:
            continue
        name = path.relative_to(out).as_posix().removesuffix(RECORD)
        if committed(out, name, thoroughly=True) is None:
            row.damaged.append(f"{out.name}/{name}: a record that is not true")


def compare(row: Row, out: Path, wanted: Path) -> None:
    """Hold what is there to what there should be."""
    look(row, out)
    for path in sorted(wanted.rglob(f"*{RECORD}")):
        name = path.relative_to(wanted).as_posix().removesuffix(RECORD)
        record, other = committed(out, name), committed(wanted, name)
        assert other is not None
        if record is None:
            row.lost.append(f"{out.name}/{name}")
        elif plain(record) != plain(other):
            row.damaged.append(f"{out.name}/{name}: another record")
        else:
            for about in other["outputs"].values():
                one, two = (folder / Path(name).parent / about["file"] for folder in (out, wanted))
                if content(one) != content(two):
                    row.damaged.append(f"{out.name}/{name}: another {about['file']}")
    there, should = names_in(out), names_in(wanted)
    row.twice += [f"{out.name}/{name}" for name in sorted(there - should)]
    row.lost += [f"{out.name}/{name}" for name in sorted(should - there)]
    row.left += [f"{out.name}/{path.name}" for path in (out / WORK_FOLDER).iterdir() if path.name not in STAYS]
    for table in ("images.csv", "objects.csv"):
        if (wanted / table).exists() and rows(out / table) != rows(wanted / table):
            row.damaged.append(f"{out.name}/{table}")


def names_in(out: Path) -> set[str]:
    """Give the names of all files and folders of a run."""
    paths = (path.relative_to(out) for path in out.rglob("*"))
    return {path.as_posix() for path in paths if path.parts[0] != WORK_FOLDER}


def plain(record: object) -> object:
    """Record without times; of outputs only which there are, since labels hold an id of their own."""
    if isinstance(record, dict):
        return {
            key: sorted(value) if key == "outputs" and "labels" in value else plain(value)
            for key, value in record.items()
            if key not in TIMES
        }
    return [plain(one) for one in record] if isinstance(record, list) else record


def content(path: Path) -> object:
    """Pixels of labels, bytes of other files."""
    if path.suffix in (".tif", ".zarr"):
        pixels = np.asarray(read(path, find_bar=False).pixels)
        return pixels.dtype, pixels.shape, pixels.tobytes()
    return path.read_bytes()


def rows(table: Path) -> list[dict[str, str]]:
    """Rows of a table, without times."""
    with table.open(encoding="utf-8-sig", newline="") as file:
        return [{key: text for key, text in row.items() if key not in TIME_COLUMNS} for row in csv.DictReader(file)]
