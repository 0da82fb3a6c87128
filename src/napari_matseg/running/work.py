"""What a recipe makes of one micrograph: labels, cleaned, and what they measure; nothing is written here."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.channels import take_channel
from napari_matseg.core.clean import clean_classes, clean_objects
from napari_matseg.core.large.cleaning import clean_large_steps
from napari_matseg.core.point_files import read_points
from napari_matseg.core.progress import Progress
from napari_matseg.core.prompts import make_prompts
from napari_matseg.core.read import read
from napari_matseg.measuring import Measured, measure_steps
from napari_matseg.pipeline import segment_steps
from napari_matseg.prompting import everything_in_steps, find_steps, prompt_steps
from napari_matseg.running.bands import sharing
from napari_matseg.running.keys import points_beside
from napari_matseg.running.models import prompt_session, segmentation_model
from napari_matseg.settings import CleanSettings, SegmentSettings

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from pandas import DataFrame

    from napari_matseg.core.micrograph import Micrograph
    from napari_matseg.prompting import Objects
    from napari_matseg.settings import ClassSpec, PromptStep, ReadSettings, Recipe

ASKED = ("predicted_iou", "stability", "flagged", "reason", "prompts")
"""Columns that only prompted objects have."""


@dataclass(frozen=True, eq=False)
class Found:
    """Labels of one micrograph.

    Attributes
    ----------
    layers : tuple of array, shape (..., height, width)
        One of classes, uint8; or of objects, uint32, as many as overlapping ones need. Of a large micrograph they stay
        in files, and are read where they are sliced.
    specs : tuple of ClassSpec
        Name and colour of each class; empty where the labels are objects.
    rows : slice
        Rows that show the specimen.
    record : dict
        The pipeline's, in plain JSON types.
    instances : array, shape (..., height, width), uint32, or None
        Ids of the objects of classes.
    probabilities : array, shape (..., classes, height, width), float32, or None
    table : list of dict
        Of prompted objects: `label` and what `ASKED` names.
    """

    layers: tuple[Any, ...]
    specs: tuple[ClassSpec, ...]
    rows: slice
    record: dict[str, Any]
    instances: Any = None
    probabilities: np.ndarray | None = None
    table: tuple[dict[str, Any], ...] = ()


def read_input(path: Path, settings: ReadSettings) -> Micrograph:
    """Read a micrograph as a recipe says.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    micrograph = read(path)
    if settings.channel != "auto":
        micrograph = take_channel(micrograph, settings.channel)
    if micrograph.pixel_size_nm is None and settings.pixel_size_nm is not None:
        micrograph = replace(micrograph, pixel_size_nm=settings.pixel_size_nm)
    return micrograph


def find_in_steps(micrograph: Micrograph, path: Path, recipe: Recipe, work: Path) -> Generator[Progress, None, Found]:
    """Segment or prompt; closing the generator cancels.

    Parameters
    ----------
    micrograph : Micrograph
    path : Path
        Its file, beside which its points may be.
    recipe : Recipe
    work : Path
        Folder for what a large micrograph needs on the way.

    Raises
    ------
    MatsegError
        If micrograph, points or model cannot be used.
    """
    if recipe.prompt is not None:
        return (yield from _prompt(micrograph, path, recipe.prompt))
    settings = recipe.segment or SegmentSettings()
    wanted = settings.model_copy(update={"probabilities": recipe.outputs.probabilities})
    yield Progress(0, 1, "loading the model")
    loaded = segmentation_model(settings.model, settings.device)
    with closing(segment_steps(micrograph, wanted, loaded=loaded, **({"work": work} | sharing(path, recipe)))) as steps:
        result = yield from steps
    rows = slice(*result.record["segmented_rows"])
    return Found((result.classes,), result.specs, rows, result.record, result.instances, result.probabilities)


