"""What a micrograph was before it was converted, kept in the new file so that nothing is lost."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_matseg.core.micrograph import Micrograph

FORMAT = 1


def record_of(micrograph: Micrograph) -> dict[str, Any]:
    """Give what is known of a micrograph beside its pixels, in plain JSON types."""
    about = micrograph.describe()
    kept = ("axes", "pixel_size_nm", "pixel_size_from", "data_bar_rows", "data_bar_from")
    return {
        "format": FORMAT,
        **{key: about[key] for key in kept},
        "vendor": micrograph.vendor,
        "metadata": micrograph.metadata,
    }


def restored(micrograph: Micrograph, record: Any) -> Micrograph:
    """Add what a record says; one that makes no sense, or is of something else, changes nothing.

    Parameters
    ----------
    micrograph : Micrograph
        As read from the converted file.
    record : object
        What was found in the file, which anybody may have written.
    """
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        return micrograph
    axes: Any = record.get("axes")
    size, bar = record.get("pixel_size_nm"), record.get("data_bar_rows")
    texts = [record.get(key) for key in ("pixel_size_from", "vendor")]
    bar_from: Any = record.get("data_bar_from")
    metadata: Any = record.get("metadata")
    is_right = (
        isinstance(axes, str)
        and len(axes) == len(micrograph.axes)
        and axes.isascii()
        and axes.isalpha()
        and axes.isupper()
        and len(set(axes)) == len(axes)
        and axes.endswith("YXS" if micrograph.is_colour else "YX")
        and (size is None or _are_sizes(size))
        and (bar is None or _are_rows(bar, micrograph.shape_yx[0]))
        and all(text is None or isinstance(text, str) for text in texts)
        and bar_from in (None, "record", "picture", "user")
        and (bar is None) == (bar_from is None)
        and isinstance(metadata, dict)
    )
    if not is_right:
        return micrograph
    return replace(
        micrograph,
        axes=axes,
        pixel_size_nm=None if size is None else (float(size[0]), float(size[1])),
        pixel_size_from=texts[0],
        data_bar=None if bar is None else (bar[0], bar[1]),
        data_bar_from=bar_from,
        vendor=texts[1],
        metadata=metadata,
    )


def _are_sizes(values: Any) -> bool:
    return (
        isinstance(values, list)
        and len(values) == 2
        and all(isinstance(one, int | float) and math.isfinite(one) and one > 0 for one in values)
    )


def _are_rows(values: Any, height: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == 2
        and all(type(one) is int for one in values)
        and 0 <= values[0] < values[1] <= height
    )
