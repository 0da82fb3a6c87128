"""The other whole job: micrograph -> points, found or given -> promptable model -> objects, with a record of it all."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.assembly import Assembly
from napari_matseg.core.centres import detect_steps
from napari_matseg.core.everything import everything_steps
from napari_matseg.core.export import make_folder, write_csv, write_json, write_png
from napari_matseg.core.label_files import write_labels
from napari_matseg.core.object_table import object_table
from napari_matseg.core.overlay import overlay_rgb
from napari_matseg.core.point_files import PointTable, write_points
from napari_matseg.core.progress import Progress, of_planes
from napari_matseg.core.prompt import PromptSession
from napari_matseg.core.prompts import make_prompts
from napari_matseg.core.provenance import describe_image, describe_run
from napari_matseg.core.read import as_micrograph

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from napari_matseg.core.checkpoints import Model
    from napari_matseg.core.micrograph import Micrograph
    from napari_matseg.core.objects import ObjectMask
    from napari_matseg.core.prompts import Left, Prompt
    from napari_matseg.settings import CentreSettings, EverythingSettings

RESULT_ENDINGS = ("_labels.tif", "_objects.csv", "_overlay.png", "_record.json")


@dataclass(frozen=True)
class Objects:
    """What came out.

    Attributes
    ----------
    layers : tuple of array, shape (..., height, width), uint32
        Id of each pixel's object, 0 for none; one layer, or as many as are needed where overlapping objects are kept
        separate.
    table : list of dict
        One row for each object, by ascending label; see `core.object_table.object_table`.
    record : dict
        What was done to what, in plain JSON types.
    left : tuple of Left
        Points and boxes that could not be asked, with the reason.
    """

    layers: tuple[np.ndarray, ...]
    table: list[dict[str, object]]
    record: dict[str, Any]
    left: tuple[Left, ...] = ()

    @property
    def labels(self) -> np.ndarray:
        """The first layer, which is all of them unless overlapping objects are kept separate."""
        return self.layers[0]


def prompt_steps(
    image: str | Path | np.ndarray | Micrograph,
    prompts: Sequence[Prompt],
    session: PromptSession | None = None,
    *,
    left: Sequence[Left] = (),
) -> Generator[Progress, None, Objects]:
    """Segment the object of each prompt; closing the generator cancels.

    Parameters
    ----------
    image : path, array or Micrograph
        An array is (height, width), or (height, width, 3) for true colour; for stacks give a Micrograph.
    prompts : sequence of Prompt
        As `core.prompts.make_prompts` makes them.
    session : PromptSession, optional
        Whose model and settings are used; the shipped model with default settings if there is none.
    left : sequence of Left
        What `make_prompts` left out, for the record.

    Yields
    ------
    Progress

    Returns
    -------
    Objects
        Object i comes from prompt i.

    Raises
    ------
    MatsegError
        If image, prompts, model or settings cannot be used; the message says what to do.
    """
    session = session or PromptSession()
    planes = sorted({prompt.plane for prompt in prompts})

    def answer(plane: int) -> Generator[Progress, None, list[ObjectMask]]:
        return session.predict_steps([prompt for prompt in prompts if prompt.plane == plane])

    asked = {
        prompt.id: len(prompt.points_yx) + sum(x is not None for x in (prompt.box_yx, prompt.mask))
        for prompt in prompts
    }
    about = {"job": "prompt", "prompts": len(prompts), "left_out": [str(one) for one in left]}
    found = yield from _collect(as_micrograph(image), session, planes, answer, about, asked)
    return replace(found, left=tuple(left))


def find_steps(
    image: str | Path | np.ndarray | Micrograph,
    centres: CentreSettings,
    session: PromptSession | None = None,
    *,
    loaded: Model | None = None,
) -> Generator[Progress, None, Objects]:
    """Find the centres of the particles, then segment each; see `prompt_steps`."""
    micrograph = as_micrograph(image)
    table = yield from centre_steps(micrograph, centres, loaded=loaded)
    prompts, left = make_prompts(
        table.points_yx, planes=table.planes, shape_yx=micrograph.shape_yx, n_planes=micrograph.n_planes
    )
    found = yield from prompt_steps(micrograph, prompts, session, left=left)
    return replace(found, record=found.record | {"job": "find", "centres": centres.model_dump(mode="json")})


def everything_in_steps(
    image: str | Path | np.ndarray | Micrograph,
    settings: EverythingSettings,
    session: PromptSession | None = None,
) -> Generator[Progress, None, Objects]:
    """Segment everything, without points; see `prompt_steps`."""
    session = session or PromptSession()
    micrograph = as_micrograph(image)
    about = {"job": "everything", "everything": settings.model_dump(mode="json")}

    def answer(_plane: int) -> Generator[Progress, None, list[ObjectMask]]:
        objects, _ = yield from everything_steps(session, settings)
        return objects

    return (yield from _collect(micrograph, session, range(micrograph.n_planes), answer, about))


def centre_steps(
    image: str | Path | np.ndarray | Micrograph, settings: CentreSettings, *, loaded: Model | None = None
) -> Generator[Progress, None, PointTable]:
    """Find the centres of the particles on every plane.

    Returns
    -------
    PointTable
        With the plane of each point where there are several; point k (from 1) is object k.
    """
    micrograph = as_micrograph(image)
    points, planes = [np.zeros((0, 2))], [np.zeros(0, dtype=np.int64)]
    for plane in range(micrograph.n_planes):
        centres = yield from detect_steps(micrograph, settings, plane=plane, loaded=loaded)
        points.append(centres.points_yx)
        planes.append(np.full(len(centres), plane))
    stacked = micrograph.n_planes > 1
    points_yx = np.concatenate(points)
    return PointTable(points_yx, np.arange(1, len(points_yx) + 1), None, np.concatenate(planes) if stacked else None)


def save_objects(result: Objects, micrograph: Micrograph, folder: str | Path, stem: str) -> dict[str, Path]:
    """Write what came out; each file whole or not at all.

    Parameters
    ----------
    result : Objects
    micrograph : Micrograph
        Whose objects they are.
    folder : str or Path
        Made if it is missing.
    stem : str
        What the names of the files begin with.

    Returns
    -------
    dict
        Files by what they hold: `labels`, `objects`, `overlay` and `record`, and `labels 2` and so on for further
        layers.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    folder = Path(folder)
    make_folder(folder)
    files: dict[str, Path] = {}
    for number, layer in enumerate(result.layers, start=1):
        more = "" if number == 1 else f"_{number}"
        path = files["labels" + more.replace("_", " ")] = folder / f"{stem}_labels{more}.tif"
        write_labels(
            path,
            layer,
            pixel_size_nm=micrograph.pixel_size_nm,
            axes=micrograph.axes.removesuffix("S"),
            record=result.record,
        )
    files |= {
        what: folder / f"{stem}{ending}"
        for what, ending in zip(("objects", "overlay", "record"), RESULT_ENDINGS[1:], strict=True)
    }
    write_csv(files["objects"], result.table)
    first = result.labels.reshape(-1, *micrograph.shape_yx)[0]
    write_png(
        files["overlay"],
        overlay_rgb(
            micrograph.plane()[0],
            first,
            pixel_size_nm=micrograph.pixel_size_nm,
            data_bar=micrograph.data_bar,
        ),
    )
    write_json(files["record"], result.record | {"outputs": {what: str(path) for what, path in files.items()}})
    return files


