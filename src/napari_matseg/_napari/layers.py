"""The only place where napari's layers and the core's types meet: pixel size, units, axes, placement, metadata.

`layer.metadata["napari_matseg"]` is a plain JSON object. An image has `kind` "image" and what its file says
(`source`, `shape`, `dtype`, `pixel_size_nm`, `data_bar_rows`, `vendor`, `instrument`); labels have `kind`
"classes" or "objects", their `classes`, `pixel_size_nm`, and the `record` of what made them. Layers that only show
something of others have a `kind` of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Layer
from napari.utils.colormaps import DirectLabelColormap

from napari_matseg._napari.lazy_stack import LazyStack
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.pixels import as_grey, has_equal_channels
from napari_matseg.core.read import read
from napari_matseg.errors import InputError
from napari_matseg.settings import ClassSpec

KEY = "napari_matseg"
OVERLAY = "overlay"
"""The `kind` of a layer that only shows something of another one."""
COUNTED = "counted_rows"
"""Of labels whose image was given another data bar after they were made: [first, end) of the rows that count."""
PLANE_AXES = "VUTZ"
"""Letters for axes before YX, the last ones first; what they mean is for the layer's axis labels to say."""
LayerData = tuple[Any, dict[str, Any], str]


def micrograph_from_layer(layer: Layer) -> Micrograph:
    """Take what a layer shows as a micrograph; nothing is copied or loaded.

    Parameters
    ----------
    layer : Image or Labels layer
        The last two axes (before that of colour) are height and width, whatever the viewer shows; those before
        are planes. Of a pyramid the full resolution is taken, and an alpha is dropped.

    Returns
    -------
    Micrograph
        Its pixel size is the layer's scale where the units are lengths, else what the file says. The data bar
        and the file itself are named only as long as the layer has the file's shape, and dtype. What is known of
        the file is what our reader kept; see `as_read` for other readers.

    Raises
    ------
    InputError
        If the layer has too many axes.
    """
    pixels = full_resolution(layer)
    colour = bool(getattr(layer, "rgb", False))
    n_planes = len(pixels.shape) - (3 if colour else 2)
    if not 0 <= n_planes <= len(PLANE_AXES):
        raise InputError(f"{layer.name}: has {len(pixels.shape)} axes; take out a single image or a stack first.")
    if colour and pixels.shape[-1] == 4:
        pixels = pixels[..., :3]
    axes = axes_of(n_planes, layer.axis_labels) + ("S" if colour else "")
    bare = Micrograph(pixels, axes, pixel_size_nm=pixel_size(layer.scale, layer.units))
    known = layer.metadata.get(KEY, {})
    return _with_file(bare, known) if known.get("kind") == "image" else bare


def as_read(micrograph: Micrograph, file: Path | None = None) -> Micrograph:
    """Make of pixels that another reader read what ours would have made of them.

    Parameters
    ----------
    micrograph : Micrograph
        Of a layer.
    file : Path, optional
        What the layer was read from, as `file_of` tells; it is opened, so not in the main thread.

    Returns
    -------
    Micrograph
        Grey that was written as colour is grey; pixel size, data bar and source are known, if the file has them.
    """
    pixels = micrograph.pixels
    if micrograph.is_colour and isinstance(pixels, np.ndarray) and has_equal_channels(pixels):
        micrograph = replace(micrograph, pixels=as_grey(pixels), axes=micrograph.axes[:-1])
    if file is None:
        return micrograph
    try:
        return _with_file(micrograph, describe(read(file)))
    except InputError:  # a format that only the other reader knows
        return micrograph


def file_of(layer: Layer) -> Path | None:
    """File that another reader made an image layer from; None if there is none, or ours did and kept what it says."""
    path = layer.source.path
    if path is None or layer.metadata.get(KEY, {}).get("kind") == "image" or not Path(path).exists():
        return None
    return Path(path)


def _with_file(micrograph: Micrograph, known: dict[str, Any]) -> Micrograph:
    """Add what a file says, as far as it is about these pixels."""
    shape = known["shape"][:-1] if known["axes"].endswith("S") else known["shape"]
    if [*micrograph.shape_planes, *micrograph.shape_yx] != list(shape):
        return micrograph
    size, bar = micrograph.pixel_size_nm or known["pixel_size_nm"], known["data_bar_rows"]
    told = size is not None and known["pixel_size_nm"] is not None and np.allclose(size, known["pixel_size_nm"])
    return replace(
        micrograph,
        pixel_size_nm=None if size is None else (float(size[0]), float(size[1])),
        pixel_size_from=known.get("pixel_size_from") if told else None,
        data_bar=None if bar is None else (int(bar[0]), int(bar[1])),
        data_bar_from=known.get("data_bar_from"),
        source=Path(known["source"]) if known["source"] and known["dtype"] == str(micrograph.pixels.dtype) else None,
        vendor=known["vendor"],
        metadata=known["instrument"],
    )


def full_resolution(layer: Layer) -> Any:
    """Array of a layer, of the finest level if it is a pyramid."""
    data = layer.data[0] if layer.multiscale else layer.data
    return data.whole if isinstance(data, LazyStack) else data


def axes_of(n_planes_axes: int, labels: Sequence[str] = ()) -> str:
    """Axes of a stack with so many axes before height and width, by their labels if these are z, t and c.

    Examples
    --------
    >>> axes_of(1), axes_of(1, ("t", "y", "x")), axes_of(2, ("-4", "-3", "-2", "-1"))
    ('ZYX', 'TYX', 'TZYX')
    """
    letters = "".join(labels[:n_planes_axes]).upper()
    if len(letters) == n_planes_axes == len(set(letters) & set("ZTC")):
        return letters + "YX"
    return PLANE_AXES[len(PLANE_AXES) - n_planes_axes :] + "YX"