def clean_in_steps(found: Found, settings: CleanSettings, work: Path) -> Generator[Progress, None, Found]:
    """Mend what the recipe says, plane by plane; see `core.clean`. Labels in files stay in files.

    Parameters
    ----------
    found : Found
    settings : CleanSettings
    work : Path
        Folder for the cleaned labels of a large micrograph, which go with the result.

    Raises
    ------
    OutputError
        If the folder cannot be written to.
    """
    if settings == CleanSettings():
        return found
    if found.specs and not isinstance(found.layers[0], np.ndarray):
        with closing(clean_large_steps(found.layers[0], found.instances, settings, found.rows, work)) as steps:
            stored, ids = yield from steps
        return replace(found, layers=(stored,), instances=ids)
    if not found.specs:
        layers = tuple(np.array(layer) for layer in found.layers)
        for layer in layers:
            for plane_yx in layer.reshape(-1, *layer.shape[-2:]):
                plane_yx[:] = clean_objects(plane_yx, settings, found.rows)
        there = set(np.unique(np.concatenate([np.unique(layer) for layer in layers])).tolist())
        return replace(found, layers=layers, table=tuple(row for row in found.table if row["label"] in there))
    classes = np.array(found.layers[0])
    instances = None if found.instances is None else np.array(found.instances)
    shape = (-1, *classes.shape[-2:])
    for index, plane_yx in enumerate(classes.reshape(shape)):
        ids_yx = None if instances is None else instances.reshape(shape)[index]
        plane_yx[:], cleaned_yx = clean_classes(plane_yx, ids_yx, settings, found.rows)
        if ids_yx is not None:
            ids_yx[:] = cleaned_yx
    return replace(found, layers=(classes,), instances=instances)


def measure_in_steps(found: Found, micrograph: Micrograph, recipe: Recipe) -> Generator[Progress, None, Measured]:
    """Measure what was found; objects of several layers count as those of one field.

    Raises
    ------
    InputError
        If there is nothing to measure, as where the data bar covers all.
    """
    # Without its file, which would be read once more for its hash.
    seen = replace(micrograph, source=None)
    axes = micrograph.axes.removesuffix("S")
    measured: list[Measured] = []
    for layer in found.layers:
        drawn = replace(seen, pixels=layer, axes=axes, levels=())
        ids = None if found.instances is None else replace(drawn, pixels=found.instances)
        work = measure_steps(drawn, seen, recipe.measure, classes=found.specs, instances=ids)
        with closing(work):
            measured.append((yield from work))
    first, *others = measured
    if not others:
        return first
    planes = zip(*(one.fields for one in measured), strict=True)
    together = tuple(replace(of[0], table=_below([field.table for field in of])) for of in planes)
    return Measured(together, first.record)


def table_of(found: Found, measured: Measured) -> DataFrame:
    """Table of the objects: what was measured, and of prompted ones what was answered."""
    import pandas as pd

    table = _below([field.table for field in measured.fields])
    if not found.specs:
        asked = pd.DataFrame(found.table, columns=["label", *ASKED])
        table = table.merge(asked.dropna(axis="columns", how="all"), on="label", how="left")
    return table


def _below(tables: list[DataFrame]) -> DataFrame:
    import pandas as pd

    # An empty table has columns, but no types that should count.
    return pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)


def _prompt(micrograph: Micrograph, path: Path, step: PromptStep) -> Generator[Progress, None, Found]:
    yield Progress(0, 1, "loading the model")
    session = prompt_session(step.prompt)
    rows = micrograph.content_rows if step.prompt.exclude_data_bar else slice(0, micrograph.shape_yx[0])
    work: Generator[Progress, None, Objects]
    if step.find == "points":
        given = read_points(points_beside(path), micrograph.pixel_size_nm)
        prompts, left = make_prompts(
            given.points_yx,
            objects=given.objects,
            polarity=given.positive,
            planes=given.planes,
            shape_yx=micrograph.shape_yx,
            n_planes=micrograph.n_planes,
            rows=rows,
        )
        work = prompt_steps(micrograph, prompts, session, left=left)
    elif step.find == "everything":
        work = everything_in_steps(micrograph, step.everything, session)
    else:
        by_model = step.centres.method == "model"
        loaded = segmentation_model(step.centres.model, step.centres.device) if by_model else None
        work = find_steps(micrograph, step.centres, session, loaded=loaded)
    with closing(work):
        result = yield from work
    table = tuple({name: row[name] for name in ("label", *ASKED) if name in row} for row in result.table)
    return Found(result.layers, (), rows, result.record, table=table)
