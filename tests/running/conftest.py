from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from napari_matseg.settings import ClassSpec
from napari_matseg.settings.recipe import Recipe

if TYPE_CHECKING:
    from napari_matseg.core.micrograph import Micrograph
    from napari_matseg.running.states import Outcome

ORANGE = (230, 159, 0)


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return Recipe.model_validate({"name": "test", "segment": {}, "outputs": {"tables": ["csv", "parquet"]}})


@pytest.fixture
def make_outcome(tmp_path: Path) -> Callable[..., Outcome]:
    """Make up what a run writes for a file: objects are squares, of the sides given, one list for each plane."""
    from napari_matseg.core.export import write_json
    from napari_matseg.measuring import measure, put_together, sizes_of
    from napari_matseg.running.index_page import write_thumbnail
    from napari_matseg.running.states import Outcome, Source
    from napari_matseg.running.tables import write_tables
    from napari_matseg.running.totals import describe_fields

    def make(
        name: str,
        *planes: Sequence[int],
        pixel_nm: float | None = 2.0,
        classes: Sequence[str] = ("matrix", "particle"),
        state: str = "done",
        kinds: Sequence[str] = ("csv", "parquet"),
    ) -> Outcome:
        specs = tuple(ClassSpec(name=one, colour=(0, 0, 0) if i == 0 else ORANGE) for i, one in enumerate(classes))
        size = None if pixel_nm is None else (pixel_nm, pixel_nm)
        measured = []
        for sides in planes or ([],):
            labels_yx = np.zeros((60, 80), np.uint8)
            for i, side in enumerate(sides):
                y, x = 20 * (i // 4) + 1, 20 * (i % 4) + 1
                labels_yx[y : y + side, x : x + side] = 1 + i % (len(classes) - 1) if classes else i + 1
            measured.append(measure(labels_yx, classes=specs, pixel_size_nm=size))
        found = put_together(measured)
        table = found.table.drop(columns="file")
        table["plane"] = np.repeat(np.arange(len(measured)), [len(one.table) for one in measured])
        stem = tmp_path / name
        stem.parent.mkdir(parents=True, exist_ok=True)

        def beside(ending: str) -> Path:
            return stem.with_name(stem.name + ending)

        written = write_tables(beside("_objects"), table, kinds)
        keys = {"csv": "objects", "parquet": "objects parquet"}
        files = {keys[kind]: path for kind, path in written.items()}
        files |= {"labels": beside("_labels.tif"), "overlay": beside("_overlay.png"), "record": beside("_record.json")}
        files["thumbnail"] = beside("_thumbnail.jpg")
        write_thumbnail(files["thumbnail"], np.zeros((60, 80, 3), np.uint8))
        for what in ("labels", "overlay"):
            files[what].touch()
        record = {
            "image": {
                "shape": [60, 80] if len(measured) == 1 else [len(measured), 60, 80],
                "axes": "YX" if len(measured) == 1 else "ZYX",
                "pixel_size_nm": size,
            },
            "model": {"name": "squares", "weights_sha256": "12ab", "classes": [spec.model_dump() for spec in specs]},
            "objects": sizes_of(found)["all"].summary() | {"n": len(table)},
            "fields": describe_fields(found),
            "versions": {"napari-matseg": "1.2"},
        }
        if classes:
            counts = np.sum([field.pixels for field in found.fields], axis=0)
            record["pixels"] = dict(zip(classes, counts.tolist(), strict=True))
            record["fractions"] = dict(zip(classes, (counts / counts.sum()).tolist(), strict=True))
        write_json(files["record"], record)
        return Outcome(
            Source(Path("/micrographs") / f"{name}.tif", name),
            state,  # type: ignore[arg-type]
            None,
            files,
            json.loads(files["record"].read_text()),
            1.5,
        )

    return make


@pytest.fixture
def failed() -> Outcome:
    from napari_matseg.running.states import Outcome, Source

    return Outcome(Source(Path("/micrographs/bad.tif"), "bad"), "failed", "/micrographs/bad.tif: is <empty>; copy it.")


@pytest.fixture
def tiny_recipe(tiny_file: Path) -> Recipe:
    """Recipe of a tiny model, which writes labels, objects and an overlay."""
    return Recipe.model_validate({"segment": {"model": str(tiny_file), "device": "cpu"}})


@pytest.fixture
def write_image(tmp_path: Path) -> Callable[..., Path]:
    """Write a micrograph of noise into the folder `in`; another seed gives another one."""
    folder = tmp_path / "in"
    folder.mkdir()

    def write(
        name: str, seed: int = 0, shape: tuple[int, ...] = (40, 48), dtype: str = "uint8", **more: object
    ) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape)
        tifffile.imwrite(path, values.astype(dtype), **{"photometric": "minisblack"} | more)  # type: ignore[arg-type]
        return path

    return write


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that a network was run on in this process, in order."""
    from napari_matseg.running import one_file, work

    ran: list[str] = []
    real = work.find_in_steps

    def counting(micrograph: Micrograph, path: Path, *arguments: object) -> object:
        ran.append(path.name)
        return real(micrograph, path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(one_file, "find_in_steps", counting)
    return ran