def pixel_size(scale: Any, units: Any) -> tuple[float, float] | None:
    """Height and width of a pixel in nanometres by a layer's scale and (pint) units; None if these are no lengths."""
    if not all(unit.is_compatible_with("nm") for unit in units[-2:]):
        return None
    y, x = (abs(float(step)) * (1 * unit).to("nm").magnitude for step, unit in zip(scale[-2:], units[-2:], strict=True))
    return y, x


def placement(layer: Layer) -> dict[str, Any]:
    """Arguments that put another layer of the same shape exactly where this one lies."""
    return {
        "scale": tuple(layer.scale),
        "translate": tuple(layer.translate),
        "rotate": layer.rotate,
        "shear": layer.shear,
        "affine": layer.affine.affine_matrix,
        "units": tuple(str(unit) for unit in layer.units),
        "axis_labels": layer.axis_labels,
    }


def placement_of(micrograph: Micrograph) -> dict[str, Any]:
    """Arguments that place a micrograph, and what is made from it, in nanometres; in pixels if it has no size."""
    planes = len(micrograph.shape_planes)
    axis_labels = tuple(micrograph.axes.removesuffix("S").lower())
    if micrograph.pixel_size_nm is None:
        return {"axis_labels": axis_labels}
    return {
        "scale": (*[1.0] * planes, *micrograph.pixel_size_nm),
        "units": (*["pixel"] * planes, "nm", "nm"),
        "axis_labels": axis_labels,
    }


def describe(micrograph: Micrograph) -> dict[str, Any]:
    """Give what is kept with an image layer, in plain JSON types."""
    return {
        "kind": "image",
        "source": None if micrograph.source is None else str(micrograph.source),
        **micrograph.describe(),
        "vendor": micrograph.vendor,
        "instrument": micrograph.metadata,
    }


def image_layer(micrograph: Micrograph, name: str) -> LayerData:
    """Image layer of a micrograph, as a pyramid if it has levels."""
    kwargs = {"name": name, "rgb": micrograph.is_colour, "metadata": {KEY: describe(micrograph)}}
    return *_with_levels(micrograph.pixels, micrograph.levels, kwargs | placement_of(micrograph)), "image"


def classes_layer(
    classes: Any,
    specs: tuple[ClassSpec, ...],
    name: str,
    place: dict[str, Any],
    *,
    size_nm: tuple[float, float] | None = None,
    record: dict[str, Any] | None = None,
    levels: tuple[Any, ...] = (),
) -> LayerData:
    """Labels layer of classes, with their names and colours; class 0 is transparent.

    It is a pyramid if there are levels, which labels that are stored have themselves.
    """
    colours: dict[int | None, Any] = {i: (*(c / 255 for c in spec.colour), 1.0) for i, spec in enumerate(specs)}
    colours |= {0: "transparent", None: "white"}
    kept = {"classes": [spec.model_dump(mode="json") for spec in specs]}
    kwargs = {
        "name": name,
        "opacity": 0.5,
        "colormap": DirectLabelColormap(color_dict=colours),
        # napari shows these with the value under the cursor.
        "features": {"index": list(range(len(specs))), "class": [spec.name for spec in specs]},
        "metadata": {KEY: _labels_metadata("classes", size_nm, record) | kept},
    }
    return *_with_levels(classes, levels, kwargs | place), "labels"


def objects_layer(
    objects: Any,
    name: str,
    place: dict[str, Any],
    *,
    size_nm: tuple[float, float] | None = None,
    record: dict[str, Any] | None = None,
    levels: tuple[Any, ...] = (),
) -> LayerData:
    """Labels layer of objects, each with an id and a colour of its own; levels as for `classes_layer`."""
    kwargs = {"name": name, "opacity": 0.5, "metadata": {KEY: _labels_metadata("objects", size_nm, record)}}
    return *_with_levels(objects, levels, kwargs | place), "labels"


def _with_levels(pixels: Any, levels: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    levels = levels or getattr(pixels, "levels", ())
    if not levels:
        return pixels, kwargs
    whole = [pixels, *levels]
    n_planes_axes = len(pixels.shape) - 2 - bool(kwargs.get("rgb"))
    stacked = [LazyStack(level, n_planes_axes) for level in whole] if n_planes_axes else whole
    return stacked, kwargs | {"multiscale": True}


def _labels_metadata(kind: str, size_nm: tuple[float, float] | None, record: dict[str, Any] | None) -> dict[str, Any]:
    return {"kind": kind, "pixel_size_nm": None if size_nm is None else list(size_nm), "record": record}


def specs_of(metadata: dict[str, Any]) -> tuple[ClassSpec, ...] | None:
    """Classes that a layer's metadata names; None if it names none."""
    listed = metadata.get(KEY, {}).get("classes")
    return tuple(ClassSpec.model_validate(spec) for spec in listed) if listed else None


def counted_rows(layer: Layer) -> tuple[int, int] | None:
    """First row and end of what counts of a labels layer: what was segmented, less the data bar; None for all."""
    about = layer.metadata.get(KEY, {})
    rows = about.get(COUNTED) or (about.get("record") or {}).get("segmented_rows")
    return None if rows is None else (int(rows[0]), int(rows[1]))


def record_of(layer: Layer) -> dict[str, Any] | None:
    """Record of what made a labels layer; None if it is not one of ours."""
    record: dict[str, Any] | None = layer.metadata.get(KEY, {}).get("record")
    return record
