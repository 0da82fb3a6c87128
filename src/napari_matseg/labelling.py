"""Where to label next: in a micrograph, and in which one of a folder."""

from __future__ import annotations

import math
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from napari_matseg.core.checkpoints import load_model
from napari_matseg.core.devices import choose_device, choose_dtype
from napari_matseg.core.export import make_folder, write_csv, write_json, write_png
from napari_matseg.core.large.steps import default_work
from napari_matseg.core.large.workspace import claim
from napari_matseg.core.places import Place, find_places, most_uncertain
from napari_matseg.core.progress import Progress, finish, of_planes
from napari_matseg.core.provenance import describe_image, describe_model, describe_run
from napari_matseg.core.read import as_micrograph
from napari_matseg.core.uncertainty import unsure_steps
from napari_matseg.core.uncertainty_picture import uncertainty_rgb
from napari_matseg.core.write_probabilities import write_probabilities
from napari_matseg.errors import InputError, SettingsError
from napari_matseg.pipeline import change
from napari_matseg.settings import ClassSpec, UncertaintySettings

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from napari_matseg.core.checkpoints import Model
    from napari_matseg.core.micrograph import Micrograph

PLACE_COLUMNS = ("rank", "plane", "top", "left", "height", "width", "uncertainty")
IMAGE_COLUMNS = ("rank", "image", "uncertainty", "failed")


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Where models are unsure about a micrograph.

    Attributes
    ----------
    map : array, shape (..., height, width), float32
        With the planes of the micrograph: 0 where the answers are sure and the same, and in the data bar; 1 where all
        classes are as likely. Of a large micrograph it lies in a file, which is deleted with it.
    classes : array, shape (..., height, width), uint8
        The likeliest class by the mean over all answers.
    places : tuple of Place
        Where to label next, the most uncertain first.
    mean : float
        Mean of the map without the data bar, by which images are compared.
    record : dict
        What was done to what, in plain JSON types.
    keeper : object
        What has to live as long as the arrays do.
    """

    map: np.ndarray
    classes: np.ndarray
    places: tuple[Place, ...]
    mean: float
    record: dict[str, Any]
    keeper: object = None


def uncertainty(
    image: str | Path | np.ndarray | Micrograph,
    settings: UncertaintySettings | None = None,
    *,
    loaded: Sequence[Model] | None = None,
    work: Path | None = None,
    **changes: Any,
) -> Uncertainty:
    """Find out where a model is unsure about a micrograph, and where to label next.

    Parameters
    ----------
    image : path, array or Micrograph
        As for `segment`.
    settings : UncertaintySettings, optional
    loaded : sequence of Model, optional
        Models that are in memory already, instead of those that the settings name.
    work : Path, optional
        Folder in which a large micrograph's maps are kept. None: in the user's cache folder.
    **changes
        Fields of `SegmentSettings` that differ from `settings.segment`, such as ``model="superalloy"``.

    Returns
    -------
    Uncertainty

    Raises
    ------
    MatsegError
        If image, models or settings cannot be used; the message says what to do.
    """
    return finish(uncertainty_steps(image, settings, loaded=loaded, work=work, **changes))


def uncertainty_steps(
    image: str | Path | np.ndarray | Micrograph,
    settings: UncertaintySettings | None = None,
    *,
    loaded: Sequence[Model] | None = None,
    work: Path | None = None,
    **changes: Any,
) -> Generator[Progress, None, Uncertainty]:
    """Do as `uncertainty` does, as a generator: it yields `Progress` after each tile; closing it cancels."""
    started = time.perf_counter()
    settings = settings or UncertaintySettings()
    segment = change(settings.segment, changes)
    settings = settings.model_copy(update={"segment": segment})
    micrograph = as_micrograph(image)
    device = choose_device(segment.device)
    dtype = choose_dtype(segment.precision, device)
    yield Progress(0, 1, "loading the model")
    models = list(loaded or load_models(settings))
    _check(models)
    for model in models:
        model.network.to(device)
    rows = micrograph.content_rows if segment.exclude_data_bar else slice(0, micrograph.shape_yx[0])
    shape = (micrograph.n_planes, *micrograph.shape_yx)
    folder = keeper = None
    if math.prod(shape) >= segment.large_px:
        keeper = claim(work or default_work(), "uncertainty", uuid4().hex[:16])
        folder = keeper.folder
    maps, classes = _array(shape, np.float32, folder), _array(shape, np.uint8, folder)
    places: list[Place] = []
    total, answers = 0.0, 0
    for index in range(micrograph.n_planes):
        planes = [micrograph.view(index, model.card.architecture.in_channels, rows) for model in models]
        asked = unsure_steps(planes, micrograph.name, models, settings, device, dtype, folder)
        with closing(asked):
            found = yield from of_planes(asked, index, micrograph.n_planes)
        maps[index, rows], classes[index, rows] = found.map_yx, found.classes_yx
        total, answers = total + float(found.map_yx.sum(dtype=np.float64)), found.answers
        places += find_places(found.map_yx, settings.places, settings.place_px, top=rows.start, plane=index)
    chosen = tuple(most_uncertain(places, settings.places))
    mean = total / (micrograph.n_planes * (rows.stop - rows.start) * micrograph.shape_yx[1])
    record = {
        "format": 1,
        "job": "uncertainty",
        "image": describe_image(micrograph),
        "models": [describe_model(model) for model in models],
        "settings": settings.model_dump(mode="json"),
        "device": str(device),
        "precision": str(dtype).removeprefix("torch."),
        "answers": answers,
        "rows": [rows.start, rows.stop],
        "mean_uncertainty": mean,
        "places": [place.to_dict() for place in chosen],
        "seconds": round(time.perf_counter() - started, 3),
        **describe_run(),
    }
    whole = (*micrograph.shape_planes, *micrograph.shape_yx)
    return Uncertainty(maps.reshape(whole), classes.reshape(whole), chosen, mean, record, keeper)


def save_uncertainty(result: Uncertainty, micrograph: Micrograph, folder: str | Path, stem: str) -> dict[str, Path]:
    """Write what came out; each file whole or not at all.

    Parameters
    ----------
    result : Uncertainty
    micrograph : Micrograph
        What it is about.
    folder : str or Path
        Made if it is missing.
    stem : str
        What the names of the files begin with.

    Returns
    -------
    dict
        Files by what they hold: `map` (OME-TIFF), `picture` (PNG), `places` (CSV) and `record`.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    folder = Path(folder)
    make_folder(folder)
    files = {
        "map": folder / f"{stem}_uncertainty.tif",
        "picture": folder / f"{stem}_uncertainty.png",
        "places": folder / f"{stem}_label_next.csv",
        "record": folder / f"{stem}_uncertainty.json",
    }
    channel = [ClassSpec(name="uncertainty", colour=(255, 255, 255))]
    write_probabilities(files["map"], result.map[..., None, :, :], channel, micrograph.pixel_size_nm)
    first = result.places[0].plane if result.places else 0
    plane_yx = result.map.reshape(-1, *micrograph.shape_yx)[first]
    write_png(files["picture"], uncertainty_rgb(micrograph, plane_yx, result.places, first))
    rows = [{"rank": rank, **place.to_dict()} for rank, place in enumerate(result.places, 1)]
    write_csv(files["places"], rows, PLACE_COLUMNS)
    write_json(files["record"], result.record | {"outputs": {what: str(path) for what, path in files.items()}})
    return files


