"""The whole job: micrograph -> one scale of grey -> tiles -> network -> classes, with a record of it all.

The file to read first.
"""

from __future__ import annotations

import math
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from pydantic import ValidationError

from napari_matseg.core.checkpoints import Model, load_model
from napari_matseg.core.devices import choose_device, choose_dtype
from napari_matseg.core.export import make_folder, write_json, write_png
from napari_matseg.core.label_files import write_labels
from napari_matseg.core.labels import label_objects
from napari_matseg.core.large.steps import default_work, large_steps
from napari_matseg.core.large.stores import write_labels_zarr
from napari_matseg.core.likeness import warn_of
from napari_matseg.core.maps import make_maps
from napari_matseg.core.overlay import overlay_rgb
from napari_matseg.core.pixels import LazyPixels
from napari_matseg.core.progress import Arrived, Progress, finish, of_planes
from napari_matseg.core.provenance import describe_image, describe_model, describe_run
from napari_matseg.core.read import as_micrograph
from napari_matseg.errors import SettingsError
from napari_matseg.settings import (
    ClassSpec,
    RefineTrainSettings,
    SegmentSettings,
    Training,
    TrainSettings,
    explain,
    load_recipe,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import torch

    from napari_matseg.core.folds import CrossValidation
    from napari_matseg.core.large.steps import Large, RunBands
    from napari_matseg.core.maps import Maps
    from napari_matseg.core.micrograph import Micrograph
    from napari_matseg.core.pixels import Box
    from napari_matseg.core.train import TrainProgress


@dataclass(frozen=True)
class Segmentation:
    """What came out.

    Attributes
    ----------
    classes : array, shape (..., height, width), uint8
        Class of each pixel, with the planes of the micrograph; 0 is background or matrix, and the data bar. Of a large
        micrograph this and the other arrays stay in files, which are deleted with it, and are read where they are
        sliced; `numpy.asarray` reads all.
    specs : tuple of ClassSpec
        Name and colour of each class.
    record : dict
        What was done to what, in plain JSON types.
    instances : array, shape (..., height, width), uint32, or None
        Id of each object from 1, counted per plane.
    probabilities : array, shape (..., classes, height, width), float32, or None
    """

    classes: Any
    specs: tuple[ClassSpec, ...]
    record: dict[str, Any]
    instances: Any = None
    probabilities: Any = None


def segment(
    image: str | Path | np.ndarray | Micrograph,
    settings: SegmentSettings | None = None,
    *,
    loaded: Model | None = None,
    work: Path | None = None,
    **changes: Any,
) -> Segmentation:
    """Segment a micrograph.

    Parameters
    ----------
    image : path, array or Micrograph
        An array is (height, width), or (height, width, 3) for true colour; for stacks give a Micrograph.
    settings : SegmentSettings, optional
    loaded : Model, optional
        A model that is in memory already, instead of the one that the settings name.
    work : Path, optional
        Folder for what a large micrograph needs on the way; a run that was killed goes on with what it left there.
        None: in the user's cache folder.
    **changes
        Fields of `SegmentSettings` that differ from `settings`, such as ``model="superalloy"``.

    Returns
    -------
    Segmentation

    Raises
    ------
    MatsegError
        If image, model or settings cannot be used; the message says what to do.

    Examples
    --------
    >>> from napari_matseg import segment
    >>> result = segment(np.zeros((64, 64), np.uint8), model="particles")
    >>> result.classes.shape
    (64, 64)
    """
    return finish(segment_steps(image, settings, loaded=loaded, work=work, **changes))


def segment_steps(
    image: str | Path | np.ndarray | Micrograph,
    settings: SegmentSettings | None = None,
    *,
    loaded: Model | None = None,
    work: Path | None = None,
    run_bands: RunBands | None = None,
    **changes: Any,
) -> Generator[Progress, None, Segmentation]:
    """Segment as `segment` does, as a generator: it yields `Progress` after each tile; closing it cancels.

    What is final of the classes comes as `Arrived`, and can be shown while the rest is computed.

    With `run_bands`, the bands of a large micrograph get done as that says; see `core.large.steps.large_steps`.
    """
    started = time.perf_counter()
    settings = change(settings or SegmentSettings(), changes)
    micrograph = as_micrograph(image)
    device = choose_device(settings.device)
    # Half precision rounds by more than "exact" promises.
    exactly = settings.tiling == "exact" and settings.precision == "auto"
    dtype = choose_dtype("float32" if exactly else settings.precision, device)
    yield Progress(0, 1, "loading the model")
    model = loaded or load_model(settings.model, str(device))
    model.network.to(device)
    if settings.model not in (model.card.name, str(model.path)):  # the record names what was used
        settings = settings.model_copy(update={"model": str(model.path or model.card.name)})

    rows = micrograph.content_rows if settings.exclude_data_bar else slice(0, micrograph.shape_yx[0])
    about = describe_image(micrograph)
    precision = str(dtype).removeprefix("torch.")
    found: _Whole | Large
    if micrograph.n_planes * math.prod(micrograph.shape_yx) < settings.large_px:
        found = yield from _in_memory(micrograph, model, settings, device, dtype, rows)
    else:
        found = yield from large_steps(
            micrograph, about["sha256"], model, settings, device, precision, rows, work or default_work(), run_bands
        )
    record = {
        "format": 1,
        "job": "segment",
        "image": about,
        "model": describe_model(model),
        "settings": settings.model_dump(mode="json"),
        "device": str(device),
        "precision": precision,
        "segmented_rows": [rows.start, rows.stop],
        "planes": found.planes,
        "pixels": {spec.name: n for spec, n in zip(model.card.classes, found.pixels, strict=True)},
        "fractions": {
            spec.name: n / sum(found.pixels) for spec, n in zip(model.card.classes, found.pixels, strict=True)
        },
        "warnings": warn_of(model.card, micrograph, rows, found.planes[0]),
        "seconds": round(time.perf_counter() - started, 3),
        **describe_run(),
    }
    return Segmentation(found.classes, model.card.classes, record, found.instances, found.probabilities)


class _Whole(NamedTuple):
    """What comes out in memory; see `core.large.steps.Large`."""

    classes: np.ndarray
    instances: np.ndarray | None
    probabilities: np.ndarray | None
    planes: list[dict[str, Any]]
    pixels: list[int]


def _in_memory(
    micrograph: Micrograph,
    model: Model,
    settings: SegmentSettings,
    device: torch.device,
    dtype: torch.dtype,
    rows: slice,
) -> Generator[Progress, None, _Whole]:
    """Segment plane by plane."""
    shape = (*micrograph.shape_planes, *micrograph.shape_yx)
    n_classes = len(model.card.classes)
    whole = np.zeros(shape, dtype=np.uint8)
    classes = whole.reshape(micrograph.n_planes, *micrograph.shape_yx)
    instances = np.zeros(classes.shape, dtype=np.uint32) if settings.instances else None
    probabilities = None
    if settings.probabilities:
        probabilities = np.zeros((micrograph.n_planes, n_classes, *micrograph.shape_yx), dtype=np.float32)
        probabilities[:, 0] = 1  # what is left out is background
    planes: list[dict[str, Any]] = []
    pixels = [0] * n_classes
    for index in range(micrograph.n_planes):
        image_cyx = micrograph.plane(index, model.card.architecture.in_channels)[:, rows]
        done = make_maps(image_cyx, micrograph.name, model, settings, device, dtype)
        with closing(done):
            found = yield from _arriving(of_planes(done, index, micrograph.n_planes), index, rows, classes, whole)
        classes[index, rows] = found.classes_yx
        if probabilities is not None:
            probabilities[index, :, rows] = found.probabilities_cyx
        if instances is not None:
            instances[index, rows] = label_objects(found.classes_yx, found.depth_yx)
        planes.append(found.record)
        pixels = [n + int(np.count_nonzero(found.classes_yx == i)) for i, n in enumerate(pixels)]
    return _Whole(
        whole,
        None if instances is None else instances.reshape(shape),
        None if probabilities is None else probabilities.reshape(*micrograph.shape_planes, *probabilities.shape[1:]),
        planes,
        pixels,
    )


def _arriving(
    work: Generator[Progress, None, Maps], plane: int, rows: slice, classes: np.ndarray, whole: np.ndarray
) -> Generator[Progress, None, Maps]:
    """Put what arrives of a plane into the result at once."""
    while True:
        try:
            step = next(work)
        except StopIteration as stop:
            found: Maps = stop.value
            return found
        if isinstance(step, Arrived):
            classes[plane, rows][step.rows, step.columns] = step.classes[step.rows, step.columns]
            there = slice(rows.start + step.rows.start, rows.start + step.rows.stop)
            step = replace(step, plane=plane, rows=there, classes=whole)
        yield step


def train(recipe: Training | str | Path, data: str | Path, out: str | Path) -> Path:
    """Train a model; see `train_steps`, of which this is the quiet form.

    Parameters
    ----------
    recipe : TrainSettings, PromptTrainSettings, RefineTrainSettings, or path of a YAML file with their fields
    data : path
        Folder that the recipe's paths are relative to.
    out : path
        Folder for the model file.

    Returns
    -------
    Path
        The model file.

    Raises
    ------
    MatsegError
        If recipe, data or folder cannot be used.
    """
    settings = load_recipe(Path(recipe)) if isinstance(recipe, str | Path) else recipe
    return finish(train_steps(settings, Path(data), Path(out)))


def cross_validate(
    recipe: TrainSettings | str | Path, data: str | Path, out: str | Path, folds: int, *, final: bool = False
) -> CrossValidation:
    """Train a model for each fold of the images, and try it on that; see `core.folds.fold_steps`.

    Parameters
    ----------
    recipe : TrainSettings, or path of a YAML file with their fields
    data : path
        Folder that the recipe's paths are relative to.
    out : path
        Folder for the models and the report.
    folds : int
        At least 2.
    final : bool
        Also train a model on all images.

    Returns
    -------
    CrossValidation

    Raises
    ------
    MatsegError
        If recipe, data or folder cannot be used.
    """
    from napari_matseg.core.folds import fold_steps

    settings = load_recipe(Path(recipe)) if isinstance(recipe, str | Path) else recipe
    if not isinstance(settings, TrainSettings):
        raise SettingsError(f"{recipe}: folds are for models that know classes; train it without.")
    return finish(fold_steps(settings, Path(data), Path(out), folds, final=final))


def train_steps(
    settings: Training, data: Path, out: Path, *, resume: bool = True, workers: int = 0
) -> Generator[TrainProgress, None, Path]:
    """Train what the settings are for: a model that knows classes, one that takes prompts, or a refiner."""
    if isinstance(settings, TrainSettings):
        from napari_matseg.core import train

        return train.train_steps(settings, data, out, resume=resume, workers=workers)
    if isinstance(settings, RefineTrainSettings):
        from napari_matseg.core.refine.train import refine_train_steps

        return refine_train_steps(settings, data, out, resume=resume)
    from napari_matseg.core.prompt_train import prompt_train_steps

    return prompt_train_steps(settings, data, out, resume=resume)


def save(
    result: Segmentation,
    micrograph: Micrograph,
    folder: str | Path,
    stem: str,
    labels: Literal["tiff", "zarr"] = "tiff",
) -> dict[str, Path]:
    """Write what came out; each file whole or not at all.

    Parameters
    ----------
    result : Segmentation
    micrograph : Micrograph
        What it is a segmentation of.
    folder : str or Path
        Made if it is missing.
    stem : str
        What the names of the files begin with.
    labels : {"tiff", "zarr"}
        Whether labels are written as OME-TIFF or as OME-Zarr. Of a large micrograph both have smaller copies for
        viewing.

    Returns
    -------
    dict
        Files by what they hold: `labels`, `overlay` and `record`, and `instances` if there are any.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    folder = Path(folder)
    make_folder(folder)
    write, ending = (write_labels_zarr, ".ome.zarr") if labels == "zarr" else (write_labels, ".tif")
    files = {
        "labels": folder / f"{stem}_labels{ending}",
        "overlay": folder / f"{stem}_overlay.png",
        "record": folder / f"{stem}_record.json",
    }
    common: dict[str, Any] = {
        "pixel_size_nm": micrograph.pixel_size_nm,
        "axes": micrograph.axes.removesuffix("S"),
        "record": result.record,
    }
    write(files["labels"], result.classes, classes=result.specs, **common)
    if result.instances is not None:
        files["instances"] = folder / f"{stem}_instances{ending}"
        write(files["instances"], result.instances, **common)
    first, seen = (0,) * len(micrograph.shape_planes), micrograph.view()
    write_png(
        files["overlay"],
        overlay_rgb(
            _lazy(micrograph, lambda rows, columns: seen[:, rows, columns][0]),
            _lazy(micrograph, lambda rows, columns: result.classes[(*first, rows, columns)]),
            result.specs,
            pixel_size_nm=micrograph.pixel_size_nm,
            data_bar=micrograph.data_bar,
        ),
    )
    write_json(files["record"], result.record | {"outputs": {what: str(path) for what, path in files.items()}})
    return files


def _lazy(micrograph: Micrograph, read: Callable[[slice, slice], np.ndarray]) -> LazyPixels:
    """Plane that is read where it is sliced."""

    def box(_plane: int, where: Box) -> np.ndarray:
        return read(*(slice(span.start, span.stop) for span in where))

    return LazyPixels(micrograph.shape_yx, read(slice(1), slice(1)).dtype, 0, box)


def change(settings: SegmentSettings, changes: dict[str, Any]) -> SegmentSettings:
    """Change some fields of settings.

    Raises
    ------
    SettingsError
        If a field is unknown or a value impossible.
    """
    if not changes:
        return settings
    try:
        plain = {key: str(value) if isinstance(value, Path) else value for key, value in changes.items()}
        return SegmentSettings.model_validate(settings.model_dump() | plain)
    except ValidationError as error:
        raise SettingsError(explain(error)) from error