def save_centres(table: PointTable, path: Path) -> None:
    """Write centres as CSV that `prompt --points` reads."""
    write_points(path, table)


def _collect(
    micrograph: Micrograph,
    session: PromptSession,
    planes: Sequence[int],
    answer: Callable[[int], Generator[Progress, None, list[ObjectMask]]],
    about: dict[str, Any],
    asked: dict[int, int] | None = None,
) -> Generator[Progress, None, Objects]:
    """Plane by plane: embed, ask, and put together."""
    started = time.perf_counter()
    layers: list[np.ndarray] = []
    table: list[dict[str, object]] = []
    taken = 0
    for number, plane in enumerate(planes):
        with closing(session.set_image_steps(micrograph, plane)) as opening:
            yield from of_planes(opening, number, len(planes))
        with closing(answer(plane)) as asking:
            objects = yield from of_planes(asking, number, len(planes))
        if asked is None:  # numbered plane by plane, but an id is one object's in the whole stack
            objects = [replace(one, id=one.id + taken, plane=plane) for one in objects]
            taken += len(objects)
        assembly = Assembly(micrograph.shape_yx, session.settings.overlaps)
        assembly.put_all(objects)
        painted = assembly.layers()
        while len(layers) < len(painted):
            layers.append(np.zeros((micrograph.n_planes, *micrograph.shape_yx), dtype=np.uint32))
        for layer, labels_yx in zip(layers, painted, strict=False):
            layer[plane] = labels_yx
        table += object_table(
            objects,
            painted,
            session.settings,
            pixel_size_nm=micrograph.pixel_size_nm,
            data_bar=micrograph.data_bar,
            n_prompts=asked,
        )
    if not layers:
        layers.append(np.zeros((micrograph.n_planes, *micrograph.shape_yx), dtype=np.uint32))
    shape = (*micrograph.shape_planes, *micrograph.shape_yx)
    record = {
        "format": 1,
        **about,
        "image": describe_image(micrograph),
        "model": session.describe_model(),
        "settings": session.settings.model_dump(mode="json"),
        "objects": len(table),
        "flagged": sum(bool(row["flagged"]) for row in table),
        "seconds": round(time.perf_counter() - started, 3),
        **describe_run(),
    }
    table.sort(key=lambda row: int(str(row["label"])))
    return Objects(tuple(layer.reshape(shape) for layer in layers), table, record)