def label_next(
    images: Sequence[Path], settings: UncertaintySettings, out: Path, *, loaded: Sequence[Model] | None = None
) -> Generator[Progress, None, list[dict[str, Any]]]:
    """Put micrographs in the order in which it is worth labelling them, and write what is found out about each.

    Parameters
    ----------
    images : sequence of Path
    settings : UncertaintySettings
    out : Path
        Folder for the files of `save_uncertainty`, and for `label_next.csv`, the order.
    loaded : sequence of Model, optional
        As for `uncertainty`.

    Yields
    ------
    Progress
        Closing the generator cancels; what is written stays.

    Returns
    -------
    list of dict
        `rank`, `image`, `uncertainty` (its mean) and `failed`: the most uncertain first; those that failed last, with
        the reason.

    Raises
    ------
    SettingsError
        If two images have the same name, or the models do not belong together.
    ModelError, OutputError
        If there is no such model, or the folder cannot be written to.
    """
    stems = [image.stem for image in images]
    twice = next((stem for stem in stems if stems.count(stem) > 1), None)
    if twice is not None:
        raise SettingsError(f"{twice}: two images have this name; ask about them in turn, each into its own folder.")
    make_folder(out)
    models = list(loaded or load_models(settings))
    rows: list[dict[str, Any]] = []
    for number, image in enumerate(images):
        try:
            micrograph = as_micrograph(image)
            asked = uncertainty_steps(micrograph, settings, loaded=models, work=out)
            with closing(asked):
                result = yield from of_planes(asked, number, len(images), "image")
            save_uncertainty(result, micrograph, out, image.stem)
        except InputError as error:
            rows.append({"image": str(image), "uncertainty": None, "failed": str(error)})
        else:
            rows.append({"image": str(image), "uncertainty": result.mean, "failed": None})
    rows.sort(key=lambda row: -1 if row["uncertainty"] is None else row["uncertainty"], reverse=True)
    ranked = [{"rank": rank, **row} for rank, row in enumerate(rows, 1)]
    write_csv(out / "label_next.csv", ranked, IMAGE_COLUMNS)
    return ranked


def load_models(settings: UncertaintySettings) -> list[Model]:
    """Load the models that settings name.

    Raises
    ------
    ModelError, SettingsError
        If there is no such model or device, or they do not belong together.
    """
    device = str(choose_device(settings.segment.device))
    models = [load_model(model, device) for model in (settings.segment.model, *settings.others)]
    _check(models)
    return models


def _check(models: Sequence[Model]) -> None:
    """Hold models to the same classes."""
    first, *others = ([spec.name for spec in model.card.classes] for model in models)
    for model, names in zip(models[1:], others, strict=True):
        if names != first:
            raise SettingsError(
                f"{model.card.name} has classes {', '.join(names)}, and {models[0].card.name} {', '.join(first)}; "
                "ask models of the same classes."
            )


def _array(shape: tuple[int, ...], dtype: type, folder: Path | None) -> np.ndarray:
    """Zeros, in memory or in a file."""
    if folder is None:
        return np.zeros(shape, dtype)
    return np.memmap(folder / f"whole-{np.dtype(dtype).name}.raw", dtype, "w+", shape=shape)
