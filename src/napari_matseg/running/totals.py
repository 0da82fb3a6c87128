"""What the micrographs of a run come to together: phase fractions, and size distributions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.measure.field import Field
from napari_matseg.core.measure.sizes import pool
from napari_matseg.errors import MatsegError
from napari_matseg.measuring import Measured, sizes_of
from napari_matseg.running.tables import left_out, printable, read_table
from napari_matseg.settings import ClassSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pandas import DataFrame

    from napari_matseg.core.measure.sizes import Sizes
    from napari_matseg.running.states import Outcome
    from napari_matseg.settings import MeasureSettings

ALL = "all objects"
GREY = (150, 150, 150)
"""Colour of a class whose own is not known."""


@dataclass(frozen=True, eq=False)
class Fractions:
    """Phase fractions of all fields that have the same classes.

    Attributes
    ----------
    table : DataFrame
        As `core.measure.fractions.phase_fractions` gives it.
    classes : tuple of ClassSpec
    pixels : int64 array, shape (classes,)
        Of all fields together.
    """

    table: DataFrame
    classes: tuple[ClassSpec, ...]
    pixels: np.ndarray


@dataclass(frozen=True, eq=False)
class PooledSizes:
    """Sizes of all objects, each field with its own correction for the edge.

    Attributes
    ----------
    groups : dict of str to dict of str to Sizes
        By unit, and in it by class, `ALL` first; sizes in nm and in px do not come together.
    of_field : dict of (str, int) to dict
        Row of each field, by the name of its file and its plane, as `Sizes.summary` gives it.
    notes : tuple of str
        What was left out and why.
    """

    groups: dict[str, dict[str, Sizes]]
    of_field: dict[tuple[str, int], dict[str, Any]]
    notes: tuple[str, ...] = ()


def describe_fields(measured: Measured) -> list[dict[str, Any]]:
    """Say what each field came to, in plain JSON types; with the table of the objects, that is all that pooling needs.

    Returns
    -------
    list of dict
        plane : int
        shape_yx : [int, int]
            Of what was measured.
        first_row : int
            Of the plane, at which that begins.
        pixel_size_nm : [float, float] or None
        objects : int
        pixels, std : dict of str to number
            Of each class, and the standard error of its fraction; only where there are classes.
    """
    fields = []
    for plane, field in enumerate(measured.fields):
        about: dict[str, Any] = {
            "plane": plane,
            "shape_yx": list(field.shape_yx),
            "first_row": field.first_row,
            "pixel_size_nm": None if field.pixel_size_nm is None else list(field.pixel_size_nm),
            "objects": len(field.table),
        }
        if field.pixels is not None:
            about["pixels"] = dict(zip(field.class_names, field.pixels.tolist(), strict=True))
        if field.std is not None:
            known = [None if value != value else value for value in field.std.tolist()]
            about["std"] = dict(zip(field.class_names, known, strict=True))
        fields.append(about)
    return fields


def fields_of(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Fields that a record tells of; of what was not measured, all planes as one, where there are classes."""
    fields: list[dict[str, Any]] | None = record.get("fields")
    if fields is None:
        fields = [{"plane": 0, "pixels": record["pixels"]}] if record.get("pixels") else []
    return fields


def pool_fractions(outcomes: Sequence[Outcome]) -> list[Fractions]:
    """Put the phase fractions of all fields together, those with the same classes; most fields first."""
    groups: dict[tuple[str, ...], list[Field]] = {}
    for outcome in outcomes:
        for about in fields_of(outcome.record):
            if about.get("pixels"):
                field = _field(outcome, about, None)
                groups.setdefault(field.class_names, []).append(field)
    found = []
    for fields in sorted(groups.values(), key=len, reverse=True):
        table = Measured(tuple(fields), {}).fractions()
        if table is not None:
            pixels = np.sum([field.pixels for field in fields if field.pixels is not None], axis=0)
            found.append(Fractions(table, fields[0].classes, pixels))
    return found


def pool_sizes(outcomes: Sequence[Outcome], tables: Mapping[str, Path], settings: MeasureSettings) -> PooledSizes:
    """Put the sizes of all objects together; one file's objects at a time are read.

    Parameters
    ----------
    outcomes : sequence of Outcome
    tables : mapping of str to Path
        Tables of objects, by the names of their sources.
    settings : MeasureSettings
    """
    groups: dict[str, dict[str, list[Sizes]]] = {}
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    notes: list[str] = []
    without: set[str] = set()
    for outcome in outcomes:
        name = outcome.source.name
        if name not in tables or not outcome.record.get("fields"):
            continue
        try:
            found, own = _sizes_of_file(outcome, read_table(tables[name]), settings)
        except MatsegError as error:
            notes.append(left_out(name, error))
            continue
        rows |= own
        if any(unit == "px" for unit, _, _ in found):
            without.add(name)
        for unit, group, sizes in found:
            groups.setdefault(unit, {}).setdefault(group, []).append(sizes)
    together = {unit: {group: pool(sizes) for group, sizes in of.items()} for unit, of in sorted(groups.items())}
    if "px" in together:
        n = len(without)
        notes.append(
            f"{n} image{' has' if n == 1 else 's have'} no pixel size: sizes in pixels are comparable only where "
            "the magnification is the same."
        )
    return PooledSizes(together, rows, tuple(notes))


def _sizes_of_file(
    outcome: Outcome, table: DataFrame, settings: MeasureSettings
) -> tuple[list[tuple[str, str, Sizes]], dict[tuple[str, int], dict[str, Any]]]:
    """Sizes of each field with their unit and group, and the row of each field."""
    found: list[tuple[str, str, Sizes]] = []
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for about in outcome.record["fields"]:
        plane = int(about["plane"])
        field = _field(outcome, about, table[table["plane"] == plane] if "plane" in table.columns else table)
        one = Measured((field,), {})
        sizes = sizes_of(one, settings)["all"]
        unit = "px" if field.pixel_size_nm is None else "nm"
        rows[outcome.source.name, plane] = sizes.summary(settings.weighting)
        found.append((unit, ALL, sizes))
        if len(field.classes) > 2 and "class" in table.columns:
            found += [(unit, name, of_class) for name, of_class in sizes_of(one, settings, "class").items()]
    return found, rows


def _field(outcome: Outcome, about: Mapping[str, Any], table: DataFrame | None) -> Field:
    """Make a field of what a record says of it; without the table it is good for fractions alone."""
    import pandas as pd

    pixels: Mapping[str, int] = about.get("pixels") or {}
    std: Mapping[str, float | None] = about.get("std") or {}
    size = about.get("pixel_size_nm")
    return Field(
        name=printable(outcome.source.name),
        table=pd.DataFrame() if table is None else table,
        shape_yx=tuple(about.get("shape_yx", (0, 0))),
        first_row=about.get("first_row", 0),
        pixel_size_nm=None if size is None else tuple(size),
        classes=_specs(outcome.record, tuple(pixels)),
        pixels=np.array(list(pixels.values()), np.int64) if pixels else None,
        std=np.array([std.get(name) for name in pixels], np.float64) if std else None,
    )


def _specs(record: Mapping[str, Any], names: tuple[str, ...]) -> tuple[ClassSpec, ...]:
    """Classes of a record with their colours."""
    colours = {spec["name"]: tuple(spec["colour"]) for spec in (record.get("model") or {}).get("classes") or ()}
    return tuple(ClassSpec(name=name, colour=colours.get(name, GREY)) for name in names)
